//! Real models, on every device and through both module paths, against ONNX Runtime.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::models::{MODELS, ModelCase};
use conformance::oracle::Tensors;
use engine_builder::{BuildOptions, build};
use engine_format::{Bytes, Engine, SerializeFlags};
use engine_onnx::Model;
use engine_ops::{Agreement, compare};
use engine_runtime::{LiveModule, Module, PackedModule};

/// Runs every input in order, handing state on, and holds each output against the oracle's. Gives all outputs and how far
/// the worst of them is off.
fn agreement(
    case: &ModelCase,
    module: &dyn Module,
    runs: &[Tensors],
    expected: &[Tensors],
) -> (Vec<Tensors>, Agreement) {
    let mut worst = Agreement::default();
    let mut outputs: Vec<Tensors> = Vec::new();
    for (i, (inputs, expected)) in runs.iter().zip(expected).enumerate() {
        let mut inputs = inputs.clone();
        if let Some(before) = outputs.last() {
            let carried =
                case.carry.iter().map(|&(from, to)| (to.to_owned(), before[from].clone()));
            inputs.extend(carried);
        }
        let found =
            module.run(&inputs).unwrap_or_else(|e| panic!("{}, run {i}: {e}", case.name)).tensors;
        for (name, expected) in expected {
            let result = compare(&found[name], expected, case.tolerance);
            worst = worst.join(
                result.unwrap_or_else(|e| panic!("{}, run {i}, output {name}: {e}", case.name)),
            );
        }
        outputs.push(found);
    }
    (outputs, worst)
}

fn check(name: &str) {
    let case = MODELS.iter().find(|case| case.name == name).expect("the table has the model");
    let path = case.asset.path().expect("the model is fetched or cached");
    let model = Model::open(&path).expect("a published model reads");
    let engine = build(&model, &BuildOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let full: Bytes =
        engine.serialize(SerializeFlags::default()).expect("a full engine serializes").into();

    // What is run has gone through a stripped file and back.
    let stripped =
        Engine::read(engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap().into()).unwrap();
    let filled =
        stripped.fill(&refit::OnnxSource::open(&path).unwrap(), Default::default()).unwrap();
    let bytes: Bytes = filled.serialize(SerializeFlags::default()).unwrap().into();
    assert_eq!(full, bytes, "{name}: strip, then fill, is the full build");

    let runs = (case.runs)().expect("the inputs are made");
    let expected = case.expected(&runs).expect("ONNX Runtime runs the model");
    for device in conformance::devices() {
        let live =
            LiveModule::load(filled.clone(), &device).unwrap_or_else(|e| panic!("{name}: {e}"));
        let packed =
            PackedModule::load(bytes.clone(), &device).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (a, agreed) = agreement(case, &live, &runs, &expected);
        println!("{name} on {device}: {agreed}");
        let fell_back: Vec<_> =
            live.placement().into_iter().filter(|line| line.obstacle.is_some()).collect();
        assert!(fell_back.is_empty(), "{name}: not on the GPU: {fell_back:?}");
        let (b, _) = agreement(case, &packed, &runs, &expected);
        assert!(a == b, "{name}: both paths give the same bits");
    }
}

/// Cases are tests of their own, so that they run side by side and fail each by itself.
macro_rules! cases {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name); })*
    };
}

cases! {
    magika: "magika",
    yunet: "yunet",
    minilm_l3: "minilm-l3",
    minilm_int8: "minilm-int8",
    silero_vad_ifless: "silero-vad-ifless",
    silero_vad: "silero-vad",
    tinyocr_det: "tinyocr-det",
    tinyocr_rec: "tinyocr-rec",
    rapidocr_det: "rapidocr-det",
    rapidocr_rec: "rapidocr-rec",
    rapidocr_cls: "rapidocr-cls",
    multistyle26: "multistyle26",
    u2netp: "u2netp",
    basic_pitch: "basic-pitch",
}

#[test]
fn every_model_of_the_table_is_tested() {
    assert!(MODELS.iter().map(|case| case.name).eq(TESTED.iter().copied()));
}
