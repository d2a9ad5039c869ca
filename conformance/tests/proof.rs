//! Every pass and every refit keeps what it promises: on the small models, the real ones and generated ones.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::generate::{image_model, row_model};
use conformance::graphs::{SKETCHES, with_other_weights};
use conformance::models::MODELS;
use conformance::oracle::Tensors;
use conformance::proof::{agree, prove};
use conformance::suite::{Group, case, promises};
use engine_builder::{BuildOptions, build};
use engine_format::Engine;
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_runtime::{Device, LiveModule, Module, Values};
use engine_verify::inputs::{Freedom, Sizes, all_tensors, seeded};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Between two orders of sums, through a few layers.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-3 };

fn made_up(onnx: &[u8]) -> Tensors {
    let model = Model::parse(onnx.to_vec().into(), None).unwrap();
    let engine = build(&model, &BuildOptions::default()).unwrap();
    let sizes = Sizes::from([("n".to_owned(), 3)]);
    let made = seeded(&engine.parts().inputs, &Values::new(), &sizes, Freedom::ATTEMPTS[0], 7);
    all_tensors(made.unwrap()).expect("these models take tensors")
}

#[test]
fn the_sketches_keep_every_promise() {
    for sketch in SKETCHES {
        let onnx = (sketch.onnx)();
        prove(&onnx, &made_up(&onnx), &conformance::devices(), TOLERANCE)
            .unwrap_or_else(|broken| panic!("{}: {broken}", sketch.name));
    }
}

/// On the CPU: on a GPU their outputs are held against ONNX Runtime.
#[test]
fn the_real_models_keep_every_promise() {
    for case in &MODELS {
        let onnx = std::fs::read(case.asset.path().unwrap()).unwrap();
        let runs = (case.runs)().unwrap();
        prove(&onnx, &runs[0], &[Device::cpu()], TOLERANCE)
            .unwrap_or_else(|broken| panic!("{}: {broken}", case.name));
    }
}

/// Steps of each kind are frequent enough that most models have a fusion of most kinds.
fn steps() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..10, 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 30, failure_persistence: None, rng_seed: RngSeed::Fixed(22), ..ProptestConfig::default() })]

    #[test]
    fn generated_image_models_keep_every_promise(steps in steps()) {
        let onnx = image_model(&steps);
        let proof = prove(&onnx, &made_up(&onnx), &conformance::devices(), TOLERANCE);
        prop_assert!(proof.is_ok(), "{steps:?}: {}", proof.unwrap_err());
    }

    #[test]
    fn generated_row_models_keep_every_promise(steps in steps()) {
        let onnx = row_model(&steps);
        let proof = prove(&onnx, &made_up(&onnx), &conformance::devices(), TOLERANCE);
        prop_assert!(proof.is_ok(), "{steps:?}: {}", proof.unwrap_err());
    }
}

/// `cargo xtask conformance --suite onnx` holds every case of ONNX's own tests to the promises: each operand of this one becomes a
/// weight in turn, then both.
#[test]
fn inputs_of_the_suite_become_weights_and_are_replaced() {
    let cases = case::cases(&[Group::Node]).unwrap();
    let mut case = cases.into_iter().find(|case| case.name == "matmul_3d").unwrap();
    assert_eq!(promises::hold(&case).unwrap(), 4);
    case.sets[0].inputs = None;
    assert_eq!(promises::hold(&case).unwrap(), 0, "there is nothing to make weights of");
}

/// The net must hold: of models that differ in one weight the outputs do not agree, whichever weight it is.
#[test]
fn a_model_with_other_weights_does_not_agree() {
    let onnx = row_model(&[3, 4, 8]);
    let inputs = made_up(&onnx);
    let engine = |onnx: &[u8], optimise| {
        let model = Model::parse(onnx.to_vec().into(), None).unwrap();
        build(&model, &BuildOptions { optimise, ..BuildOptions::default() }).unwrap()
    };
    let outputs = |engine: Engine| {
        let module = LiveModule::load(engine, &Device::cpu()).unwrap();
        module.run(&inputs).unwrap().tensors
    };
    let plain = engine(&onnx, false);
    let expected = outputs(plain.clone());
    agree(&outputs(engine(&onnx, true)), &expected, TOLERANCE).unwrap();
    let mut corrupted = 0;
    for weight in &plain.parts().weights {
        let other = with_other_weights(&onnx, &|name| name == weight.name);
        let other = engine(&other, true);
        if other.weight(&weight.name).is_none_or(|other| other.digest == weight.digest) {
            continue;
        }
        let found = agree(&outputs(other), &expected, TOLERANCE);
        assert!(found.is_err(), "{} has other values and nothing shows it", weight.name);
        corrupted += 1;
    }
    assert!(corrupted > 2, "only {corrupted} weights were changed");
}

/// Sums whose parts nearly cancel: what is left of them has the rounding of what was summed.
#[test]
fn a_model_whose_sums_cancel_keeps_every_promise() {
    let onnx = image_model(&[0, 2, 0, 0]);
    prove(&onnx, &made_up(&onnx), &[Device::cpu()], TOLERANCE).unwrap();
}
