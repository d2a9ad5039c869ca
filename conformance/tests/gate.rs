//! The release gate on a real model: it passes, and faults that are put into this stack are found and named by their scenarios.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::canaries::CANARIES;
use conformance::graphs::with_other_weights;
use conformance::models::MODELS;
use engine_builder::{BuildOptions, build};
use engine_format::FitPolicy;
use engine_onnx::Model;
use engine_runtime::Device;
use engine_verify::Recipe;
use engine_verify::gate::{Gate, InputSet};
use refit::OnnxSource;

/// A gate of a real model with its own weights and others, on its first input.
fn gate(name: &str) -> Gate {
    let case = MODELS.iter().find(|case| case.name == name).unwrap();
    let onnx = std::fs::read(case.asset.path().unwrap()).unwrap();
    let parse = |onnx: Vec<u8>| Model::parse(onnx.into(), None).unwrap();
    let model = parse(onnx.clone());
    let engine = build(&model, &BuildOptions::default()).unwrap();
    // Sizes are no weights.
    let is_weight = |name: &str| engine.parts().weights.iter().any(|weight| weight.name == name);
    let tuned = parse(with_other_weights(&onnx, &is_weight));
    let [a, b] = [&model, &tuned].map(|model| OnnxSource::new(model, "the model"));
    let given = (case.runs)().unwrap().swap_remove(0);
    let given = given.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
    let inputs = InputSet { name: "the first".to_owned(), given, recipe: Recipe::seeded(1) };
    Gate::new(&engine, &model, [&a, &b], FitPolicy::default()).unwrap().with_inputs(vec![inputs])
}

#[test]
fn a_real_model_passes_and_a_fault_in_the_stack_is_named() {
    let gate = gate("silero-vad-ifless");
    let report = gate.hold(&[Device::cpu()]).unwrap();
    assert!(report.passed(), "{report}");
    for (fault, scenario) in [("second refit lost", "back"), ("wrong rollback", "rollback")] {
        let canary = CANARIES.iter().find(|canary| canary.name == fault).unwrap();
        let report = gate.hold_through(&[Device::cpu()], &*canary.stack()).unwrap();
        assert!(!report.passed(), "{fault}");
        let found = report.devices[0].scenarios.iter().filter(|held| held.problem.is_some());
        let found: Vec<_> = found.map(|held| held.scenario).collect();
        assert!(found.contains(&scenario), "{fault}: {found:?}");
        let said = report.to_string();
        assert!(said.contains(&format!("cpu: {scenario}, ")), "{fault}: {said}");
    }
}
