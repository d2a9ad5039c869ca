//! The tests of the ONNX standard, run on every runtime and held against two-way expectations.
//!
//! A case is a model with inputs and expected outputs. It passes on a runtime if every output has the expected type, shape
//! and, within the tolerance that the case has, values; on the last of them, if it keeps every promise of refit ([`promises`]). What does not pass must be listed in `conformance/expectations`
//! with a reason, and what is listed must not pass.

pub mod case;
pub mod expect;
pub mod failure;
pub mod promises;
pub mod report;
pub mod run;
pub mod value;

pub use case::{Case, Group};
pub use expect::{Expectations, Verdict};
pub use failure::{Failure, Stage};
pub use run::{Options, Outcome, Ran, Runtime, Share, run};
