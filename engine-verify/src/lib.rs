//! Holds engines against the models they were built from, and against their own probes.
//!
//! [`inputs`] makes up inputs from a seed; [`verify`](mod@verify) runs an engine and its model's unoptimised graph on them and
//! compares; [`scenario`] does with modules whatever may be done with them and holds every step against fresh builds; [`gate`] does both with an
//! engine of one's own. Front ends use it to check what a user built or filled; `conformance` uses it to check refit itself. What refits
//! a module while another thread runs it and takes times (`scenario`, `gate`) is not there in `wasm32-unknown-unknown`, which has neither
//! threads nor a clock.
#![forbid(unsafe_code)]

mod comparison;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod gate;
pub mod inputs;
mod recipe;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod scenario;
pub mod verify;

pub use comparison::{Comparison, Numbers, Worst};
pub use recipe::{Fill, Recipe};
