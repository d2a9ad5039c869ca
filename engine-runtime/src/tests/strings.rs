//! Strings, which stay on the host between the segments of a plan.

use super::on_gpu::gpu;
use super::toy::{Toy, close, floats, live, run};
use crate::MemoryLimits;
use crate::executor::Programs;
use crate::layer::Layer;
use crate::plan::item::{Layout, RunInputs};
use crate::plan::walk::{ResidentMetas, Rest};
use crate::{Device, Inputs, LiveModule};
use engine_format::{Attrs, DType, Engine, EngineFlags, Tensor};

fn texts(values: &[&str]) -> Tensor {
    Tensor::from_strings(&[values.len()], values)
}

/// Numbers for words, times `tanh(x)`; the words marked, picked by their numbers, under another shape.
fn numbered() -> Engine {
    let mut toy = Toy::new(EngineFlags::empty());
    let words = toy.input("words", DType::String, &["n"]);
    let x = toy.input("x", DType::F32, &["n"]);
    let keys = toy.literal(texts(&["zero", "one", "two"]));
    let values = toy.ints(&[0, 1, 2]);
    let other = toy.ints(&[0]);
    let ids = toy.run("LabelEncoder", &[words, keys, values, other], &[]);
    let like = toy.literal(Tensor::from_slice(&[], &[0f32]));
    let numbers = toy.run("CastLike", &[ids, like], &[]);
    let bent = toy.run("Tanh", &[x], &[]);
    let y = toy.run("Mul", &[numbers, bent], &[]);
    let mark = toy.literal(Tensor::from_strings(&[], &["!"]));
    let marked = toy.run("StringConcat", &[words, mark], &[]);
    let picked = toy.run("Gather", &[marked, ids], &[]);
    let column = toy.ints(&[-1, 1]);
    let tall = toy.run("Reshape", &[picked, column], &[]);
    let same = toy.run("Equal", &[marked, picked], &[]);
    toy.output("y", y, DType::F32);
    toy.output("tall", tall, DType::String);
    toy.output("same", same, DType::Bool);
    toy.output("words", words, DType::String);
    toy.build()
}

fn check(module: &LiveModule) {
    for words in [["two", "one", "zero"], ["one", "?", "two"], ["two", "one", "zero"]] {
        let x = [0.5f32, -1.0, 2.0];
        let inputs = Inputs::from([
            ("words".into(), texts(&words)),
            ("x".into(), Tensor::from_slice(&[3], &x)),
        ]);
        let out = run(module, &inputs).tensors;
        let id = |word: &str| ["zero", "one", "two"].iter().position(|w| *w == word).unwrap_or(0);
        let expected: Vec<f32> =
            words.iter().zip(x).map(|(word, x)| id(word) as f32 * x.tanh()).collect();
        close(&floats(&out["y"]), &expected);
        let picked: Vec<String> = words.iter().map(|w| format!("{}!", words[id(w)])).collect();
        assert_eq!(out["tall"], Tensor::from_strings(&[3, 1], &picked));
        let same: Vec<bool> =
            words.iter().zip(&picked).map(|(w, p)| format!("{w}!") == *p).collect();
        assert_eq!(out["same"], Tensor::from_bools(&[3], &same));
        assert_eq!(out["words"], texts(&words));
    }
}

#[test]
fn strings_pass_through_a_program_on_every_device() {
    let engine = numbered();
    check(&live(&engine));
    let Some(device) = gpu(&[]) else { return };
    check(&LiveModule::load(engine, &device).unwrap());
}

#[test]
fn plans_are_made_for_shapes_of_strings_and_not_for_their_contents() {
    let programs = Programs::check(&numbered()).unwrap();
    let inputs = [texts(&["a", "b"]), Tensor::from_slice(&[2], &[1f32, 2.0])];
    let given =
        RunInputs { tensors: &inputs, held: &[], layout: &[Layout::Tensor, Layout::Tensor] };
    assert_eq!(programs.execute.keyed(given), [false, false]);
    let planned =
        programs.execute.plan(given, &ResidentMetas::new(), MemoryLimits::default()).unwrap();
    assert!(matches!(planned.rest, Rest::Suspension(_)));
    assert!(planned.segment.steps.is_empty() && planned.segment.buffers.is_empty());
}

#[test]
fn strings_of_a_layer_are_part_of_its_program() {
    let mut layer = Layer::new("StringConcat", Attrs::new(), &Device::cpu()).unwrap();
    for mark in ["!", "?"] {
        layer.set("Y", texts(&[mark])).unwrap();
        let found = layer.run(&[texts(&["a", "b"])]).unwrap();
        assert_eq!(found, [texts(&[&format!("a{mark}"), &format!("b{mark}")])]);
    }
}

#[test]
fn an_operator_that_takes_no_strings_says_so() {
    let layer = Layer::new("Add", Attrs::new(), &Device::cpu()).unwrap();
    let error = layer.run(&[texts(&["a"]), texts(&["b"])]).unwrap_err().to_string();
    assert!(error.contains("Add does not take strings"), "{error}");
}
