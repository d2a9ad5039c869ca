//! What all verbs have in common: one object under `--json`, errors of one shape, exit codes, how much is said.

use crate::common::{Folder, sketch};
use conformance::graphs::with_other_weights;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The keys of each verb's object, as `docs/JSON.md` lists them: those that are in code in a row whose first cell is a verb in code.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../docs/JSON.md");
    let code = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let rows = text.lines().filter_map(|line| {
        let (verb, keys) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((verb.to_owned(), code(keys.split(" | ").next()?).into_iter().collect()))
    });
    rows.collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// A run of every verb that succeeds.
const RUNS: &[&[&str]] = &[
    &["build", "model.onnx", "-o", "again"],
    &["inspect", "full"],
    &["strip", "full", "-o", "bare"],
    &["fill", "stripped", "--weights", "model.onnx", "-o", "filled"],
    &["check", "stripped", "--weights", "model.onnx"],
    &["convert", "full", "-o", "full.npz"],
    &["run", "full", "--device", "cpu"],
    &["verify", "full", "--onnx", "model.onnx", "--device", "cpu"],
    &[
        "gate",
        "full",
        "--onnx",
        "model.onnx",
        "--weights",
        "model.onnx",
        "--weights",
        "tuned.onnx",
        "--device",
        "cpu",
    ],
    &["diff", "full", "full"],
    &["bench", "full", "--device", "cpu", "--iterations", "2"],
    &["compare", "full", "--with", "onnx:model.onnx", "--device", "cpu"],
    &["graph", "full", "-o", "full.svg"],
    &["devices"],
    &["version"],
];

#[test]
fn every_verb_prints_one_object_with_the_keys_that_are_documented() {
    let folder = Folder::built();
    let tuned = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(folder.at("tuned.onnx"), tuned).unwrap();
    let mut documented = documented();
    let error = documented.remove("error").unwrap();
    for run in RUNS {
        let output = folder.run(&[run, &["--json"][..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{run:?}: {said}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = documented.remove(run[0]);
        assert_eq!(Some(keys(&object)), expected, "{run:?}");
    }
    assert!(documented.is_empty(), "verbs that were not run: {documented:?}");
    let failed = folder.object(3, &["inspect", "nowhere", "--json"]);
    assert_eq!(keys(&failed["error"]), error);
}

#[test]
fn errors_have_one_shape_a_class_and_the_code_of_the_process() {
    let folder = Folder::built();
    let other = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(folder.at("other.onnx"), other).unwrap();
    std::fs::write(folder.at("damaged"), &std::fs::read(folder.at("full")).unwrap()[..700])
        .unwrap();
    folder.ok(&["fill", "stripped", "--weights", "other.onnx", "-o", "other"]);
    let cases: &[(&str, i32, &[&str])] = &[
        ("usage", 2, &["build"]),
        ("usage", 2, &["frobnicate"]),
        ("usage", 2, &["build", "model.onnx", "-o", "x", "--strip", "--refit", "none"]),
        ("io", 3, &["inspect", "nowhere"]),
        ("io", 3, &["build", "nowhere.onnx", "-o", "x"]),
        ("invalid-file", 3, &["inspect", "damaged"]),
        ("invalid-file", 3, &["build", "full", "-o", "x"]),
        ("missing-weights", 4, &["run", "stripped", "--device", "cpu"]),
        ("missing-weights", 4, &["extract", "stripped", "-o", "x.safetensors"]),
        ("not-refittable", 4, &["strip", "frozen", "-o", "x"]),
        ("not-refittable", 4, &["fill", "frozen", "--weights", "full", "-o", "x"]),
        ("device", 5, &["run", "full", "--device", "no such adapter"]),
        ("different", 1, &["diff", "full", "other"]),
        ("different", 1, &["verify", "other", "--onnx", "model.onnx", "--device", "cpu"]),
    ];
    for (class, code, arguments) in cases {
        let object = folder.object(*code, &[arguments, &["--json"][..]].concat());
        let error = &object["error"];
        assert_eq!(error["class"], *class, "{arguments:?}: {error}");
        assert_eq!(error["exit_code"], *code, "{arguments:?}");
        let said = folder.fails(*code, arguments);
        let message = error["message"].as_str().unwrap();
        let first = message.lines().next().unwrap();
        assert!(said.contains(first), "{arguments:?}: {message} in {said}");
        assert!(folder.run(arguments).stdout.is_empty() || *code == 1, "{arguments:?}");
    }
    let weights = folder.object(4, &["run", "stripped", "--device", "cpu", "--json"]);
    let names = weights["error"]["names"].as_array().unwrap();
    assert!(names.contains(&"fc1.weight".into()), "{names:?}");
    let damaged = folder.object(3, &["inspect", "damaged", "--json"]);
    let place = damaged["error"]["where"].as_str().unwrap();
    assert!(place.starts_with("damaged: "), "{place}");
    for part in ["expected", "found"] {
        assert!(damaged["error"][part].is_string(), "{damaged}");
    }
}

/// What was found out is in the object whether it is a failure or not.
#[test]
fn a_result_that_is_a_failure_too_is_one_object() {
    let folder = Folder::built();
    let check = folder.object(4, &["check", "frozen", "--weights", "full", "--json"]);
    assert_eq!(check["fits"], false);
    assert_eq!(check["misfits"][0]["kind"], "frozen");
    assert_eq!(check["error"]["misfits"], check["misfits"]);
    let diff = folder.object(1, &["diff", "full", "frozen", "--json"]);
    assert!(diff["flags"].is_object() && diff["error"]["class"] == "different", "{diff}");
    let fill = ["fill", "stripped", "--weights", "model.onnx", "-o", "x", "--verify", "--json"];
    let mut other = sketch("mlp");
    while let Some(at) = other.windows(4).position(|window| window == b"Relu") {
        other[at..at + 4].copy_from_slice(b"Tanh");
    }
    std::fs::write(folder.at("tanh.onnx"), other).unwrap();
    let against = |model| [&fill[..], &["--device", "cpu", "--onnx", model]].concat();
    let wrong = folder.object(1, &against("tanh.onnx"));
    assert!(wrong["compared"].as_array().unwrap().iter().any(|one| one["agrees"] == false));
    assert!(!folder.at("x").exists());
    let right = folder.json(&against("model.onnx"));
    assert_eq!(right["compared"].as_array().unwrap().len(), 3, "one for each seed");
    assert!(folder.at("x").exists());
}

#[test]
fn how_much_is_said_is_asked_for() {
    let folder = Folder::built();
    let build = ["build", "model.onnx", "-o", "x"];
    let said = |more: &[&str]| folder.ok(&[&build[..], more].concat()).1;
    assert!(said(&[]).contains("weights") && !said(&[]).contains("engine_builder"));
    assert!(
        said(&["-v"]).contains("engine_builder::passes: changed the graph"),
        "{}",
        said(&["-v"])
    );
    assert_eq!(said(&["--quiet"]), "");
    assert!(folder.fails(3, &["-q", "inspect", "nowhere"]).contains("nowhere"));
    assert!(folder.fails(2, &["inspect", "full", "-q", "-v"]).contains("cannot be used with"));
    let filtered = |filter: &str| {
        let mut command = folder.command(&build);
        let output = command.env("REFIT_LOG", filter).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(filtered("engine_builder=debug").1.contains("changed the graph"));
    let (code, wrong) = filtered("engine_builder=loudly");
    assert!(code == Some(2) && wrong.contains("REFIT_LOG"), "{wrong}");
}

#[test]
fn there_are_colours_in_a_pipe_only_if_they_are_asked_for() {
    let folder = Folder::new();
    for wrong in [&["inspect", "nowhere"][..], &["inspect"], &["frobnicate"]] {
        let code = if wrong.len() == 2 { 3 } else { 2 };
        let colored =
            |when: &[&str]| folder.fails(code, &[wrong, when].concat()).contains('\u{1b}');
        assert!(colored(&["--color", "always"]), "{wrong:?}");
        assert!(colored(&["--color=always"]), "{wrong:?}");
        assert!(!colored(&["--color", "never"]), "{wrong:?}");
        assert!(!colored(&[]), "{wrong:?}");
    }
}

#[test]
fn devices_and_version_say_what_there_is() {
    let folder = Folder::new();
    let devices = folder.json(&["devices", "--json"]);
    assert_eq!(devices["cpu"]["instruction_sets"].as_array().unwrap().last().unwrap(), "portable");
    let threads = |n: &str| {
        let output = folder.command(&["devices", "--json"]).env("REFIT_THREADS", n).output();
        let object: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        object["cpu"]["threads"].clone()
    };
    assert_eq!(threads("3"), 3);
    let gpus = devices["gpus"].as_array().unwrap();
    let hardware = gpus.iter().any(|gpu| gpu["kind"] != "software");
    assert_eq!(devices["auto"]["device"], if hardware { "gpu:0" } else { "cpu" });
    for gpu in gpus {
        assert!(gpu["max_binding"].as_u64().unwrap() > 0, "{gpu}");
        let name = gpu["name"].as_str().unwrap();
        assert!(folder.ok(&["devices"]).0.contains(name), "{name}");
    }
    let version = folder.json(&["version", "--json"]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let short = folder.ok(&["--version"]).0;
    assert_eq!(short.trim(), format!("refit {}", env!("CARGO_PKG_VERSION")));
    let help = folder.ok(&["--help"]).0;
    assert!(help.contains("4  weights missing or unfit") && help.contains("REFIT_THREADS"));
}

/// A file of another kind than the verb takes: the error says what it is.
#[test]
fn files_of_another_kind_are_told() {
    let folder = Folder::built();
    folder.ok(&["extract", "full", "-o", "w.safetensors"]);
    folder.ok(&["extract", "full", "-o", "w.npz"]);
    folder.ok(&["run", "full", "--device", "cpu", "--out", "outputs"]);
    let array = std::fs::read_dir(folder.at("outputs")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(array, folder.at("w.npy")).unwrap();
    for (file, kind) in [
        ("model.onnx", "found an ONNX model"),
        ("w.safetensors", "found a safetensors file"),
        ("w.npz", "found a PyTorch checkpoint or a .npz file"),
        ("w.npy", "found a .npy file"),
    ] {
        for verb in [
            &["inspect", file][..],
            &["run", file],
            &["strip", file, "-o", "x"],
            &["diff", "full", file],
        ] {
            let said = folder.fails(3, verb);
            assert!(said.contains("not an engine file") && said.contains(kind), "{verb:?}: {said}");
            assert!(said.contains("refit build"), "{verb:?}: {said}");
        }
    }
    for verb in [&["build", "full", "-o", "x"][..], &["verify", "full", "--onnx", "stripped"]] {
        let said = folder.fails(3, verb);
        assert!(
            said.contains("not an ONNX model") && said.contains("found an engine file"),
            "{said}"
        );
    }
}

/// What cannot be written is an error that names the place as it was given, and nothing is left of the attempt.
#[test]
fn places_that_cannot_be_written_are_errors() {
    let folder = Folder::built();
    std::fs::create_dir(folder.at("folder")).unwrap();
    for verb in [&["strip", "full"][..], &["build", "model.onnx"]] {
        for place in ["nowhere/x", "folder", "full/x"] {
            let said = folder.fails(3, &[verb, &["-o", place]].concat());
            assert!(said.contains(place) && !said.contains(".tmp"), "{verb:?} {place}: {said}");
        }
    }
    for (verb, flag) in [("convert", "nowhere/x.npz"), ("graph", "nowhere/x.svg")] {
        let said = folder.fails(3, &[verb, "full", "-o", flag]);
        assert!(said.contains(flag) && !said.contains(".tmp"), "{verb}: {said}");
    }
    // The name of a file of one array is no folder's.
    let said = folder.fails(2, &["run", "full", "--device", "cpu", "--out", "y.npy"]);
    assert!(said.contains("y.npy/") && !folder.at("y.npy").exists(), "{said}");
    folder.ok(&["run", "full", "--device", "cpu", "--out", "y.d/"]);
    let said = folder.fails(2, &["bench", "full", "--device", "cpu", "--duration", "-1"]);
    assert!(said.contains("not negative"), "{said}");
}
