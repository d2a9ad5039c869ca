//! What each verb does, and what all of them have in common.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod compare;
mod convert;
#[cfg(unix)]
mod faults;
mod gate;
mod graph;
mod inputs;
mod manners;
mod verify;
