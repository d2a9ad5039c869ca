//! What the program leaves and says: results of a run, what a source did not have, errors in one piece.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

mod common;

use common::Folder;
use engine_format::{
    Block, Bytes, DType, Digest, Engine, EngineFlags, EngineParts, Form, Port, Tensor, ValueId,
    Weight, WeightClass, WeightData,
};
use refit::{TensorFile, npy, open_source};
use serde_json::{Value, json};
use std::path::Path;

/// An engine that gives its input back under each of these names.
fn echo(dtype: DType, outputs: &[&str], weights: &[(&str, Tensor, WeightClass)]) -> Engine {
    let port = |name: &str| Port {
        name: name.to_owned(),
        value: ValueId(0),
        form: Form::Tensor,
        dtype,
        shape: Some(vec![2.into()]),
    };
    let rows = weights.iter().zip(1..).map(|((name, tensor, class), value)| Weight {
        name: (*name).to_owned(),
        aliases: Vec::new(),
        value: ValueId(value),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        class: *class,
        pinned: None,
        refittable: true,
        digest: Some(Digest::of(tensor.bytes())),
        data: WeightData::Stored(tensor.bytes().clone()),
    });
    Engine::new(EngineParts {
        flags: EngineFlags::REFIT,
        metadata: Default::default(),
        inputs: vec![port("x")],
        outputs: outputs.iter().map(|name| port(name)).collect(),
        values: 1 + weights.len() as u32,
        literals: Vec::new(),
        weights: rows.collect(),
        prepare: Block::default(),
        execute: Block { outputs: vec![ValueId(0); outputs.len()], ..Block::default() },
        source_literals: Vec::new(),
        ignored: vec!["fc.mask".to_owned(), "other".to_owned()],
    })
    .unwrap()
}

fn tensor(dtype: DType) -> Tensor {
    Tensor::new(dtype, &[2], vec![1; 2 * dtype.width()].into()).unwrap()
}

#[test]
fn outputs_whose_names_meet_in_one_file_name_have_files_of_their_own() {
    let folder = Folder::new();
    let names = ["a/b", "a_b", "a:b", "a\\b"];
    folder.save("e", &echo(DType::F32, &names, &[]));
    let arguments = ["run", "e", "--device", "cpu", "--out", "out", "--json"];
    let (report, said) = folder.ok(&arguments);
    let report: Value = serde_json::from_str(&report).unwrap();
    let outputs = report["outputs"].as_array().unwrap();
    let listed: Vec<_> = outputs
        .iter()
        .map(|o| (o["name"].as_str().unwrap(), o["file"].as_str().unwrap()))
        .collect();
    let files = ["a_b_2", "a_b", "a_b_3", "a_b_4"]
        .map(|name| Path::new("out").join(format!("{name}.npy")).display().to_string());
    let expected: Vec<_> = names.into_iter().zip(files.iter().map(String::as_str)).collect();
    assert_eq!(listed, expected);
    for (name, file) in &listed {
        npy::decode(&std::fs::read(folder.at(file)).unwrap().into()).unwrap();
        let line = format!("output {name:?} is written to {file}");
        assert_eq!(said.lines().any(|found| found == line), *name != "a_b", "{said}");
    }
    // In a file they have their names.
    for file in ["all.safetensors", "all.npz"] {
        let report = folder.json(&["run", "e", "--device", "cpu", "--out", file, "--json"]);
        let mut sorted = names.map(str::to_owned);
        sorted.sort();
        assert_eq!(open_source(&folder.at(file)).unwrap().names(), sorted);
        for (output, name) in report["outputs"].as_array().unwrap().iter().zip(names) {
            assert_eq!((&output["file"], &output["tensor"]), (&json!(file), &json!(name)));
        }
    }
}

#[test]
fn every_element_type_is_written_and_read_again() {
    let folder = Folder::new();
    let compact = DType::ALL.into_iter().filter(|dtype| dtype.is_compact());
    for dtype in compact.chain([DType::F32, DType::BF16, DType::F16, DType::I64]) {
        let engine = echo(dtype, &["y", "z"], &[]);
        folder.save("e", &engine);
        let x = tensor(dtype);
        std::fs::write(folder.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
        let run = |input: &str, out: &str| {
            let input = format!("x={input}");
            folder.ok(&["run", "e", "--device", "cpu", "--input", &input, "--out", out]);
        };
        run("x.npy", "out");
        let found = Bytes::from(std::fs::read(folder.at("out/y.npy")).unwrap());
        assert_eq!(npy::decode_as(&found, dtype), Ok(x.clone()), "{dtype}");
        let file = "all.safetensors";
        if TensorFile::Safetensors.holds(dtype) {
            run("out/z.npy", file);
            let source = open_source(&folder.at(file)).unwrap();
            assert_eq!(source.read("y").unwrap().unwrap(), x, "{dtype}");
            folder.write("x.safetensors", &[("x", x.clone()), ("other", x.clone())]);
            run("x.safetensors", "out");
        } else {
            let out = ["run", "e", "--device", "cpu", "--input", "x=x.npy", "--out", file];
            let said = folder.fails(2, &out);
            assert!(said.contains("which the format does not have"), "{said}");
        }
        run("out/y.npy", "all.npz");
        assert!(folder.at("all.npz").is_file());
    }
    folder.save("e", &echo(DType::BF16, &["y"], &[]));
    folder.write("one.npz", &[("whatever", tensor(DType::BF16))]);
    folder.ok(&["run", "e", "--device", "cpu", "--input", "x=one.npz"]);
    folder.write("two.npz", &[("a", tensor(DType::BF16)), ("b", tensor(DType::BF16))]);
    let said = folder.fails(2, &["run", "e", "--device", "cpu", "--input", "x=two.npz"]);
    assert!(said.contains("none is called \"x\": found a, b"), "{said}");
}

/// Weights of a module `fc`, a number that is never stripped, and a name that makes lines long.
fn with_weights() -> (Engine, String) {
    let long = format!("{}weight", "transformer.layers.12.attention.".repeat(8));
    let numbers = |from: f32| Tensor::from_slice(&[2], &[from, 1.0f32]);
    let rows = [
        ("epsilon", Tensor::from_slice(&[], &[0.5f32]), WeightClass::Parameter),
        ("fc.bias", numbers(1.0), WeightClass::Weight),
        ("fc.weight", numbers(2.0), WeightClass::Weight),
        (long.as_str(), numbers(3.0), WeightClass::Weight),
    ];
    (echo(DType::F32, &["y"], &rows), long)
}

#[test]
fn what_a_source_lacks_and_what_is_not_used_is_said() {
    let folder = Folder::new();
    let (engine, long) = with_weights();
    folder.save("full", &engine);
    folder.save("stripped", &engine);
    folder.ok(&["strip", "full", "-o", "stripped"]);
    let numbers = Tensor::from_slice(&[2], &[7.0f32, 8.0]);
    let mut source = vec![
        ("fc.bias", numbers.clone()),
        ("fc.weight", numbers.clone()),
        (long.as_str(), numbers.clone()),
        ("fc.mask", numbers.clone()),
        ("other", numbers.clone()),
    ];
    folder.write("w.safetensors", &source);
    let kept = "not in the source, keep their values (1): epsilon";
    let stray =
        "in the source and not used, though the engine uses others of their modules (1): fc.mask";
    let unused = "in the source and not used (1): other";
    let weights = ["--weights", "w.safetensors"];
    let says = |text: &str| {
        for line in [kept, stray, unused] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    };
    let taken = ["fc.bias", "fc.weight", long.as_str()];
    let taken = taken.map(|name| json!({"weight": name, "source": name}));
    let fit = json!({
        "fits": true,
        "taken": taken,
        "kept": ["epsilon"],
        "unused": ["fc.mask", "other"],
        "stray": ["fc.mask"],
        "misfits": [],
    });
    let with = |arguments: &[&'static str]| [arguments, &weights].concat();
    let (text, _) = folder.ok(&with(&["check", "stripped"]));
    says(&text);
    assert!(text.contains("fits: 3 tensors are taken"), "{text}");
    assert_eq!(folder.json(&with(&["check", "stripped", "--json"])), fit);
    says(&folder.ok(&with(&["fill", "stripped", "-o", "filled"])).1);
    let report = folder.json(&with(&["fill", "stripped", "-o", "filled", "--json"]));
    assert_eq!((&report["fit"], &report["flags"]), (&fit, &json!(["REFIT"])));
    let run = ["run", "stripped", "--device", "cpu", "--json"];
    let (text, said) = folder.ok(&with(&run));
    says(&said);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["fit"], fit);
    assert_eq!(folder.json(&["run", "full", "--device", "cpu", "--json"])["fit"], Value::Null);
    says(&folder.ok(&with(&["bench", "stripped", "--device", "cpu", "--iterations", "1"])).1);

    // What the engine does not know is an error unless it is allowed, and then it is said.
    source.push(("fc.scale", numbers));
    folder.write("w.safetensors", &source);
    for command in [&["check", "stripped"][..], &["fill", "stripped", "-o", "f"], &run] {
        let said = folder.fails(4, &with(command));
        assert!(said.contains("extra \"fc.scale\""), "{said}");
        let allowed = [with(command), vec!["--allow-extra"]].concat();
        let (text, said) = folder.ok(&allowed);
        assert!(format!("{text}{said}").contains("fc.mask, fc.scale") || text.contains("fc.scale"));
    }
}

#[test]
fn errors_are_in_one_piece_and_do_not_advise_what_failed() {
    let folder = Folder::new();
    let (engine, long) = with_weights();
    folder.save("full", &engine);
    folder.ok(&["strip", "full", "-o", "stripped"]);
    let numbers = Tensor::from_slice(&[2], &[7.0f32, 8.0]);
    folder.write("w.safetensors", &[("fc.bias", numbers.clone())]);
    let weights = ["--weights", "w.safetensors"];
    for command in [
        &["fill", "stripped", "-o", "filled"][..],
        &["check", "stripped"],
        &["run", "stripped", "--device", "cpu"],
        &["bench", "stripped", "--device", "cpu"],
    ] {
        let said = folder.fails(4, &[command, &weights].concat());
        let line = format!("missing {long:?}: expected f32[2]");
        assert!(said.lines().any(|found| found.ends_with(&line)), "{said}");
        assert!(!said.contains("refit fill") && said.contains("behind --weights"), "{said}");
    }
    // Nothing was filled yet: then that is the advice.
    let said = folder.fails(4, &["run", "stripped", "--device", "cpu"]);
    assert!(said.contains("refit fill"), "{said}");
    // What stands in front of all names is said.
    let wrapped = ["fc.bias", "fc.weight", &long].map(|name| format!("module.{name}"));
    let wrapped: Vec<_> = wrapped.iter().map(|name| (name.as_str(), numbers.clone())).collect();
    folder.write("w.safetensors", &wrapped);
    for extra in [&[][..], &["--allow-extra"]] {
        let fill = ["fill", "stripped", "-o", "filled"];
        let said = folder.fails(4, &[&fill[..], &weights, extra].concat());
        assert!(said.contains("begin with \"module.\"") && said.contains("fc.weight"), "{said}");
    }
}
