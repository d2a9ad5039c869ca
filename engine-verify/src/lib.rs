//! Holds engines against the models they were built from, and against their own probes.
//!
//! [`inputs`] makes up inputs from a seed; [`verify`](mod@verify) runs an engine and its model's unoptimised graph on them and
//! compares; [`scenario`] does with modules whatever may be done with them and holds every step against fresh builds; [`gate`] does both with an
//! engine of one's own. Front ends use it to check what a user built or filled; `conformance` uses it to check refit itself.
#![forbid(unsafe_code)]

mod comparison;
pub mod gate;
pub mod inputs;
mod recipe;
pub mod scenario;
pub mod verify;

pub use comparison::{Comparison, Numbers, Worst};
pub use recipe::{Fill, Recipe};
