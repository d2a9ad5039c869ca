//! A real model that serves while it is refitted, for a moment; `cargo xtask bench swap` does it for a minute.

use conformance::devices;
use conformance::graphs::with_other_weights;
use conformance::models::MODELS;
use conformance::soak::{Soak, Version, soak};
use engine_builder::{BuildOptions, build};
use engine_format::{MapSource, SerializeFlags};
use engine_onnx::Model;
use engine_runtime::{LiveModule, Module, PackedModule};
use std::time::Duration;

#[test]
fn every_output_under_refits_is_that_of_one_version() {
    let model = MODELS.iter().find(|model| model.name == "minilm-l3").unwrap();
    let inputs = (model.runs)().unwrap().swap_remove(0);
    let onnx = std::fs::read(model.asset.path().unwrap()).unwrap();
    let engine_of = |onnx: &[u8]| {
        let model = Model::parse(onnx.to_vec().into(), None).unwrap();
        build(&model, &BuildOptions::default()).unwrap()
    };
    let engine = engine_of(&onnx);
    let weights = |engine: &engine_format::Engine| -> MapSource {
        let rows = engine.parts().weights.iter();
        rows.map(|weight| (weight.name.clone(), weight.tensor().unwrap())).collect()
    };
    let sets = [weights(&engine), weights(&engine_of(&with_other_weights(&onnx, &|_| true)))];
    let file = engine.serialize(SerializeFlags::default()).unwrap();
    for device in devices() {
        let live = LiveModule::load(engine.clone(), &device).unwrap();
        let packed = PackedModule::load(file.clone().into(), &device).unwrap();
        for module in [&live as &dyn Module, &packed] {
            let versions = [0, 1].map(|i| Version::of(module, &sets[i], &inputs).unwrap());
            let plan = Soak {
                threads: 3,
                every: Some(Duration::from_millis(1)),
                lasts: Duration::from_secs(2),
            };
            let soaked = soak(module, &inputs, &versions, plan);
            assert_eq!(soaked.failures, [""; 0], "{device}");
            assert!(soaked.refits.len() > 1 && soaked.runs.len() >= 3, "{soaked:?}");
            assert!(!soaked.seen.is_empty());
            // The net holds: outputs of a version that is none of these are seen.
            let unknown = soak(module, &inputs, &[], plan);
            assert!(!unknown.failures.is_empty(), "{device}");
        }
    }
}
