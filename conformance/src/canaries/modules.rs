//! Faults of modules: a module that is right, within one that is not.

use super::sources::{Misread, Misreading};
use engine_format::{
    Block, Bytes, Digest, Engine, EngineFlags, FitError, FitPolicy, FitReport, FormatError,
    MapSource, Misfit, Port, SerializeFlags, Tensor, Weight, WeightData, WeightSource,
};
use engine_runtime::{
    Device, LoadError, Memory, Module, Outputs, Placement, RefitError, RefitOptions, Refitted,
    RunError, RunOptions, State, Values,
};
use engine_verify::scenario::{Path, Stack, ThisStack};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is wrong with the modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModuleFault {
    ExcludesForEver,
    LosesRefit,
    StaleFold,
    StaleForm,
    StaleSmall,
    FirstOutput,
    RefitsOnce,
    SharedCopy,
    SharedFork,
    Zeros,
    NamesFirst,
    StaleBytes,
    FirstSeen,
    TakesTransposed,
    UncheckedDigests,
    HalfRefit,
    RefusesUnused,
    PartialResets,
    AdapterStays,
    FirstRollback,
    MixedRun,
    KeepsSources,
    UsualNan,
}

/// A stack whose modules have a fault.
pub(super) struct Modules {
    fault: ModuleFault,
    /// The first file of each program, by the digest of what it is without weights.
    seen: Mutex<BTreeMap<Digest, Bytes>>,
}

impl Modules {
    pub fn with(fault: ModuleFault) -> Self {
        Self { fault, seen: Mutex::default() }
    }

    /// The first file of the program of `file` that was loaded, if both have all their weights.
    fn first_seen(&self, file: &Bytes) -> Result<Option<Bytes>, FormatError> {
        let engine = Engine::read(file.clone())?;
        if !engine.is_full() || engine.flags().is_frozen() {
            return Ok(None);
        }
        let program = Digest::of(&engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS)?);
        Ok(Some(lock(&self.seen).entry(program).or_insert_with(|| file.clone()).clone()))
    }
}

impl Stack for Modules {
    fn load(&self, file: Bytes, path: Path, device: &Device) -> Result<Box<dyn Module>, LoadError> {
        let module = Faulty::around(
            self.fault,
            ThisStack.load(file.clone(), path, device)?,
            Made { file: file.clone(), path },
        );
        if self.fault == ModuleFault::FirstSeen
            && path == Path::Packed
            && let Some(first) = self.first_seen(&file)?
        {
            *lock(&module.0.runs) = Some(ThisStack.load(first, path, device)?.into());
        }
        Ok(Box::new(module))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a module came from.
#[derive(Clone)]
struct Made {
    file: Bytes,
    path: Path,
}

/// A module with a fault. Clones are one and the same.
#[derive(Clone)]
struct Faulty(Arc<Within>);

struct Within {
    fault: ModuleFault,
    made: Made,
    /// What it was at first; its ports and device are those of what it is now.
    original: Arc<dyn Module>,
    /// What it says it is.
    shown: Mutex<Arc<dyn Module>>,
    /// What it runs instead.
    runs: Mutex<Option<Arc<dyn Module>>>,
    /// The first weights that it had.
    first: Mutex<Option<MapSource>>,
    /// What it writes after it gave up its weights.
    kept: Mutex<Option<Engine>>,
    ran: AtomicBool,
    refitted: AtomicBool,
}

impl Faulty {
    fn around(fault: ModuleFault, module: Box<dyn Module>, made: Made) -> Self {
        let module: Arc<dyn Module> = module.into();
        let faulty = Self(Arc::new(Within {
            fault,
            made,
            original: module.clone(),
            shown: Mutex::new(module),
            runs: Mutex::default(),
            first: Mutex::default(),
            kept: Mutex::default(),
            ran: AtomicBool::new(false),
            refitted: AtomicBool::new(false),
        }));
        faulty.note_first();
        faulty
    }

    fn has(&self, fault: ModuleFault) -> bool {
        self.0.fault == fault
    }

    fn shown(&self) -> Arc<dyn Module> {
        lock(&self.0.shown).clone()
    }

    fn runs(&self) -> Option<Arc<dyn Module>> {
        lock(&self.0.runs).clone()
    }

    /// Remembers the first weights.
    fn note_first(&self) {
        let engine = self.shown().engine();
        let mut first = lock(&self.0.first);
        if first.is_none() && engine.is_full() {
            *first = Some(weights(&engine, |_| true));
        }
    }

    /// What runs after a refit with some weights of before.
    fn left_behind(&self, before: &Engine) -> Option<Arc<dyn Module>> {
        let folded = reads(&before.parts().prepare);
        let stale = |weight: &Weight| match self.0.fault {
            ModuleFault::StaleFold => folded.contains(&weight.value),
            ModuleFault::StaleForm => {
                self.0.ran.load(Ordering::Relaxed)
                    && weight.shape.len() > 1
                    && !folded.contains(&weight.value)
            }
            ModuleFault::StaleSmall => weight.byte_len() <= 64,
            ModuleFault::FirstOutput => true,
            _ => false,
        };
        let now = self.shown().engine();
        let changed = |weight: &Weight| {
            now.weight(&weight.name).is_some_and(|now| now.digest != weight.digest)
        };
        let stale = weights(before, |weight| stale(weight) && changed(weight));
        if stale.names().is_empty() {
            return None;
        }
        let runs = self.shown().boxed_clone();
        runs.refit(&stale, FitPolicy { partial: true, ..FitPolicy::default() }).ok()?;
        Some(runs.into())
    }

    /// A module whose engine has other values than those that it accepts.
    fn forced(&self, source: &dyn WeightSource) -> Option<Arc<dyn Module>> {
        let mut parts = self.shown().engine().parts().clone();
        for weight in &mut parts.weights {
            let bytes = source.read(&weight.name).ok()??.into_bytes();
            weight.digest = Some(Digest::of(&bytes));
            weight.data = WeightData::Stored(bytes);
        }
        parts.flags.remove(EngineFlags::EXCLUDE_WEIGHTS);
        let file = Engine::new(parts).ok()?.serialize(SerializeFlags::INCLUDE_REFIT).ok()?;
        Some(ThisStack.load(file.into(), self.0.made.path, self.device()).ok()?.into())
    }
}

/// Weights that an engine holds, as a source.
fn weights(engine: &Engine, wanted: impl Fn(&Weight) -> bool) -> MapSource {
    let rows = engine.parts().weights.iter().filter(|weight| wanted(weight));
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}

/// The first tensor of a source that the engine passes over, as one that it does not know.
fn first_unused(engine: &Engine, source: &dyn WeightSource) -> Option<Misfit> {
    let is_ignored = |name: &String| engine.parts().ignored.contains(name);
    let name = source.names().into_iter().find(is_ignored)?;
    let found = source.info(&name)?;
    Some(Misfit::Extra { name, found })
}

/// All that the nodes of a program read.
fn reads(block: &Block) -> BTreeSet<engine_format::ValueId> {
    block.nodes.iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect()
}

/// The tensors of a source that others do not have as they are, as far as they can be read.
fn without(source: &dyn WeightSource, others: &MapSource) -> MapSource {
    let read = |name: String| Some((name.clone(), source.read(&name).ok()??));
    let differs = |(name, tensor): &(String, Tensor)| {
        others.read(name).ok().flatten().as_ref() != Some(tensor)
    };
    source.names().into_iter().filter_map(read).filter(differs).collect()
}

/// Every second tensor of a source, as far as it can be read.
fn every_second(source: &dyn WeightSource) -> MapSource {
    let names = source.names().into_iter().step_by(2);
    names.filter_map(|name| Some((name.clone(), source.read(&name).ok()??))).collect()
}

const PARTIAL: FitPolicy = FitPolicy { partial: true, allow_extra: false };

impl Module for Faulty {
    fn inputs(&self) -> &[Port] {
        self.0.original.inputs()
    }

    fn outputs(&self) -> &[Port] {
        self.0.original.outputs()
    }

    fn state(&self) -> State {
        match self.shown().state() {
            State::NeedsWeights(names) if self.has(ModuleFault::NamesFirst) => {
                State::NeedsWeights(names.into_iter().take(1).collect())
            }
            state => state,
        }
    }

    fn flags(&self) -> EngineFlags {
        self.shown().flags()
    }

    fn engine(&self) -> Engine {
        self.shown().engine()
    }

    fn run_with(&self, inputs: &Values, options: &RunOptions) -> Result<Outputs, RunError> {
        let shown = self.shown();
        self.0.ran.store(true, Ordering::Relaxed);
        if self.has(ModuleFault::Zeros) && !matches!(shown.state(), State::Ready(_)) {
            let engine = shown.engine();
            let zeros: MapSource = engine
                .parts()
                .weights
                .iter()
                .map(|w| (w.name.clone(), Tensor::zeros(w.dtype, &w.shape)))
                .filter(|(name, _)| engine.missing().contains(name))
                .collect();
            let zeroed = shown.boxed_clone();
            if zeroed.refit(&zeros, FitPolicy::default()).is_ok() {
                return zeroed.run_with(inputs, options);
            }
        }
        let outputs = shown.run_with(inputs, options).map_err(|error| {
            match self.has(ModuleFault::NamesFirst) {
                true => {
                    let first = error.details().iter().take(1).cloned().collect();
                    RunError::new(error.kind(), "the engine lacks weights").items(first)
                }
                false => error,
            }
        })?;
        let Some(runs) = self.runs() else { return Ok(outputs) };
        let stale = runs.run_with(inputs, options)?;
        let mut mixed = Outputs { version: outputs.version, ..stale };
        if self.has(ModuleFault::FirstOutput)
            && let Some(first) = self.outputs().first()
            && let Some(right) = outputs.tensors.get(&first.name)
        {
            mixed.tensors.insert(first.name.clone(), right.clone());
        }
        Ok(mixed)
    }

    fn refit_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Refitted, RefitError> {
        let shown = self.shown();
        let before = shown.engine();
        if self.has(ModuleFault::RefitsOnce) && self.0.refitted.load(Ordering::Relaxed) {
            return shown.boxed_clone().refit_with(source, options);
        }
        if self.has(ModuleFault::RefusesUnused)
            && let Some(extra) = first_unused(&before, source)
        {
            let report = FitReport { misfits: vec![extra], ..FitReport::default() };
            return Err(FitError::Unfit(report).into());
        }
        if self.has(ModuleFault::MixedRun)
            && let Ok(mixed) = shown.fork_weights(&every_second(source), PARTIAL)
        {
            *lock(&self.0.runs) = Some(mixed.into());
        }
        let misread = |how| Misread { source, engine: before.clone(), how };
        let refitted = match self.0.fault {
            ModuleFault::TakesTransposed => {
                shown.refit_with(&misread(Misreading::Transposed), options)
            }
            ModuleFault::UsualNan => shown.refit_with(&misread(Misreading::UsualNan), options),
            ModuleFault::PartialResets if options.fit.partial => {
                let mut whole = lock(&self.0.first).clone().unwrap_or_default();
                for name in source.names() {
                    if let Ok(Some(tensor)) = source.read(&name) {
                        whole.insert(name, tensor);
                    }
                }
                shown.refit_with(&whole, options)
            }
            ModuleFault::AdapterStays if options.fit.partial => {
                let first = lock(&self.0.first).clone().unwrap_or_default();
                shown.refit_with(&without(source, &first), options)
            }
            _ => shown.refit_with(source, options),
        };
        *lock(&self.0.runs) = None;
        if let Err(RefitError::Fit(FitError::Unfit(_))) = &refitted {
            if self.has(ModuleFault::HalfRefit) {
                for name in source.names() {
                    if let Ok(Some(tensor)) = source.read(&name) {
                        drop(shown.refit(&MapSource::from_iter([(name, tensor)]), PARTIAL));
                    }
                }
            }
            if self.has(ModuleFault::UncheckedDigests)
                && shown.flags().contains(EngineFlags::REFIT_IDENTICAL)
                && let Some(forced) = self.forced(source)
                && let State::Ready(version) = forced.state()
            {
                *lock(&self.0.shown) = forced;
                return Ok(Refitted { version, fit: FitReport::default() });
            }
        }
        let refitted = refitted?;
        self.0.refitted.store(true, Ordering::Relaxed);
        self.note_first();
        *lock(&self.0.kept) = None;
        *lock(&self.0.runs) = self.left_behind(&before);
        Ok(refitted)
    }

    fn fork_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Box<dyn Module>, RefitError> {
        if self.has(ModuleFault::SharedFork) {
            self.refit_with(source, options)?;
            return Ok(self.boxed_clone());
        }
        let fork = self.shown().fork_with(source, options)?;
        Ok(Box::new(Self::around(self.0.fault, fork, self.0.made.clone())))
    }

    fn rollback(&self) -> Result<Digest, RefitError> {
        let shown = self.shown();
        *lock(&self.0.runs) = None;
        if self.has(ModuleFault::FirstRollback) {
            // It is refused where a rollback is.
            shown.boxed_clone().rollback()?;
            let first = lock(&self.0.first).clone().unwrap_or_default();
            return Ok(shown.refit(&first, FitPolicy::default())?.version);
        }
        shown.rollback()
    }

    fn drop_sources(&self) -> Result<(), RefitError> {
        let shown = self.shown();
        let kept = Some(shown.engine())
            .filter(|engine| self.has(ModuleFault::KeepsSources) && engine.is_full());
        shown.drop_sources()?;
        *lock(&self.0.kept) = kept;
        Ok(())
    }

    fn serialize(&self, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        if let Some(kept) = &*lock(&self.0.kept) {
            return kept.serialize(options);
        }
        let loaded = || Engine::read(self.0.made.file.clone());
        match self.0.fault {
            ModuleFault::ExcludesForEver if !loaded()?.is_full() => {
                self.shown().serialize(options | SerializeFlags::EXCLUDE_WEIGHTS)
            }
            ModuleFault::LosesRefit => {
                self.shown().serialize(options - SerializeFlags::INCLUDE_REFIT)
            }
            ModuleFault::StaleBytes if loaded()?.is_full() => loaded()?.serialize(options),
            _ => self.shown().serialize(options),
        }
    }

    fn memory(&self) -> Memory {
        self.shown().memory()
    }

    fn trim(&self) {
        self.shown().trim();
    }

    fn placement(&self) -> Vec<Placement> {
        self.shown().placement()
    }

    fn device(&self) -> &Device {
        self.0.original.device()
    }

    fn boxed_clone(&self) -> Box<dyn Module> {
        if self.has(ModuleFault::SharedCopy) {
            return Box::new(self.clone());
        }
        let copy = self.shown().boxed_clone();
        let copy = Self::around(self.0.fault, copy, self.0.made.clone());
        *lock(&copy.0.runs) = self.runs();
        *lock(&copy.0.first) = lock(&self.0.first).clone();
        Box::new(copy)
    }
}
