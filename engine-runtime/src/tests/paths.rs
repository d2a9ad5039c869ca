//! The two module paths held against each other, bit for bit.

use super::toy::{bits, live, model, poisoned, run, weights, x};
use crate::{LiveModule, Module, PackedModule, RefitError, RunErrorKind, State};
use engine_format::{
    Bytes, Engine, EngineFlags, FitPolicy, FormatErrorKind, MapSource, SerializeFlags, Tensor,
    WeightData,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const COMPLETE: FitPolicy = FitPolicy { partial: false, allow_extra: false };
const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };

/// `engine` on both paths.
fn both(engine: &Engine) -> [Box<dyn Module>; 2] {
    let options = match engine.is_full() {
        true => SerializeFlags::INCLUDE_REFIT,
        false => SerializeFlags::EXCLUDE_WEIGHTS,
    };
    let bytes = Bytes::from(engine.serialize(options).unwrap());
    [Box::new(live(engine)), Box::new(PackedModule::load(bytes, &poisoned()).unwrap())]
}

/// Everything that can be seen of a module, outputs included.
fn look(module: &dyn Module) -> String {
    let outputs = [1, 3].map(|batch| match module.run(&x(batch)) {
        Ok(outputs) => format!("{} {:?}", outputs.version, bits(&outputs)),
        Err(error) => error.to_string(),
    });
    let all_options = [
        SerializeFlags::empty(),
        SerializeFlags::INCLUDE_REFIT,
        SerializeFlags::EXCLUDE_WEIGHTS,
        SerializeFlags::INCLUDE_REFIT | SerializeFlags::COMPRESS,
    ];
    let files = all_options.map(|options| match module.serialize(options) {
        Ok(bytes) => engine_format::Digest::of(&bytes).to_string(),
        Err(error) => error.to_string(),
    });
    format!("{:?} {:?} {outputs:?} {files:?}", module.state(), module.flags())
}

#[test]
fn both_paths_agree_from_strip_to_fill_to_a_to_b_to_a() {
    let full = model(EngineFlags::REFIT);
    let (a, b) = (weights(&full, 0), weights(&full, 1));
    let reference = look(&live(&full));
    for module in both(&full.strip().unwrap()) {
        assert!(matches!(module.state(), State::NeedsWeights(_)));
        module.refit(&a, COMPLETE).unwrap();
        assert_eq!(look(&*module), reference, "filled is built");
        module.refit(&b, COMPLETE).unwrap();
        assert_ne!(look(&*module), reference);
        module.refit(&a, COMPLETE).unwrap();
        assert_eq!(look(&*module), reference, "A to B to A is A");
    }
    let [live, packed] = both(&full);
    for seed in 0..4 {
        let source = weights(&full, seed);
        assert_eq!(live.refit(&source, COMPLETE), packed.refit(&source, COMPLETE));
        assert_eq!(look(&*live), look(&*packed));
    }
}

#[test]
fn a_refit_is_a_build_with_those_weights() {
    let full = model(EngineFlags::REFIT);
    let b = weights(&full, 1);
    let mut parts = full.parts().clone();
    for weight in &mut parts.weights {
        let tensor = engine_format::WeightSource::read(&b, &weight.name).unwrap().unwrap();
        weight.digest = Some(engine_format::Digest::of(tensor.bytes()));
        weight.data = WeightData::Stored(tensor.bytes().clone());
    }
    let built = look(&live(&Engine::new(parts).unwrap()));
    for module in both(&full) {
        module.refit(&b, COMPLETE).unwrap();
        assert_eq!(look(&*module), built);
    }
}

#[test]
fn without_weights_it_refuses_and_names_them() {
    for module in both(&model(EngineFlags::REFIT).strip().unwrap()) {
        let error = module.run(&x(1)).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::MissingWeights);
        assert_eq!(error.details(), ["direct", "pair.a", "pair.b", "single"]);
        let file = module.serialize(SerializeFlags::INCLUDE_REFIT).unwrap_err();
        assert_eq!(file.kind(), FormatErrorKind::MissingWeights);
        assert!(module.flags().contains(EngineFlags::EXCLUDE_WEIGHTS));
    }
}

/// A source with one of everything wrong.
fn unfit(full: &Engine) -> MapSource {
    let mut source = weights(full, 1);
    source.remove("pair.a");
    source.insert("direct", Tensor::zeros(engine_format::DType::F32, &[8, 2]));
    source.insert("single", Tensor::zeros(engine_format::DType::F16, &[8, 3]));
    source.insert("stranger", Tensor::zeros(engine_format::DType::F32, &[1]));
    source
}

#[test]
fn an_unfit_source_changes_nothing_and_is_told_whole() {
    let full = model(EngineFlags::REFIT);
    for engine in [full.clone(), full.strip().unwrap()] {
        let mut errors = Vec::new();
        for module in both(&engine) {
            let before = look(&*module);
            let error = module.refit(&unfit(&full), COMPLETE).unwrap_err();
            for name in ["pair.a", "direct", "single", "stranger"] {
                assert!(error.to_string().contains(name), "{name} in {error}");
            }
            errors.push(error);
            assert_eq!(look(&*module), before);
        }
        assert_eq!(errors[0], errors[1]);
    }
}

#[test]
fn a_partial_refit_changes_what_it_names() {
    let full = model(EngineFlags::REFIT);
    let (a, b) = (weights(&full, 0), weights(&full, 1));
    let names = ["direct", "single", "pair.a", "pair.b"];
    for module in both(&full) {
        let mut mixed = weights(&full, 0);
        for name in names {
            let tensor = engine_format::WeightSource::read(&b, name).unwrap().unwrap();
            mixed.insert(name, tensor.clone());
            let one: MapSource = [(name.to_owned(), tensor)].into_iter().collect();
            assert!(matches!(module.refit(&one, COMPLETE), Err(RefitError::Fit(_))));
            module.refit(&one, PARTIAL).unwrap();
            let whole = live(&full);
            whole.refit(&mixed, COMPLETE).unwrap();
            assert_eq!(look(&*module), look(&whole), "after {name}");
        }
        module.refit(&a, COMPLETE).unwrap();
        assert_eq!(look(&*module), look(&live(&full)));
    }
    for module in both(&full.strip().unwrap()) {
        let one: MapSource =
            [("direct".to_owned(), Tensor::zeros(engine_format::DType::F32, &[2, 8]))]
                .into_iter()
                .collect();
        let before = look(&*module);
        assert!(matches!(module.refit(&one, PARTIAL), Err(RefitError::Fit(_))), "it is not ready");
        assert_eq!(look(&*module), before);
    }
}

#[test]
fn the_previous_version_comes_back() {
    let full = model(EngineFlags::REFIT);
    for module in both(&full) {
        assert_eq!(module.rollback(), Err(RefitError::NothingToRollBack));
        let a = look(&*module);
        module.refit(&weights(&full, 1), COMPLETE).unwrap();
        let b = look(&*module);
        module.rollback().unwrap();
        assert_eq!(look(&*module), a);
        module.rollback().unwrap();
        assert_eq!(look(&*module), b);
    }
    for module in both(&full.strip().unwrap()) {
        module.refit(&weights(&full, 1), COMPLETE).unwrap();
        assert_eq!(
            module.rollback(),
            Err(RefitError::NothingToRollBack),
            "it had no version before"
        );
    }
}

#[test]
fn identical_engines_take_only_their_own_values() {
    let full = model(EngineFlags::REFIT_IDENTICAL);
    let reference = look(&live(&full));
    for module in both(&full.strip().unwrap()) {
        assert!(matches!(module.refit(&weights(&full, 1), COMPLETE), Err(RefitError::Fit(_))));
        assert!(matches!(module.state(), State::NeedsWeights(_)));
        module.refit(&weights(&full, 0), COMPLETE).unwrap();
        assert_eq!(look(&*module), reference);
    }
}

#[test]
fn frozen_engines_run_and_take_nothing() {
    let full = model(EngineFlags::empty());
    let [live, packed] = both(&full);
    assert_eq!(look(&*live), look(&*packed));
    for module in [live, packed] {
        assert!(matches!(module.refit(&weights(&full, 0), COMPLETE), Err(RefitError::Fit(_))));
        let options = SerializeFlags::EXCLUDE_WEIGHTS;
        assert_eq!(module.serialize(options).unwrap_err().kind(), FormatErrorKind::NotRefittable);
    }
}

#[test]
fn a_clone_goes_its_own_way() {
    let full = model(EngineFlags::REFIT);
    for module in both(&full) {
        let before = look(&*module);
        let copy = module.boxed_clone();
        assert_eq!(look(&*copy), before);
        copy.refit(&weights(&full, 1), COMPLETE).unwrap();
        let changed = look(&*copy);
        assert_ne!(changed, before);
        assert_eq!(look(&*module), before);
        module.refit(&weights(&full, 2), COMPLETE).unwrap();
        assert_eq!(look(&*copy), changed);
    }
}

#[test]
fn saving_and_loading_changes_nothing() {
    let full = model(EngineFlags::REFIT);
    for module in both(&full) {
        module.refit(&weights(&full, 3), COMPLETE).unwrap();
        let file = Bytes::from(module.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
        let engine = Engine::read(file.clone()).unwrap();
        assert_eq!(look(&live(&engine)), look(&*module));
        assert_eq!(look(&PackedModule::load(file, &poisoned()).unwrap()), look(&*module));
        assert_eq!(look(&live(&module.engine())), look(&*module));
    }
}

/// Bytes that can be damaged after they were loaded.
struct Damaged {
    good: Vec<u8>,
    bad: Vec<u8>,
    now: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Damaged {
    fn as_ref(&self) -> &[u8] {
        if self.now.load(Ordering::Relaxed) { &self.bad } else { &self.good }
    }
}

#[test]
fn a_packed_module_lives_on_its_bytes() {
    let full = model(EngineFlags::REFIT);
    let good = full.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    let now = Arc::new(AtomicBool::new(false));
    let bytes = Bytes::from_owner(Damaged { good, bad, now: now.clone() });
    let module = PackedModule::load(bytes, &poisoned()).unwrap();
    run(&module, &x(2));
    now.store(true, Ordering::Relaxed);
    let error = module.serialize(SerializeFlags::INCLUDE_REFIT).unwrap_err();
    assert_eq!(error.kind(), FormatErrorKind::Corrupt);
    let refit = module.refit(&weights(&full, 1), COMPLETE).unwrap_err();
    assert!(matches!(refit, RefitError::Format(_)), "{refit}");
}

#[test]
fn weights_that_execute_reads_are_not_copied() {
    let full = model(EngineFlags::REFIT);
    let file = Bytes::from(full.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
    let range = file.as_ptr_range();
    let engine = Engine::read(file.clone()).unwrap();
    let module = LiveModule::load(engine, &poisoned()).unwrap();
    let engine = module.engine();
    for weight in &engine.parts().weights {
        let tensor = weight.tensor().unwrap();
        assert!(range.contains(&tensor.bytes().as_ptr()), "{} was copied", weight.name);
    }
}
