//! Weights that decide what is read, how much of it and how often are weights like any others.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::deciding::{DECIDING, Deciding};
use conformance::devices;
use conformance::oracle::Tensors;
use conformance::proof::prove;
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, FitPolicy, MapSource, SerializeFlags};
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_runtime::{LiveModule, Module, PackedModule, Values};
use engine_verify::inputs::{Freedom, Sizes, all_tensors, seeded};
use std::collections::BTreeSet;

/// Seeds of the weights.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn built(case: &Deciding, seed: u64) -> Engine {
    let model = Model::parse((case.onnx)(seed).into(), None).unwrap();
    build(&model, &BuildOptions::default()).unwrap()
}

fn made_up(engine: &Engine) -> Tensors {
    let sizes = Sizes::from([("tokens".to_owned(), 5), ("n".to_owned(), 4)]);
    let made = seeded(&engine.parts().inputs, &Values::new(), &sizes, Freedom::ATTEMPTS[0], 7);
    all_tensors(made.unwrap()).expect("these models take tensors")
}

/// Every tensor of the model that has axes, by the engine built from it.
fn source(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter().filter(|weight| !weight.shape.is_empty());
    rows.map(|weight| (weight.name.clone(), weight.tensor().unwrap())).collect()
}

/// A stripped file filled, and a module refitted, with other weights are the fresh build: on both paths and every device.
#[test]
fn what_decides_is_replaced_like_any_weight() {
    let policy = FitPolicy::default();
    for case in &DECIDING {
        let engines = SEEDS.map(|seed| built(case, seed));
        let inputs = made_up(&engines[0]);
        let stripped = engines[0].serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
        for device in devices() {
            let live = LiveModule::load(engines[0].clone(), &device).unwrap();
            let file = engines[0].serialize(SerializeFlags::default()).unwrap();
            let packed = PackedModule::load(file.into(), &device).unwrap();
            let mut seen = BTreeSet::new();
            for engine in &engines {
                let name = case.name;
                let weights = source(engine);
                let same = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap() == stripped;
                assert!(same, "{name}: a value of a weight is in the stripped file");
                let fresh = LiveModule::load(engine.clone(), &device).unwrap();
                let expected = fresh.run(&inputs).unwrap().tensors;
                let filled = Engine::read(stripped.clone().into()).unwrap().fill(&weights, policy);
                let filled = LiveModule::load(filled.unwrap(), &device).unwrap();
                for module in [&filled as &dyn Module, &live, &packed] {
                    module.refit(&weights, policy).unwrap();
                    let found = module.run(&inputs).unwrap().tensors;
                    assert!(found == expected, "{name} on {device}: not the fresh build");
                }
                seen.insert(expected["y"].bytes().to_vec());
            }
            assert!(seen.len() > 2, "{} on {device}: other weights change nothing", case.name);
        }
    }
}

#[test]
fn they_keep_every_promise() {
    let tolerance = Tolerance { atol: 2e-5, rtol: 1e-3 };
    for case in &DECIDING {
        let inputs = made_up(&built(case, 1));
        prove(&(case.onnx)(1), &inputs, &devices(), tolerance)
            .unwrap_or_else(|broken| panic!("{}: {broken}", case.name));
    }
}
