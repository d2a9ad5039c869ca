//! What a module does with its weights while it serves: forks, rollbacks, failures midway, cancelled runs, sources given up.

use super::on_gpu::gpu;
use super::toy::{Toy, bits, live, model, poisoned, run, weights, x};
use crate::value::values;
use crate::{
    Cancel, Device, DeviceInfo, Inputs, LiveModule, Module, PackedModule, RefitError, RunErrorKind,
    RunOptions, State,
};
use engine_format::{
    Bytes, DType, Engine, EngineFlags, FitPolicy, FormatErrorKind, MapSource, SerializeFlags,
    SourceError, Tensor, TensorInfo, WeightSource,
};
use engine_ops::case::ramp;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const COMPLETE: FitPolicy = FitPolicy { partial: false, allow_extra: false };
const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };

fn both_on(engine: &Engine, device: &Device) -> [Box<dyn Module>; 2] {
    let options = match engine.is_full() {
        true => SerializeFlags::INCLUDE_REFIT,
        false => SerializeFlags::EXCLUDE_WEIGHTS,
    };
    let bytes = Bytes::from(engine.serialize(options).unwrap());
    let live = LiveModule::load(engine.clone(), device).unwrap();
    [Box::new(live), Box::new(PackedModule::load(bytes, device).unwrap())]
}

fn both(engine: &Engine) -> [Box<dyn Module>; 2] {
    both_on(engine, &poisoned())
}

/// The outputs of a fresh module with these weights.
fn fresh(full: &Engine, source: &MapSource) -> Vec<Vec<u8>> {
    fresh_on(&poisoned(), full, source)
}

fn fresh_on(device: &Device, full: &Engine, source: &MapSource) -> Vec<Vec<u8>> {
    let filled = full.fill(source, COMPLETE).unwrap();
    bits(&run(&LiveModule::load(filled, device).unwrap(), &x(2)))
}

/// The CPU, and GPUs on which kernels read weights, or nodes that run on the host, or both.
fn devices() -> Vec<Device> {
    let placements: [&[&str]; 3] = [&[], &["Concat"], &["Relu"]];
    let gpus = placements.into_iter().filter_map(gpu);
    std::iter::once(poisoned()).chain(gpus).collect()
}

/// One weight of another set.
fn one(full: &Engine, name: &str, seed: u32) -> MapSource {
    let tensor = weights(full, seed).read(name).unwrap().unwrap();
    [(name.to_owned(), tensor)].into_iter().collect()
}

/// A source that notes the threads it is read on, and fails after some reads.
struct Watched {
    inner: MapSource,
    reads_left: AtomicUsize,
    threads: Mutex<BTreeSet<String>>,
}

impl Watched {
    fn failing_after(inner: MapSource, reads: usize) -> Self {
        Self { inner, reads_left: AtomicUsize::new(reads), threads: Mutex::default() }
    }

    fn threads(&self) -> Vec<String> {
        std::mem::take(&mut *self.threads.lock().unwrap()).into_iter().collect()
    }
}

impl WeightSource for Watched {
    fn origin(&self) -> String {
        "a source under watch".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.inner.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        self.threads.lock().unwrap().insert(thread);
        let left = |n: usize| n.checked_sub(1);
        if self.reads_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err() {
            let why = "the disk is gone".to_owned();
            return Err(SourceError { name: name.to_owned(), origin: self.origin(), why });
        }
        self.inner.read(name)
    }
}

#[test]
fn a_source_that_fails_midway_changes_nothing() {
    let full = model(EngineFlags::REFIT);
    for device in devices() {
        for module in both_on(&full, &device) {
            module.refit(&weights(&full, 1), COMPLETE).unwrap();
            let (state, before) = (module.state(), bits(&run(&*module, &x(2))));
            for reads in 0..full.parts().weights.len() {
                let source = Watched::failing_after(weights(&full, 2), reads);
                let error = module.refit(&source, COMPLETE).unwrap_err().to_string();
                assert!(error.contains("the disk is gone"), "{error}");
                let fork = module.fork_weights(&source, COMPLETE);
                assert!(fork.err().unwrap().to_string().contains("the disk is gone"));
                assert_eq!(module.state(), state);
                assert_eq!(bits(&run(&*module, &x(2))), before);
            }
            // What a rollback goes to is untouched too.
            module.rollback().unwrap();
            let expected = fresh_on(&device, &full, &weights(&full, 0));
            assert_eq!(bits(&run(&*module, &x(2))), expected);
        }
    }
    for module in both(&full.strip().unwrap()) {
        let source = Watched::failing_after(weights(&full, 2), 2);
        module.refit(&source, COMPLETE).unwrap_err();
        assert!(matches!(module.state(), State::NeedsWeights(names) if names.len() == 4));
    }
}

/// A source that has nothing in memory, as files are.
struct Streamed(MapSource);

impl WeightSource for Streamed {
    fn origin(&self) -> String {
        "a stream".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.0.info(name)
    }

    fn read(&self, _name: &str) -> Result<Option<Tensor>, SourceError> {
        unreachable!("what is not resident is streamed")
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let tensor = self.0.read(name)?.unwrap();
        tensor.bytes().chunks(7).for_each(sink);
        Ok(true)
    }
}

#[test]
fn a_refit_reads_into_memory_of_a_version_that_nothing_goes_back_to() {
    let full = model(EngineFlags::REFIT);
    let module = LiveModule::load(full.clone(), &poisoned()).unwrap();
    let places = || -> BTreeSet<usize> {
        let engine = module.engine();
        let weights = engine.parts().weights.iter();
        weights.map(|w| w.tensor().unwrap().bytes().as_ptr().addr()).collect()
    };
    let mut seen = Vec::new();
    for seed in 1..=6 {
        let source = weights(&full, seed);
        module.refit(&Streamed(source.clone()), COMPLETE).unwrap();
        assert_eq!(bits(&run(&module, &x(2))), fresh(&full, &source));
        seen.push(places());
    }
    // Three sets of weights take turns.
    assert_eq!((&seen[0], &seen[1], &seen[2]), (&seen[3], &seen[4], &seen[5]));
    assert!(seen[0].is_disjoint(&seen[1]) && seen[1].is_disjoint(&seen[2]));
    module.rollback().unwrap();
    assert_eq!(bits(&run(&module, &x(2))), fresh(&full, &weights(&full, 5)));

    // What a caller still holds is left alone.
    let held = module.engine();
    for seed in 7..=9 {
        module.refit(&Streamed(weights(&full, seed)), COMPLETE).unwrap();
    }
    assert_eq!(bits(&run(&live(&held), &x(2))), fresh(&full, &weights(&full, 5)));
}

#[test]
fn refits_work_on_threads_of_their_own() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = pool.thread_name(|_| "refits".to_owned()).build().unwrap();
    let device = Device::cpu().with_refit_pool(Arc::new(pool));
    let full = model(EngineFlags::REFIT);
    let source = Watched::failing_after(weights(&full, 1), usize::MAX);
    for module in both_on(&full.strip().unwrap(), &device) {
        module.refit(&source, COMPLETE).unwrap();
        assert_eq!(source.threads(), ["refits"], "also before anything runs");
        module.refit(&source, COMPLETE).unwrap();
        assert_eq!(source.threads(), ["refits"]);
        module.fork_weights(&source, COMPLETE).unwrap();
        assert_eq!(source.threads(), ["refits"]);
    }
    let [module, _] = both(&full);
    module.refit(&source, COMPLETE).unwrap();
    let threads = source.threads();
    assert!(threads.iter().all(|name| name.starts_with("refit-")), "{threads:?}");
}

#[test]
fn forks_serve_their_own_weights_side_by_side() {
    let full = model(EngineFlags::REFIT);
    let (a, b, c) = (weights(&full, 0), weights(&full, 1), weights(&full, 2));
    for module in both(&full) {
        let fork = module.fork_weights(&b, COMPLETE).unwrap();
        let grandchild = fork.fork_weights(&one(&full, "pair.a", 2), PARTIAL).unwrap();
        assert_eq!(bits(&run(&*module, &x(2))), fresh(&full, &a));
        assert_eq!(bits(&run(&*fork, &x(2))), fresh(&full, &b));
        let mut mixed = b.clone();
        mixed.insert("pair.a", c.read("pair.a").unwrap().unwrap());
        assert_eq!(bits(&run(&*grandchild, &x(2))), fresh(&full, &mixed));
        assert_eq!(fork.rollback(), Err(RefitError::NothingToRollBack), "it began with these");
        module.refit(&c, COMPLETE).unwrap();
        assert_eq!(bits(&run(&*fork, &x(2))), fresh(&full, &b));
        fork.refit(&a, COMPLETE).unwrap();
        assert_eq!(bits(&run(&*module, &x(2))), fresh(&full, &c));
        assert_eq!(bits(&run(&*grandchild, &x(2))), fresh(&full, &mixed));
        let whole = full.fill(&a, COMPLETE).unwrap();
        assert_eq!(fork.state(), State::Ready(whole.version().unwrap()));
    }
    for module in both(&full.strip().unwrap()) {
        let fork = module.fork_weights(&b, COMPLETE).unwrap();
        assert_eq!(bits(&run(&*fork, &x(2))), fresh(&full, &b));
        assert!(matches!(module.state(), State::NeedsWeights(_)));
    }
}

/// Equal bytes are one piece of memory, whoever brought them.
#[test]
fn a_fork_shares_the_weights_that_are_equal() {
    let full = model(EngineFlags::REFIT);
    let module = live(&full);
    let mut source = weights(&full, 0);
    source.insert("single", weights(&full, 1).read("single").unwrap().unwrap());
    let fork = module.fork_weights(&source, COMPLETE).unwrap();
    let (ours, theirs) = (module.engine(), fork.engine());
    for (a, b) in ours.parts().weights.iter().zip(&theirs.parts().weights) {
        let shared = a.tensor().unwrap().bytes().as_ptr() == b.tensor().unwrap().bytes().as_ptr();
        assert_eq!(shared, a.name != "single", "{}", a.name);
    }
}

#[test]
fn a_cancelled_run_says_so_and_leaves_the_module_well() {
    let full = model(EngineFlags::REFIT);
    for module in both(&full) {
        let cancel = Cancel::new();
        let options = RunOptions { cancel: Some(cancel.clone()), ..RunOptions::default() };
        let expected = bits(&run(&*module, &x(2)));
        assert_eq!(bits(&module.run_with(&values(&x(2)), &options).unwrap()), expected);
        cancel.cancel();
        let error = module.run_with(&values(&x(2)), &options).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Cancelled, "{error}");
        assert_eq!(bits(&run(&*module, &x(2))), expected);
    }
}

#[test]
fn a_run_that_is_cancelled_midway_ends_before_the_next_step() {
    const STEPS: usize = 40;
    let mut toy = Toy::new(EngineFlags::REFIT);
    let mut value = toy.input("x", DType::F32, &["n"]);
    for _ in 0..STEPS {
        value = toy.run("Sin", &[value], &[]);
    }
    toy.output("y", value, DType::F32);
    let module = live(&toy.build());
    let inputs = values(&Inputs::from([("x".to_owned(), ramp(&[8]))]));
    let run = |cancel: &Cancel| {
        let options = RunOptions { cancel: Some(cancel.clone()), ..RunOptions::default() };
        module.run_with(&inputs, &options).map(drop)
    };
    let never = Cancel::after(usize::MAX);
    run(&never).unwrap();
    let looks = never.looks();
    assert!(looks >= STEPS, "a run of {STEPS} steps looks {looks} times");
    // The look that finds it cancelled is the last one.
    for before in 0..looks {
        let cancel = Cancel::after(before);
        assert_eq!(run(&cancel).unwrap_err().kind(), RunErrorKind::Cancelled);
        assert_eq!(cancel.looks(), before + 1);
    }
}

/// Both modules on every device.
fn on_all(full: &Engine) -> impl Iterator<Item = (Device, Box<dyn Module>)> {
    let on = |device: Device| both_on(full, &device).map(|module| (device.clone(), module));
    devices().into_iter().flat_map(on)
}

#[test]
fn without_sources_it_runs_and_takes_whole_refits_only() {
    let full = model(EngineFlags::REFIT);
    let stripped = full.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    for (device, module) in on_all(&full) {
        module.refit(&weights(&full, 1), COMPLETE).unwrap();
        let (state, before) = (module.state(), bits(&run(&*module, &x(2))));
        module.drop_sources().unwrap();
        assert_eq!(module.state(), state);
        assert_eq!(bits(&run(&*module, &x(2))), before);
        assert_eq!(module.engine().missing().len(), 4);

        let file = module.serialize(SerializeFlags::INCLUDE_REFIT).unwrap_err();
        assert_eq!(file.kind(), FormatErrorKind::MissingWeights);
        assert!(file.to_string().contains("gave up its source weights"), "{file}");
        assert_eq!(module.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap(), stripped);
        let all = ["direct", "pair.a", "pair.b", "single"];
        match module.rollback() {
            Err(RefitError::SourcesDropped { missing, .. }) => assert_eq!(missing, all),
            other => panic!("{other:?}"),
        }
        match module.refit(&one(&full, "single", 2), PARTIAL) {
            Err(RefitError::SourcesDropped { missing, .. }) => assert_eq!(missing, all[..3]),
            other => panic!("{other:?}"),
        }
        assert_eq!(module.state(), state);
        let copy = module.boxed_clone();
        assert_eq!(bits(&run(&*copy, &x(2))), before);

        // Some of the weights are equal: what depends on them alone is not prepared again.
        let mut mixed = weights(&full, 1);
        mixed.insert("single", weights(&full, 2).read("single").unwrap().unwrap());
        module.refit(&mixed, COMPLETE).unwrap();
        assert_eq!(bits(&run(&*module, &x(2))), fresh_on(&device, &full, &mixed));
        assert_eq!(module.rollback(), Err(RefitError::NothingToRollBack));
        module.refit(&one(&full, "direct", 3), PARTIAL).unwrap();
        module.rollback().unwrap();
        assert_eq!(bits(&run(&*module, &x(2))), fresh_on(&device, &full, &mixed));
    }
}

#[test]
fn memory_is_said_by_kind_and_given_up() {
    let full = model(EngineFlags::REFIT);
    let bytes = |name: &str| weights(&full, 0).read(name).unwrap().unwrap().bytes().len() as u64;
    let all: u64 = ["direct", "pair.a", "pair.b", "single"].map(bytes).iter().sum();
    for (device, module) in on_all(&full) {
        let loaded = module.memory();
        assert_eq!((loaded.weights, loaded.previous), (all, 0));
        let before = bits(&run(&*module, &x(2)));
        assert!(module.memory().runs > 0, "{device}");
        module.trim();
        assert_eq!(module.memory().runs, 0, "{device}");
        assert_eq!(bits(&run(&*module, &x(2))), before);

        module.refit(&one(&full, "single", 2), PARTIAL).unwrap();
        let refitted = module.memory();
        assert_eq!(refitted.weights, all);
        assert!(refitted.previous >= bytes("single"), "{refitted:?}");
        module.drop_sources().unwrap();
        let dropped = module.memory();
        assert_eq!((dropped.weights, dropped.previous), (0, 0));
        match device.info() {
            DeviceInfo::Gpu(_) => assert!(dropped.on_device >= bytes("direct"), "{dropped:?}"),
            _ => {
                assert_eq!(dropped.on_device, 0);
                assert!(dropped.constants >= loaded.constants + bytes("direct"), "{dropped:?}");
            }
        }
        assert_eq!(
            dropped.total(),
            dropped.constants + dropped.on_device + dropped.forms + dropped.runs
        );
    }
}

#[test]
fn giving_up_sources_gives_up_the_file() {
    struct Counted {
        file: Vec<u8>,
        _alive: Arc<()>,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.file
        }
    }
    let full = model(EngineFlags::REFIT);
    let file = full.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
    for packed in [false, true] {
        let alive = Arc::new(());
        let bytes = Bytes::from_owner(Counted { file: file.clone(), _alive: alive.clone() });
        let module: Box<dyn Module> = match packed {
            true => Box::new(PackedModule::load(bytes, &poisoned()).unwrap()),
            false => Box::new(live(&Engine::read(bytes).unwrap())),
        };
        let before = bits(&run(&*module, &x(2)));
        assert_eq!(Arc::strong_count(&alive), 2, "the module reads its weights in the file");
        module.drop_sources().unwrap();
        assert_eq!(Arc::strong_count(&alive), 1, "packed: {packed}");
        assert_eq!(bits(&run(&*module, &x(2))), before);
    }
}

#[test]
fn frozen_engines_and_those_that_wait_for_weights_keep_what_they_have() {
    for module in both(&model(EngineFlags::empty())) {
        let error = module.drop_sources().unwrap_err();
        assert!(
            matches!(&error, RefitError::Format(e) if e.kind() == FormatErrorKind::NotRefittable)
        );
        run(&*module, &x(2));
    }
    let full = model(EngineFlags::REFIT);
    for module in both(&full.strip().unwrap()) {
        module.drop_sources().unwrap();
        assert!(matches!(module.state(), State::NeedsWeights(_)));
        module.refit(&weights(&full, 1), COMPLETE).unwrap();
        assert_eq!(bits(&run(&*module, &x(2))), fresh(&full, &weights(&full, 1)));
    }
}
