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

#[test]
fn elements_that_are_no_number_are_counted() {
    let folder = with_nan(Some(1));
    let said = folder.ok(&VERIFY).0;
    assert!(said.contains("agrees") && said.contains("NaN in both, and unproven"), "{said}");
    let without = with_nan(Some(0)).ok(&VERIFY).0;
    assert!(!without.contains("NaN"), "{without}");
}
