//! Adapters on modules that run.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::graphs::SKETCHES;
use engine_builder::{BuildOptions, Precision, build};
use engine_format::{Bytes, FitPolicy, SerializeFlags, Tensor, WeightSource};
use engine_onnx::Model;
use engine_runtime::{LiveModule, Module, PackedModule, RunOptions, Values};
use engine_verify::inputs;
use refit::{EngineSource, Lora, LoraSource};
use std::path::{Path, PathBuf};

fn adapter(folder: &Path, name: &str, of: &str, shape: [usize; 2], from: f32) -> PathBuf {
    let ramp = |shape: [usize; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| from + i as f32 / 8.0).collect();
        Tensor::from_slice(&shape, &values)
    };
    let tensors = [
        (format!("base_model.model.{of}.lora_A.weight"), ramp([2, shape[1]])),
        (format!("base_model.model.{of}.lora_B.weight"), ramp([shape[0], 2])),
    ];
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend_from_slice(tensor.bytes());
        let entry = serde_json::json!({
            "dtype": "F32", "shape": tensor.shape(), "data_offsets": [start, data.len()],
        });
        header.insert(name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), data.as_slice()].concat();
    let path = folder.join(name);
    std::fs::write(&path, file).unwrap();
    path
}

/// One adapter after another on both module paths and every device, and back to the base: only adapted weights are touched, a version is the
/// same however it was reached, and outputs are those of a fresh build.
#[test]
fn a_module_changes_adapters_and_goes_back() {
    for precision in [Precision::F32, Precision::F16, Precision::BF16] {
        changes_adapters_and_goes_back(precision);
    }
}

fn changes_adapters_and_goes_back(precision: Precision) {
    let folder = tempfile::tempdir().unwrap();
    let one = adapter(folder.path(), "one.safetensors", "fc1", [9, 6], 0.5);
    let two = adapter(folder.path(), "two.safetensors", "fc2", [9, 5], -1.0);
    let sketch = SKETCHES.iter().find(|sketch| sketch.name == "mlp").unwrap();
    let model = Model::parse((sketch.onnx)().into(), None).unwrap();
    let engine = build(&model, &BuildOptions { precision, ..BuildOptions::default() }).unwrap();
    let file = Bytes::from(engine.serialize(SerializeFlags::default()).unwrap());
    let base = || Box::new(EngineSource::new(engine.clone(), "base"));
    let with =
        |path: &Path| LoraSource::new(base(), vec![Lora::open(path, Some(0.5)).unwrap()]).unwrap();
    let whole = |path: &Path| engine.fill(&with(path), FitPolicy::default()).unwrap().version();
    let partial = FitPolicy { partial: true, ..FitPolicy::default() };
    // From one to two: what one adapted goes back to the base, what two adapts comes.
    let touched = ["fc1.weight", "fc2.weight"].map(str::to_owned);
    let sizes = inputs::Sizes::from([("batch".to_owned(), 3)]);
    let freedom = inputs::Freedom { size: 4, integers: 10 };
    let inputs =
        inputs::seeded(&engine.parts().inputs, &Values::new(), &sizes, freedom, 1).unwrap();
    for device in conformance::devices() {
        let outputs =
            |module: &dyn Module| module.run_with(&inputs, &RunOptions::default()).unwrap().tensors;
        // A fresh build with the merged weights.
        let built = |source: &dyn WeightSource| {
            let filled = engine.fill(source, FitPolicy::default()).unwrap();
            outputs(&LiveModule::load(filled, &device).unwrap())
        };
        let expected = [built(&with(&one)), built(&with(&two)), built(&*base())];
        assert!(
            expected[0] != expected[1] && expected[1] != expected[2] && expected[0] != expected[2]
        );
        let live = LiveModule::load(engine.clone(), &device).unwrap();
        let packed = PackedModule::load(file.clone(), &device).unwrap();
        for module in [&live as &dyn Module, &packed] {
            let first = with(&one);
            let names: Vec<String> = first.adapted().map(str::to_owned).collect();
            assert_eq!(names, ["fc1.weight"]);
            let version = module.refit(&first.only(names), partial).unwrap().version;
            assert_eq!(Some(version), whole(&one));
            assert!(outputs(module) == expected[0], "on {device}");
            let version = module.refit(&with(&two).only(touched.clone()), partial).unwrap().version;
            assert_eq!(Some(version), whole(&two));
            assert!(outputs(module) == expected[1], "on {device}");
            let none = LoraSource::new(base(), Vec::new()).unwrap().only(touched.clone());
            let version = module.refit(&none, partial).unwrap().version;
            assert_eq!(Some(version), engine.version(), "the base, bit for bit");
            assert!(outputs(module) == expected[2], "on {device}");
        }
    }
}
