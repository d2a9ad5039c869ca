//! The matrix sees every canary, and says where.

use conformance::canaries::CANARIES;
use conformance::matrix::sketches;
use engine_runtime::Device;

#[test]
fn every_canary_is_caught() {
    let subjects = sketches().expect("the hand-made graphs build");
    let caught = CANARIES.iter().map(|canary| {
        let caught = canary.caught(&subjects, &[Device::cpu()]).expect("the models run");
        let caught = caught.unwrap_or_else(|| panic!("{} survives: {}", canary.name, canary.fault));
        println!("{}: {}", canary.name, caught.first);
        format!("{:<28} {caught}", canary.name)
    });
    insta::assert_snapshot!(caught.collect::<Vec<_>>().join("\n"));
}
