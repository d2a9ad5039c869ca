//! The release gate.

use crate::common::{Folder, sketch};
use conformance::assets;
use conformance::graphs::{with_exchanged_weights, with_initializer, with_other_weights};
use engine_format::{Tensor, WeightClass};
use serde_json::Value;
use std::collections::BTreeSet;

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

/// A reader of text that is released, and one whose compiler put two filters of one shape in each other's place.
#[test]
fn a_real_model_passes_and_one_with_exchanged_weights_does_not() {
    let folder = Folder::new();
    let onnx = std::fs::read(assets::TINYOCR_REC.path().unwrap()).unwrap();
    let file = |name: &str, bytes: &[u8]| std::fs::write(folder.at(name), bytes).unwrap();
    file("model.onnx", &onnx);
    file("exchanged.onnx", &with_exchanged_weights(&onnx).unwrap());
    folder.ok(&["build", "model.onnx", "-o", "sound.engine"]);
    // Sizes are no weights.
    let weights = learned(&folder, "sound.engine");
    let is_weight = |name: &str| weights.iter().any(|(weight, _)| weight == name);
    file("tuned.onnx", &with_other_weights(&onnx, &is_weight));
    folder.ok(&["build", "exchanged.onnx", "-o", "faulty.engine"]);
    let run = |engine: &str| {
        let (file, report) = (format!("{engine}.engine"), format!("{engine}.report"));
        folder.run(&gate(
            &file,
            &[&SETS[..], &["--shape", "x=1x3x48x64", "--report", &report]].concat(),
        ))
    };
    let (sound, faulty) = (run("sound"), run("faulty"));
    let said = String::from_utf8(faulty.stdout).unwrap();
    assert_eq!((sound.status.code(), faulty.status.code()), (Some(0), Some(1)), "{said}");
    let outputs = |engine: &str, is_wrong: bool| -> BTreeSet<String> {
        let text =
            std::fs::read_to_string(folder.at(&format!("{engine}.report/report.json"))).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let outputs = report["devices"][0]["outputs"].as_array().unwrap();
        let wrong = outputs.iter().filter(|output| output["problem"].is_string() == is_wrong);
        wrong.map(|output| output["output"].as_str().unwrap().to_owned()).collect()
    };
    assert!(outputs("sound", true).is_empty());
    let wrong = outputs("faulty", true);
    assert!(!wrong.is_empty());
    for output in wrong {
        let named = |line: &str| line.contains("FAILED") && line.contains(&output);
        assert!(said.lines().any(named), "{output}: {said}");
    }
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

/// The distinct texts under a key of the outputs that were compared.
fn texts(report: &Value, key: &str) -> BTreeSet<String> {
    let outputs = report["devices"][0]["outputs"].as_array().unwrap();
    outputs.iter().map(|output| output[key].as_str().unwrap().to_owned()).collect()
}

#[test]
fn outputs_are_compared_on_every_file_of_inputs() {
    let folder = built();
    for (file, batch) in [("one.npz", 1), ("three.safetensors", 3)] {
        let values: Vec<f32> = (0..6 * batch).map(|i| i as f32 / 4.0 - 1.0).collect();
        folder.write(file, &[("x", Tensor::from_slice(&[batch, 6], &values))]);
    }
    let inputs = ["--inputs", "one.npz", "--inputs", "three.safetensors", "--report", "out"];
    let report = folder.json(&gate("full", &[&SETS[..], &inputs, &["--json"]].concat()));
    assert_eq!(
        texts(&report, "inputs"),
        ["one.npz", "three.safetensors"].map(str::to_owned).into()
    );
    assert_eq!(report["made_up"], serde_json::json!([]));
    for output in report["devices"][0]["outputs"].as_array().unwrap() {
        let histogram = output["histogram"].as_array().unwrap();
        let counted: u64 = histogram.iter().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted % 5, 0, "all elements of an output of five columns: {output}");
        assert!(counted > 0);
    }
    let html = std::fs::read_to_string(folder.at("out/index.html")).unwrap();
    assert!(html.contains("three.safetensors") && html.contains("<rect"), "{html}");
    folder.write("wrong.npz", &[("z", Tensor::from_slice(&[1], &[1.0f32]))]);
    folder.fails(2, &gate("full", &[&SETS[..], &["--inputs", "wrong.npz"]].concat()));
}

#[test]
fn times_are_held_against_a_report_of_before() {
    let folder = built();
    let reported = ["--report", "before"];
    folder.ok(&gate("full", &[&SETS[..], &reported].concat()));
    let against = |report: &'static str, slowdown: &'static str| {
        gate("full", &[&SETS[..], &["--baseline", report, "--max-slowdown", slowdown]].concat())
    };
    let said = folder.ok(&against("before/report.json", "1e9")).0;
    assert!(said.contains("before"), "{said}");
    let text = std::fs::read_to_string(folder.at("before/report.json")).unwrap();
    let mut report: Value = serde_json::from_str(&text).unwrap();
    report["devices"][0]["times"]["run_ms"] = serde_json::json!([1e-12]);
    std::fs::write(folder.at("faster.json"), report.to_string()).unwrap();
    let output = folder.run(&against("faster.json", "2"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("times as long"), "{said}");
    report["devices"] = serde_json::json!([]);
    std::fs::write(folder.at("elsewhere.json"), report.to_string()).unwrap();
    folder.fails(1, &against("elsewhere.json", "1e9"));
    folder.fails(3, &against("model.onnx", "2"));
    folder.fails(2, &gate("full", &[&SETS[..], &["--max-slowdown", "2"]].concat()));
}

#[test]
fn models_are_held_against_onnxruntime() {
    let folder = built();
    let packages = assets::oracle_packages().unwrap();
    let run = |engine: &str| {
        let mut command =
            folder.command(&gate(engine, &[&SETS[..], &["--oracle", "ort", "--json"]].concat()));
        command.env("REFIT_PYTHON", assets::python()).env("PYTHONPATH", &packages);
        command.output().unwrap()
    };
    let output = run("full");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let against = texts(&report, "against");
    assert!(against.iter().any(|who| who.contains("ONNX Runtime")), "{against:?}");
    assert_eq!(against.len(), 3, "the graph, and each of the two models: {against:?}");
    folder.ok(&["extract", "full", "-o", "a.npz"]);
    let no_model = ["--weights", "a.npz", "--weights", "a.npz", "--oracle", "ort"];
    folder.fails(2, &gate("full", &no_model));
}
