//! The program refit: build, inspect, strip, fill, check, extract, run, verify, diff, bench.
fn main() {}
