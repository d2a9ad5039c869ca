//! The flag matrix as a test: its tables are snapshots that a person can read.

use conformance::matrix::{LEGEND, SCENARIO_LEGEND, Subject, evaluate, scenarios, subjects};
use conformance::parallel;
use engine_verify::scenario::ThisStack;

#[test]
fn every_flag_every_option_every_path_every_device() {
    let devices = conformance::devices();
    let mut table = format!("{LEGEND}\n");
    let mut failures = Vec::new();
    let subjects = subjects().expect("the models are fetched or made");
    // The largest take longest and come first.
    let last_first: Vec<_> = subjects.iter().rev().collect();
    let evaluated = |subject: &&Subject| {
        let outcome = evaluate(subject, &devices, &ThisStack);
        outcome.map_err(|error| format!("{}: {error}", subject.name))
    };
    let outcomes = parallel::map(&last_first, evaluated);
    for outcome in outcomes.into_iter().rev() {
        let outcome = outcome.expect("the models build and run");
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
