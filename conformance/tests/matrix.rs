//! The flag matrix as a test: its tables are snapshots that a person can read.

use conformance::matrix::{LEGEND, SCENARIO_LEGEND, evaluate, scenarios, subjects};
use engine_verify::scenario::ThisStack;

#[test]
fn every_flag_every_wish_every_path_every_device() {
    let devices = conformance::devices();
    let mut table = format!("{LEGEND}\n");
    let mut failures = Vec::new();
    for subject in subjects().expect("the models are fetched or made") {
        let outcome = evaluate(&subject, &devices, &ThisStack)
            .unwrap_or_else(|e| panic!("{}: {e}", subject.name));
        table = format!("{table}\n{}", outcome.table);
        failures.extend(outcome.failures.iter().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "{} checks failed:\n{}", failures.len(), failures.join("\n"));
    insta::assert_snapshot!(table);
}

#[test]
fn what_every_scenario_gives() {
    insta::assert_snapshot!(format!("{SCENARIO_LEGEND}\n\n{}", scenarios()));
}
