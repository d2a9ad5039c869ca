//! The matrix sees every canary, and says where.

use conformance::canaries::CANARIES;
use conformance::graphs::{SKETCHES, with_other_weights};
use conformance::matrix::sketches;
use conformance::parallel;
use engine_builder::{BuildOptions, build};
use engine_format::FitPolicy;
use engine_onnx::Model;
use engine_runtime::Device;
use engine_verify::gate::{Gate, GateError};
use refit::OnnxSource;

#[test]
fn every_canary_is_caught() {
    let subjects = sketches().expect("the hand-made graphs build");
    let caught = parallel::map(&CANARIES, |canary| {
        let caught = canary.caught(&subjects, &[Device::cpu()]);
        caught.map_err(|error| format!("{}: {error}", canary.name))
    });
    let lines = CANARIES.iter().zip(caught).map(|(canary, caught)| {
        let caught = caught.expect("the models run");
        let caught = caught.unwrap_or_else(|| panic!("{} survives: {}", canary.name, canary.fault));
        println!("{}: {}", canary.name, caught.first);
        format!("{:<28} {caught}", canary.name)
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

/// A gate of the hand-made model with this name.
fn gate(name: &str) -> Result<Gate, Box<dyn std::error::Error>> {
    let sketch = SKETCHES.iter().find(|sketch| sketch.name == name).ok_or("there is one")?;
    let onnx = (sketch.onnx)();
    let other = with_other_weights(&onnx, &|_| true);
    let [model, other] = [Model::parse(onnx.into(), None)?, Model::parse(other.into(), None)?];
    let engine = build(&model, &BuildOptions::default())?;
    let [a, b] = [&model, &other].map(|model| OnnxSource::new(model, "the model"));
    Ok(Gate::new(&engine, &model, [&a, &b], FitPolicy::default())?)
}

/// What a gate of one engine cannot see is what takes an engine that accepts no other weights.
#[test]
fn a_gate_sees_every_canary_but_one() {
    let gates = ["mlp", "shared", "conv"].map(|name| gate(name).unwrap());
    for gate in &gates {
        let report = gate.hold(&[Device::cpu()]).unwrap();
        assert!(report.passed(), "{report}");
    }
    let is_seen = |stack: &dyn engine_verify::scenario::Stack, gate: &Gate| match gate
        .hold_through(&[Device::cpu()], stack)
    {
        Ok(report) => !report.passed(),
        Err(error) => matches!(error, GateError::Format(_)),
    };
    let passed = CANARIES.iter().filter(|canary| {
        let stack = canary.stack();
        !gates.iter().any(|gate| is_seen(&*stack, gate))
    });
    let passed: Vec<_> = passed.map(|canary| canary.name).collect();
    assert_eq!(passed, ["unchecked digests"]);
}
