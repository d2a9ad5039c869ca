//! Engines that round their weights: what they compute, and that refits keep every promise.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::generate::{image_model, row_model};
use conformance::graphs::{SKETCHES, with_initializer};
use conformance::oracle::Tensors;
use conformance::proof::prove_in;
use engine_builder::{BuildOptions, Precision, build};
use engine_format::{DType, Engine, Tensor};
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_runtime::{Device, LiveModule, Module, Values};
use engine_verify::inputs::{Freedom, Sizes, all_tensors, seeded};
use half::{bf16, f16};

/// Precisions, what they round to, and what that may change beside the largest element: 16 units in the last place.
const PRECISIONS: [(Precision, DType, f64); 2] =
    [(Precision::F16, DType::F16, 16.0 / 2048.0), (Precision::BF16, DType::BF16, 16.0 / 256.0)];

fn engine(onnx: &[u8], options: &BuildOptions) -> Engine {
    build(&Model::parse(onnx.to_vec().into(), None).unwrap(), options).unwrap()
}

fn made_up(onnx: &[u8]) -> Tensors {
    let sizes = Sizes::from([("n".to_owned(), 3)]);
    let inputs = &engine(onnx, &BuildOptions::default()).parts().inputs.clone();
    let made = seeded(inputs, &Values::new(), &sizes, Freedom::ATTEMPTS[0], 7);
    all_tensors(made.unwrap()).expect("these models take tensors")
}

fn outputs(engine: Engine, device: &Device, inputs: &Tensors) -> Tensors {
    LiveModule::load(engine, device).unwrap().run(inputs).unwrap().tensors
}

fn rounded(tensor: &Tensor, to: DType) -> Tensor {
    let round = |&x: &f32| match to {
        DType::F16 => f16::from_f32(x).to_f32(),
        _ => bf16::from_f32(x).to_f32(),
    };
    let values: Vec<f32> = tensor.as_slice::<f32>().unwrap().iter().map(round).collect();
    Tensor::from_slice(tensor.shape(), &values)
}

/// Weights of products that were rounded before and products that round them give the same bits: nothing else is rounded, and sums are
/// `f32`. Both graphs are as they were imported, so that no factor went into a weight.
#[test]
fn rounding_weights_is_all_that_there_is() {
    for name in ["mlp", "conv", "blocked"] {
        let sketch = SKETCHES.iter().find(|sketch| sketch.name == name).unwrap();
        let onnx = (sketch.onnx)();
        let inputs = made_up(&onnx);
        for (precision, to, _) in PRECISIONS {
            let plain = BuildOptions { optimise: false, ..BuildOptions::default() };
            let mut before = onnx.clone();
            for weight in &engine(&onnx, &plain).parts().weights {
                // Vectors and scalars are biases and factors.
                if weight.dtype == DType::F32 && weight.shape.len() > 1 {
                    let tensor = rounded(&weight.tensor().unwrap(), to);
                    before = with_initializer(&before, &weight.name, &tensor);
                }
            }
            assert_ne!(before, onnx, "{name}: no weight is changed by rounding it");
            for device in conformance::devices() {
                let expected = outputs(engine(&before, &plain), &device, &inputs);
                let rounds = BuildOptions { precision, ..plain.clone() };
                let found = outputs(engine(&onnx, &rounds), &device, &inputs);
                assert_eq!(found, expected, "{name} in {to} on {device}");
            }
        }
    }
}

#[test]
fn small_models_keep_every_promise() {
    let sketches = SKETCHES.iter().map(|sketch| (sketch.name.to_owned(), (sketch.onnx)()));
    let rows = [&[3, 4, 8][..], &[0, 1, 2, 5, 9], &[7, 6, 3]]
        .map(|steps| (format!("rows {steps:?}"), row_model(steps)));
    let images = [&[0, 2, 0][..], &[1, 3, 5, 9], &[4, 6, 7, 8]]
        .map(|steps| (format!("images {steps:?}"), image_model(steps)));
    for (name, onnx) in sketches.chain(rows).chain(images) {
        // Weights of 8 bits decide by their last bit which code a value becomes.
        if name == "quantised" {
            continue;
        }
        let inputs = made_up(&onnx);
        for (precision, to, most) in PRECISIONS {
            let tolerance = Tolerance { atol: most, rtol: most };
            let proof = prove_in(precision, &onnx, &inputs, &conformance::devices(), tolerance);
            proof.unwrap_or_else(|broken| panic!("{name} in {to}: {broken}"));
        }
    }
}
