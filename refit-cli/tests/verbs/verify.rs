//! What `verify` proves, and what it does not.

use crate::common::{Folder, sketch};
use conformance::graphs::with_initializer;
use engine_format::Tensor;

/// The folder with an engine whose last weight has so many elements that are no number, and the model of it.
fn with_nan(count: Option<usize>) -> Folder {
    let folder = Folder::built();
    let engine = refit::open_engine(&folder.at("full")).unwrap();
    let weight = engine.weight("fc2.weight").unwrap().tensor().unwrap();
    let count = count.unwrap_or(weight.len());
    let values: Vec<f32> =
        (0..weight.len()).map(|i| if i < count { f32::NAN } else { 0.5 }).collect();
    let weight = Tensor::from_slice(weight.shape(), &values);
    std::fs::write(folder.at("nan.onnx"), with_initializer(&sketch("mlp"), "fc2.weight", &weight))
        .unwrap();
    folder.ok(&["build", "nan.onnx", "-o", "nan"]);
    folder
}

const VERIFY: [&str; 6] = ["verify", "nan", "--onnx", "nan.onnx", "--device", "cpu"];

#[test]
fn outputs_without_a_number_prove_nothing() {
    let folder = with_nan(None);
    let object = folder.object(1, &[&VERIFY[..], &["--json"]].concat());
    for compared in object["compared"].as_array().unwrap() {
        assert!(compared["agrees"].is_null(), "{compared}");
        assert!(compared["message"].as_str().unwrap().contains("UNPROVEN"), "{compared}");
    }
    let said = folder.fails(1, &VERIFY);
    assert!(said.contains("unproven") && said.contains("--input"), "{said}");
    folder.fails(
        1,
        &[
            "fill",
            "stripped",
            "--weights",
            "nan.onnx",
            "-o",
            "x",
            "--verify",
            "--onnx",
            "nan.onnx",
            "--device",
            "cpu",
        ],
    );
    assert!(!folder.at("x").exists());
}

/// An engine that rounds its weights is held to what rounding changes, and the error is said.
#[test]
fn rounded_weights_are_held_to_their_precision() {
    let folder = Folder::built();
    for (precision, flag) in [("f16", "F16"), ("bf16", "BF16")] {
        folder.ok(&["build", "model.onnx", "-o", "e", "--precision", precision, "--probe", "1"]);
        let inspected = folder.object(0, &["inspect", "e", "--json"]);
        assert_eq!(inspected["flags"], serde_json::json!(["REFIT", flag]));
        for against in [&["--onnx", "model.onnx"][..], &[]] {
            let verify = [&["verify", "e", "--device", "cpu", "--json"], against].concat();
            let compared = folder.object(0, &verify);
            let far = compared["compared"][0]["max_abs"].as_f64().unwrap();
            assert!(far > 1e-6, "{precision}: weights are not rounded: {far}");
        }
        folder.ok(&["strip", "e", "-o", "s"]);
        folder.ok(&[
            "fill",
            "s",
            "--weights",
            "model.onnx",
            "-o",
            "f",
            "--verify",
            "--onnx",
            "model.onnx",
        ]);
        let filled = folder.object(0, &["inspect", "f", "--json"]);
        assert_eq!(filled["version"], inspected["version"]);
    }
}

#[test]
fn elements_that_are_no_number_are_counted() {
    let folder = with_nan(Some(1));
    let said = folder.ok(&VERIFY).0;
    assert!(said.contains("agrees") && said.contains("NaN in both, and unproven"), "{said}");
    let without = with_nan(Some(0)).ok(&VERIFY).0;
    assert!(!without.contains("NaN"), "{without}");
}
