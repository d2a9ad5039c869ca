//! An engine's outputs against others.

use crate::common::{Folder, sketch};
use conformance::assets;
use conformance::graphs::with_other_weights;
use engine_format::Tensor;
use serde_json::Value;

const COMPARE: [&str; 5] = ["compare", "full", "--device", "cpu", "--with"];

fn with_other() -> Folder {
    let folder = Folder::built();
    let other = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(folder.at("other.onnx"), other).unwrap();
    folder.ok(&["fill", "stripped", "--weights", "other.onnx", "-o", "other"]);
    folder
}

#[test]
fn an_engine_is_held_against_models_and_engines() {
    let folder = with_other();
    let with = |what: &str, more: &[&str]| [&COMPARE[..], &[what], more].concat().join(" ");
    let run = |code: i32, line: String| {
        let arguments: Vec<&str> = line.split(' ').collect();
        folder.object(code, &[&arguments[..], &["--json"]].concat())
    };
    for same in ["onnx:model.onnx", "model.onnx", "full", "frozen"] {
        let report = run(0, with(same, &[]));
        let one = &report["outputs"][0];
        assert_eq!((&one["output"], &one["agrees"]), (&"y".into(), &true.into()), "{same}");
        assert_eq!(one["differing"], 0);
    }
    for different in ["onnx:other.onnx", "other"] {
        let report = run(1, with(different, &[]));
        assert_eq!(report["error"]["class"], "different", "{different}");
        let one = &report["outputs"][0];
        assert_eq!(one["agrees"], false);
        let worst = &one["worst"];
        let difference = worst["found"].as_f64().unwrap() - worst["expected"].as_f64().unwrap();
        assert_eq!(difference.abs(), one["max_abs"].as_f64().unwrap());
        assert_eq!(worst["index"].as_array().unwrap().len(), 2);
    }
    // What is allowed decides.
    run(0, with("other", &["--max-diff", "1e9"]));
    run(0, with("other", &["--atol", "1e9"]));
    run(1, with("other", &["--atol", "0", "--rtol", "0"]));
    run(0, with("full", &["--max-diff", "0"]));
    run(2, with("other", &["--max-diff", "1", "--rtol", "1"]));
    run(2, with("other", &["--max-diff", "-1"]));
    // Weights go into both if both lack them.
    let line = "compare stripped --device cpu --weights other.onnx --with".to_owned();
    run(0, format!("{line} stripped"));
    run(0, format!("{line} other"));
    run(0, format!("{line} onnx:model.onnx"));
    run(1, format!("{line} full"));
    run(4, "compare stripped --device cpu --with full".to_owned());
}

#[test]
fn an_engine_is_held_against_what_a_file_has() {
    let folder = Folder::built();
    folder.ok(&["run", "full", "--device", "cpu", "--out", "kept.npz", "--seed", "5"]);
    let with = |file: &str, seed: &str| [&COMPARE[..], &[file, "--seed", seed]].concat().join(" ");
    let run = |code: i32, line: String| {
        folder.object(code, &line.split(' ').chain(["--json"]).collect::<Vec<_>>())
    };
    run(0, with("kept.npz", "5"));
    run(1, with("kept.npz", "6"));
    let source = refit::open_source(&folder.at("kept.npz")).unwrap();
    let y = source.read("y").unwrap().unwrap();
    let mut values = y.as_slice::<f32>().unwrap().to_vec();
    values[3] = f32::NAN;
    let broken = Tensor::from_slice(y.shape(), &values);
    folder.write("nan.safetensors", &[("y", broken.clone()), ("x", y.clone())]);
    let report = run(1, with("nan.safetensors", "5"));
    let one = &report["outputs"][0];
    assert_eq!((&one["nan_found"], &one["nan_expected"]), (&0.into(), &1.into()));
    assert_eq!(one["worst"]["index"], serde_json::json!([0, 3]));
    let flat = y.reshaped(&[5]).unwrap();
    folder.write("flat.npz", &[("y", flat)]);
    let report = run(1, with("flat.npz", "5"));
    assert_eq!(
        (&report["outputs"][0]["differing"], &report["outputs"][0]["expected"]),
        (&Value::Null, &"f32[5]".into())
    );
    folder.write("stranger.npz", &[("z", y)]);
    let error = run(2, with("stranger.npz", "5"));
    assert!(error["error"]["message"].as_str().unwrap().contains("the engine has y"), "{error}");

    let output = folder.run(&with("nan.safetensors", "5").split(' ').collect::<Vec<_>>());
    let (said, beside) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let line = said.lines().last().unwrap();
    for part in ["y ", "f32[1, 5]", "DIFFERENT", "0 | 1", "[0, 3]"] {
        assert!(line.contains(part), "{part}: {said}");
    }
    assert!(
        beside.contains("no outputs: x") && beside.contains("1 of 1 outputs differ"),
        "{beside}"
    );
}

/// The Python that is asked has no ONNX Runtime, or is none.
#[test]
fn without_onnxruntime_it_says_so() {
    let folder = Folder::built();
    let with = |python: &std::path::Path| {
        let mut command = folder.command(&[&COMPARE[..], &["ort:model.onnx"]].concat());
        let output = command.env("REFIT_PYTHON", python).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = with(&folder.at("no python"));
    assert!(
        code == Some(3) && said.contains("no python") && said.contains("REFIT_PYTHON"),
        "{said}"
    );
    #[cfg(unix)]
    for (ends, part) in [(9, "no ONNX Runtime"), (1, "running model.onnx in ONNX Runtime")] {
        use std::os::unix::fs::PermissionsExt;
        let script = format!("#!/bin/sh\necho 'no module' >&2\nexit {ends}\n");
        std::fs::write(folder.at("python"), script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.at("python"), mode).unwrap();
        let (code, said) = with(&folder.at("python"));
        assert!(code == Some(3) && said.contains("no module") && said.contains(part), "{said}");
    }
}

/// ONNX Runtime as the oracle of models has it.
#[test]
fn an_engine_is_held_against_onnxruntime() {
    let packages = assets::oracle_packages().unwrap();
    let folder = with_other();
    for (model, code) in [("ort:model.onnx", 0), ("ort:other.onnx", 1)] {
        let mut command = folder.command(&[&COMPARE[..], &[model, "--json"]].concat());
        command.env("REFIT_PYTHON", assets::python()).env("PYTHONPATH", &packages);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{model}: {said}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["with"].as_str().unwrap().contains("ONNX Runtime"), "{report}");
        assert_eq!(report["outputs"].as_array().unwrap().len(), 1);
    }
}
