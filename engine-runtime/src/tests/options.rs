//! What callers say about a run or a refit: outputs that are wanted, seeds, progress, an end from outside.

use super::on_gpu::gpu;
use super::toy::{Toy, bits, live, model, poisoned, run, weights, x};
use crate::value::values;
use crate::{
    Cancel, Device, Inputs, LiveModule, Module, PackedModule, Profile, Progress, RefitError,
    RefitOptions, RunErrorKind, RunOptions,
};
use engine_format::{DType, Engine, EngineFlags, SerializeFlags, Tensor};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn on(engine: &Engine, device: &Device) -> [Box<dyn Module>; 2] {
    let bytes = engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
    let live = LiveModule::load(engine.clone(), device).unwrap();
    [Box::new(live), Box::new(PackedModule::load(bytes.into(), device).unwrap())]
}

fn wanting(names: &[&str]) -> RunOptions {
    let outputs = Some(names.iter().map(|&name| name.to_owned()).collect());
    RunOptions { outputs, ..RunOptions::default() }
}

#[test]
fn only_wanted_outputs_are_given() {
    let engine = model(EngineFlags::REFIT);
    for device in [Some(poisoned()), gpu(&[])].into_iter().flatten() {
        for module in on(&engine, &device) {
            for round in 0..2 {
                let all = run(&*module, &x(2));
                for names in [&["z"][..], &["shape", "y"], &["y", "z", "shape"], &["z", "z"], &[]] {
                    let some = module.run_with(&values(&x(2)), &wanting(names)).unwrap();
                    let expected = all.tensors.iter().filter(|(name, _)| names.contains(&&***name));
                    assert!(some.tensors.iter().eq(expected), "{names:?}: {:?}", some.tensors);
                    assert_eq!(some.version, all.version);
                }
                module.refit(&weights(&engine, round), Default::default()).unwrap();
            }
        }
    }
}

#[test]
fn what_only_others_need_is_not_calculated() {
    let module = live(&model(EngineFlags::REFIT));
    let steps = |names: &[&str]| {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let profile = Profile::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let options = RunOptions { profile: Some(profile), ..wanting(names) };
        module.run_with(&values(&x(3)), &options).unwrap();
        count.load(Ordering::Relaxed)
    };
    assert_eq!([steps(&["shape"]), steps(&["y"]), steps(&["z"]), steps(&["y", "z"])], [0, 2, 3, 3]);
}

/// A GPU that has a clock tells of every step that it ran, within the time of the run.
#[test]
fn steps_on_a_gpu_are_timed() {
    let Some(device) = gpu(&[]).filter(Device::has_clock) else { return };
    for module in on(&model(EngineFlags::REFIT), &device) {
        let times = Arc::new(Mutex::new(Vec::new()));
        let kept = times.clone();
        let profile = Profile::new(move |step| {
            kept.lock().unwrap().push((step.path.to_owned(), step.time, step.end));
        });
        let options = RunOptions { profile: Some(profile), ..RunOptions::default() };
        let begun = Instant::now();
        let profiled = module.run_with(&values(&x(3)), &options).unwrap();
        let ended = Instant::now();
        assert_eq!(profiled.tensors, run(&*module, &x(3)).tensors);
        let times = times.lock().unwrap();
        assert_eq!(times.len(), 3, "{times:?}");
        for (_, time, end) in times.iter() {
            assert!(*time <= ended - begun && *end <= ended, "{times:?}");
        }
    }
}

#[test]
fn an_output_that_does_not_exist_is_named() {
    let module = live(&model(EngineFlags::REFIT));
    let error = module.run_with(&values(&x(2)), &wanting(&["y", "Y", "other"])).unwrap_err();
    assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
    assert_eq!(error.details(), ["\"Y\"", "\"other\""]);
    assert!(error.to_string().contains("\"shape\""), "{error}");
}

/// Two draws without a seed.
fn draws() -> Engine {
    let mut toy = Toy::new(EngineFlags::REFIT);
    toy.input("x", DType::F32, &["n"]);
    let shape = toy.ints(&[4, 3]);
    for (name, op) in [("a", "RandomNormal"), ("b", "RandomNormal"), ("c", "RandomUniform")] {
        let drawn = toy.run(op, &[shape], &[]);
        toy.output(name, drawn, DType::F32);
    }
    toy.build()
}

#[test]
fn a_seed_gives_the_same_draws_everywhere() {
    let x = Inputs::from([("x".to_owned(), Tensor::from_slice(&[1], &[0f32]))]);
    let with = |module: &dyn Module, seed| {
        let options = RunOptions { seed, ..RunOptions::default() };
        bits(&module.run_with(&values(&x), &options).unwrap())
    };
    let first = with(&live(&draws()), Some(7));
    assert!(first[0] != first[1], "each draw has a stream of its own");
    for device in [Some(poisoned()), gpu(&[])].into_iter().flatten() {
        for module in on(&draws(), &device) {
            assert_eq!(with(&*module, Some(7)), first);
            assert_eq!(with(&*module, Some(7)), first, "every run begins anew");
            assert!(with(&*module, Some(8)) != first);
            assert!(with(&*module, None) != with(&*module, None));
        }
    }
}

#[test]
fn a_refit_says_how_far_it_is() {
    let engine = model(EngineFlags::REFIT);
    let bytes: usize = engine.parts().weights.iter().map(|weight| weight.byte_len()).sum();
    for module in on(&engine, &poisoned()) {
        let most = Arc::new(AtomicU64::new(0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let (max, list) = (most.clone(), told.clone());
        let progress = Progress::new(move |done, all| {
            max.fetch_max(done, Ordering::Relaxed);
            list.lock().unwrap().push((done, all));
        });
        let options = RefitOptions { progress: Some(progress), ..RefitOptions::default() };
        module.refit_with(&weights(&engine, 5), &options).unwrap();
        let told = told.lock().unwrap();
        assert!(told.len() > engine.parts().weights.len(), "{told:?}");
        assert!(told.iter().all(|&(_, all)| all == bytes as u64), "{told:?}");
        assert_eq!(told.last(), Some(&(bytes as u64, bytes as u64)));
        assert_eq!(most.load(Ordering::Relaxed), bytes as u64);
    }
}

#[test]
fn a_cancelled_refit_changes_nothing() {
    let engine = model(EngineFlags::REFIT);
    for module in on(&engine, &poisoned()) {
        let (state, before) = (module.state(), bits(&run(&*module, &x(2))));
        let refit = |cancel: &Cancel| {
            let options = RefitOptions { cancel: Some(cancel.clone()), ..Default::default() };
            module.refit_with(&weights(&engine, 9), &options).map(drop)
        };
        let never = Cancel::after(usize::MAX);
        refit(&never).unwrap();
        module.rollback().unwrap();
        let weights = engine.parts().weights.len();
        assert!(never.looks() > weights, "{} looks, before {weights} weights", never.looks());
        for before_it in 0..never.looks() {
            assert_eq!(refit(&Cancel::after(before_it)), Err(RefitError::Cancelled));
            assert_eq!(module.state(), state);
            assert_eq!(bits(&run(&*module, &x(2))), before);
        }
        assert!(
            module
                .fork_with(
                    &super::toy::weights(&engine, 9),
                    &RefitOptions { cancel: Some(Cancel::after(0)), ..Default::default() }
                )
                .is_err()
        );
    }
}
