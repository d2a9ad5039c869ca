//! What goes into an engine.

use crate::common::{Folder, sketch};
use engine_format::{
    Block, Bytes, DType, Engine, EngineFlags, EngineParts, Form, Port, Tensor, ValueId,
};
use refit::npy;

/// What the engine gives for these inputs.
fn run(folder: &Folder, more: &[&str]) -> Tensor {
    let run = ["run", "full", "--device", "cpu", "--out", "out"];
    folder.ok(&[&run[..], more].concat());
    npy::decode(&Bytes::from(std::fs::read(folder.at("out/y.npy")).unwrap())).unwrap()
}

#[test]
fn inputs_are_made_up_as_asked() {
    let folder = Folder::built();
    let constant = |value: f32| {
        let x = Tensor::from_slice(&[2, 6], &[value; 12]);
        std::fs::write(folder.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
        run(&folder, &["--input", "x=x.npy"])
    };
    for (text, value) in [("zeros", 0.0), ("ones", 1.0), ("const:-2.5", -2.5)] {
        let made = run(&folder, &["--input", &format!("x={text}"), "--shape", "x=2x6"]);
        assert_eq!(made, constant(value), "{text}");
    }
    let random = |more: &[&str]| run(&folder, &[&["--shape", "x=3x6"][..], more].concat());
    assert_eq!(random(&[]).shape(), [3, 5]);
    assert_eq!(random(&[]), random(&["--seed", "1"]));
    assert_eq!(random(&[]), random(&["--input", "x=rand"]));
    assert_ne!(random(&[]), random(&["--seed", "2"]));
    assert_ne!(random(&["--input", "x=randn"]), random(&[]));
    let said = folder.ok(&["run", "full", "--device", "cpu", "--input", "x=ones"]).1;
    assert!(said.contains("input x f32[1, 6]: all 1"), "{said}");
}

#[test]
fn files_of_several_tensors_give_inputs_by_name() {
    let folder = Folder::built();
    let x = Tensor::from_slice(&[1, 6], &[0.5f32; 6]);
    std::fs::write(folder.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
    let expected = run(&folder, &["--input", "x=x.npy"]);
    for file in ["all.npz", "all.safetensors"] {
        folder.write(file, &[("x", x.clone())]);
        assert_eq!(run(&folder, &["--input", file]), expected, "{file}");
    }
    folder.write("more.npz", &[("x", x.clone()), ("z", x.clone())]);
    let said = folder.fails(2, &["run", "full", "--device", "cpu", "--input", "more.npz"]);
    assert!(said.contains("no inputs: z") && said.contains("the inputs are x"), "{said}");
    assert_eq!(run(&folder, &["--input", "x=more.npz"]), expected);
}

#[test]
fn inputs_that_the_engine_does_not_take_are_refused_by_name() {
    let folder = Folder::built();
    let x = Tensor::zeros(DType::F32, &[1, 6]);
    std::fs::write(folder.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
    for (more, part) in [
        (&["--input", "z=ones"][..], "found x"),
        (&["--shape", "x=2x7"], "expected [batch, 6], found [2, 7]"),
        (&["--shape", "x=2x6", "--shape", "x=3x6"], "given twice"),
        (&["--input", "x=ones", "--input", "x=x.npy"], "given already"),
        (&["--input", "x=x.npy", "--shape", "x=1x6"], "given already"),
        (&["--input", "x=const:much"], "no number"),
        (&["--input", "x"], "expected NAME="),
        (&["--shape", "x=2xx6"], "not a number"),
        (&["--input", "x=cat.png"], "takes no picture"),
        (&["--std", "1,2"], "found 2"),
    ] {
        for verb in
            [&["run"][..], &["bench", "--iterations", "1"], &["verify", "--onnx", "model.onnx"]]
        {
            let arguments = [verb, &["full", "--device", "cpu"], more].concat();
            let said = folder.fails(2, &arguments);
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
    }
    let said = folder.fails(2, &["verify", "full", "--device", "cpu", "--input", "x=ones"]);
    assert!(said.contains("--onnx MODEL"), "{said}");
}

#[test]
fn verify_takes_inputs_and_seeds() {
    let folder = Folder::built();
    let verify = |more: &[&str]| {
        let verify = ["verify", "full", "--onnx", "model.onnx", "--device", "cpu", "--json"];
        let report = folder.json(&[&verify[..], more].concat());
        let compared = report["compared"].as_array().unwrap();
        compared.iter().map(|one| one["of"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(verify(&[]), ["seed 1", "seed 2", "seed 3"]);
    assert_eq!(verify(&["--seed", "7", "--shape", "x=4x6"]), ["seed 7", "seed 8", "seed 9"]);
    let x = Tensor::zeros(DType::F32, &[1, 6]);
    std::fs::write(folder.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
    assert_eq!(verify(&["--input", "x=x.npy"]), ["inputs"]);
}

#[test]
fn a_picture_is_an_input() {
    let folder = Folder::new();
    folder.save("echo", &echo(&[1, 3, 2, 4]));
    std::fs::write(folder.at("two.ppm"), b"P6 2 1 255\n\xff\x00\x00\x01\x02\x03").unwrap();
    let run = ["run", "echo", "--device", "cpu", "--out", "out", "--input", "x=two.ppm"];
    let said = folder.ok(&run).1;
    assert!(said.contains("1 × 2 pixels are stretched to 2 × 4"), "{said}");
    let made =
        || npy::decode(&Bytes::from(std::fs::read(folder.at("out/y.npy")).unwrap())).unwrap();
    let plain = made();
    assert_eq!((plain.shape(), plain.as_slice::<f32>().unwrap()[0]), (&[1, 3, 2, 4][..], 1.0));
    folder.ok(&[&run[..], &["--mean", "0.5,0,0", "--std", "0.25,1,1"]].concat());
    assert_eq!(made().as_slice::<f32>().unwrap()[0], 2.0);
    std::fs::write(folder.at("two.ppm"), b"P6 2 1 255\n\xff").unwrap();
    let said = folder.fails(3, &run);
    assert!(said.contains("reading two.ppm") && said.contains("no picture"), "{said}");
    std::fs::write(folder.at("conv.onnx"), sketch("conv")).unwrap();
    folder.ok(&["build", "conv.onnx", "-o", "conv"]);
    let said = folder.fails(2, &["run", "conv", "--device", "cpu", "--input", "x=two.ppm"]);
    assert!(said.contains("takes no picture") && said.contains("[n, 2, 8, 8]"), "{said}");
}

/// An engine that gives its input `x` back as `y`.
fn echo(shape: &[i64]) -> Engine {
    let port = |name: &str| Port {
        name: name.to_owned(),
        value: ValueId(0),
        form: Form::Tensor,
        dtype: DType::F32,
        shape: Some(shape.iter().map(|&n| n.into()).collect()),
    };
    let parts = EngineParts {
        flags: EngineFlags::empty(),
        metadata: Default::default(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        values: 1,
        literals: vec![],
        weights: vec![],
        prepare: Block::default(),
        execute: Block { inputs: vec![], nodes: vec![], outputs: vec![ValueId(0)] },
        source_literals: vec![],
        ignored: vec![],
    };
    Engine::new(parts).unwrap()
}
