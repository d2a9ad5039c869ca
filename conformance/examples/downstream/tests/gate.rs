//! The release gate of a crate that ships an engine: its model, the engine that was built from it, today's weights and yesterday's.

use conformance::graphs::{SKETCHES, with_other_weights};
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, FitPolicy};
use engine_onnx::Model;
use engine_runtime::Device;
use engine_verify::gate::Gate;
use refit::OnnxSource;

/// What such a crate has in files: the model, its engine, and two sets of weights.
fn released() -> Result<(Model, Engine, [OnnxSource; 2]), Box<dyn std::error::Error>> {
    let onnx = (SKETCHES[0].onnx)();
    let tuned = with_other_weights(&onnx, &|_| true);
    let [model, tuned] = [Model::parse(onnx.into(), None)?, Model::parse(tuned.into(), None)?];
    let engine = build(&model, &BuildOptions::default())?;
    let weights = [OnnxSource::new(&model, "today's"), OnnxSource::new(&tuned, "yesterday's")];
    Ok((model, engine, weights))
}

#[test]
fn the_engine_keeps_every_promise() {
    let (model, engine, [a, b]) = released().unwrap();
    let gate = Gate::new(&engine, &model, [&a, &b], FitPolicy::default()).unwrap();
    let report = gate.hold(&[Device::cpu()]).unwrap();
    assert!(report.passed(), "{report}");
}
