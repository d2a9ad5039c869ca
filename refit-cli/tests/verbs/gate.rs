//! The release gate.

use crate::common::{Folder, sketch};
use conformance::graphs::{with_initializer, with_other_weights};
use engine_format::{Tensor, WeightClass};
use serde_json::Value;

/// With two sets of weights.
fn built() -> Folder {
    let folder = Folder::built();
    let tuned = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(folder.at("tuned.onnx"), tuned).unwrap();
    folder
}

const SETS: [&str; 4] = ["--weights", "model.onnx", "--weights", "tuned.onnx"];

fn gate<'a>(engine: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["gate", engine, "--onnx", "model.onnx", "--device", "cpu"][..], more].concat()
}

#[test]
fn an_engine_that_keeps_every_promise_passes() {
    let folder = built();
    for engine in ["full", "stripped"] {
        let said = folder.ok(&gate(engine, &[&SETS[..], &["--report", "out"]].concat())).0;
        assert!(said.contains("checks hold") && !said.contains("FAILED"), "{said}");
        let file = |name: &str| std::fs::read_to_string(folder.at("out").join(name)).unwrap();
        let report: Value = serde_json::from_str(&file("report.json")).unwrap();
        let on = &report["devices"][0];
        let scenarios = on["scenarios"].as_array().unwrap();
        assert!(scenarios.iter().all(|held| held["problem"].is_null()), "{scenarios:#?}");
        for file in ["full", "stripped"] {
            for path in ["live", "packed"] {
                let of = |held: &&Value| held["file"] == file && held["path"] == path;
                assert_eq!(scenarios.iter().filter(of).count(), scenarios.len() / 4);
            }
        }
        assert_eq!(on["outputs"].as_array().unwrap().len(), 2);
        assert!(on["times"]["run_ms"].as_array().unwrap().len() > 1);
        let cases = 1 + scenarios.len() + 2;
        let junit = file("junit.xml");
        assert_eq!(junit.matches("<testcase ").count(), cases, "{junit}");
        assert!(!junit.contains("<failure"), "{junit}");
        let html = file("index.html");
        assert!(html.contains(&format!("All {cases} checks hold")), "{html}");
        assert!(!html.contains("<script") && !html.contains("http"), "it needs nothing else");
    }
}

/// The weights of an engine without its parameters.
fn learned(folder: &Folder, engine: &str) -> Vec<(String, Tensor)> {
    let engine = refit::open_engine(&folder.at(engine)).unwrap();
    let rows = engine.parts().weights.iter().filter(|row| row.class == WeightClass::Weight);
    rows.map(|row| (row.name.clone(), row.tensor().unwrap())).collect()
}

#[test]
fn an_engine_of_another_model_is_found() {
    let folder = built();
    folder.ok(&["build", "tuned.onnx", "-o", "tuned"]);
    for (engine, file) in [("full", "a.safetensors"), ("tuned", "b.safetensors")] {
        let tensors = learned(&folder, engine);
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        folder.write(file, &tensors);
    }
    let half = with_initializer(&sketch("mlp"), "val_9", &Tensor::from_slice(&[], &[0.25f32]));
    std::fs::write(folder.at("half.onnx"), half).unwrap();
    folder.ok(&["build", "half.onnx", "-o", "half"]);
    let sets = ["--weights", "a.safetensors", "--weights", "b.safetensors"];
    folder.ok(&gate("full", &sets));
    let object = folder.object(1, &gate("half", &[&sets[..], &["--json"]].concat()));
    assert_eq!(object["error"]["class"], "different");
    let on = &object["devices"][0];
    assert!(on["outputs"].as_array().unwrap().iter().all(|o| o["problem"].is_string()), "{on}");
    assert!(on["scenarios"].as_array().unwrap().iter().all(|s| s["problem"].is_null()), "{on}");
}

#[test]
fn limits_take_the_place_of_the_tolerance() {
    let folder = built();
    let with = |limits: &[&'static str]| gate("full", &[&SETS[..], limits].concat());
    folder.ok(&with(&["--max-diff", "1e-4", "--cosine", "0.9999"]));
    let said = folder.run(&with(&["--cosine", "1.5"]));
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("FAILED") && said.contains("expected at least 1.5"), "{said}");
    folder.fails(1, &with(&["--max-diff=-1"]));
}

#[test]
fn what_cannot_be_gated_is_refused() {
    let folder = built();
    folder.fails(2, &gate("full", &SETS[..2]));
    folder.fails(2, &gate("full", &[&SETS[..2], &SETS[..2]].concat()));
    folder.fails(4, &gate("frozen", &SETS));
    folder.ok(&["build", "model.onnx", "-o", "identical", "--refit", "identical"]);
    folder.fails(4, &gate("identical", &SETS));
    folder.write("unfit.safetensors", &[("fc1.weight", Tensor::from_slice(&[1], &[1.0f32]))]);
    folder.fails(4, &gate("full", &[&SETS[..2], &["--weights", "unfit.safetensors"]].concat()));
}
