//! Chores of this repository: demo, test, conformance.
fn main() {}
