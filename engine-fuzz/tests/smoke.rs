//! Some cases of every target, the same on every machine.

use engine_fuzz::{TARGETS, Target, watch};

/// Cases of each target.
const CASES: u64 = 100;

/// What is found in the first cases of a target, by index.
fn found(target: &Target, cases: u64) -> Vec<String> {
    let run = |index| {
        let ended = watch::run(target, &target.case(0, index));
        ended.err().map(|why| format!("{} case {index}: {why}", target.name))
    };
    (0..cases).filter_map(run).collect()
}

#[test]
fn no_target_finds_anything() {
    // One after the other: the words of a panic are kept for the whole process.
    let found: Vec<String> = TARGETS.iter().flat_map(|target| found(target, CASES)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_case_is_the_same_each_time_and_another_than_the_next() {
    for target in TARGETS {
        assert_eq!(target.case(3, 5), target.case(3, 5));
        assert_ne!(target.case(3, 5), target.case(3, 6));
        assert_ne!(target.case(3, 5), target.case(4, 5));
    }
}
