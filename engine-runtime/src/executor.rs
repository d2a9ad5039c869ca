//! A full engine made ready on a device: its `prepare` program run, its `execute` program able to run.

use crate::backend::{Constants, foreign};
use crate::cpu::{CpuBackend, CpuOptions, Resident};
use crate::device::Device;
use crate::error::{LoadError, RunError, RunErrorKind};
use crate::held::{DeviceTensor, Held};
use crate::inputs::{self, Ordered};
use crate::memory::Memory;
use crate::options::RunOptions;
use crate::placement::Placement;
use crate::plan::item::RunInputs;
use crate::plan::program::{self, Body, Program};
use crate::runner::{self, Follower, Runner};
use crate::session::Session;
use crate::value::{self, Outputs, Value, Values};
use engine_format::{Block, Bytes, Digest, Engine, Port, Tensor, ValueId, Weight};
use engine_ops::demand::{Demand, demands};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The two programs of an engine, checked against the operator table. The same for every set of weights.
pub(crate) struct Programs {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    prepare: Block,
    pub execute: Arc<Program>,
    /// Values `execute` reads that are not its own: weights and prepared values.
    residents: BTreeSet<ValueId>,
    known: Arc<BTreeMap<ValueId, Tensor>>,
    demands: Arc<Vec<Demand>>,
}

impl Programs {
    /// Checks every node of `engine`.
    pub fn check(engine: &Engine) -> Result<Arc<Self>, LoadError> {
        let parts = engine.parts();
        let mut problems = Vec::new();
        Body::check(&parts.prepare, &mut problems);
        let body = Body::check(&parts.execute, &mut problems);
        program::report(problems)?;
        let literals = parts.literals.iter().map(|l| (l.value, l.tensor.clone()));
        let pinned = parts.weights.iter().filter(|w| w.pinned.is_some());
        // In memory of their own, so that the engine's file is not kept for the sake of a few bytes.
        let pinned = pinned.filter_map(|w| Some((w.value, w.tensor()?.compact())));
        let known: Arc<BTreeMap<_, _>> = Arc::new(literals.chain(pinned).collect());
        let demands = Arc::new(demands(parts.values as usize, &[&parts.prepare, &parts.execute]));
        let mut reads = BTreeSet::new();
        body.reads_from(0, &mut |v| {
            reads.insert(v);
        });
        let given =
            parts.weights.iter().map(|w| w.value).chain(parts.prepare.outputs.iter().copied());
        let residents = given.filter(|v| reads.contains(v) && !known.contains_key(v)).collect();
        let execute = Arc::new(Program {
            halves: Arc::new(body.halves()),
            body,
            values: parts.values as usize,
            inputs: parts.inputs.iter().map(|port| port.value).collect(),
            known: known.clone(),
            demands: demands.clone(),
            on_device: BTreeSet::new(),
        });
        Ok(Arc::new(Self {
            inputs: parts.inputs.clone(),
            outputs: parts.outputs.clone(),
            prepare: parts.prepare.clone(),
            execute,
            residents,
            known,
            demands,
        }))
    }

    /// The constants of `execute`, or those of them that depend on a weight of `changed`.
    fn prepare(
        &self,
        engine: &Engine,
        device: &Device,
        changed: Option<&BTreeSet<ValueId>>,
        options: &RunOptions,
    ) -> Result<Constants, RunError> {
        let weights = &engine.parts().weights;
        let affected = changed.map(|changed| affected(&self.prepare, changed));
        let is_affected = |id: &ValueId| affected.as_ref().is_none_or(|ids| ids.contains(id));
        let read: BTreeSet<ValueId> = self.residents.iter().copied().filter(is_affected).collect();
        let direct = weights.iter().filter(|weight| read.contains(&weight.value));
        let mut constants: Constants = direct.map(|w| (w.value, stored(w))).collect();
        let wanted: Vec<ValueId> =
            read.into_iter().filter(|id| !constants.contains_key(id)).collect();
        if !wanted.is_empty() {
            let prepared = self.run_prepare(weights, device, &wanted, options)?;
            constants.extend(wanted.into_iter().zip(prepared));
        }
        Ok(constants)
    }

    /// Runs as much of `prepare` as leads to `wanted`, with the ordinary CPU kernels on every device, so that prepared
    /// bits are the same everywhere. The caller decides on which threads: see [`Device::preparing`].
    fn run_prepare(
        &self,
        weights: &[Weight],
        device: &Device,
        wanted: &[ValueId],
        options: &RunOptions,
    ) -> Result<Vec<Tensor>, RunError> {
        let mut problems = Vec::new();
        let body = Body::check(&Body::restricted(&self.prepare, wanted.to_vec()), &mut problems);
        assert!(problems.is_empty(), "the whole of prepare was checked at load: {problems:?}");
        let mut reads = BTreeSet::new();
        body.reads_from(0, &mut |v| {
            reads.insert(v);
        });
        let read = weights.iter().filter(|w| reads.contains(&w.value));
        let constants: Constants = read.map(|w| (w.value, stored(w))).collect();
        let program = Program {
            halves: Arc::default(),
            body,
            values: self.execute.values,
            inputs: Vec::new(),
            known: self.known.clone(),
            demands: self.demands.clone(),
            on_device: BTreeSet::new(),
        };
        let host = CpuOptions { pool: None, ..device.cpu_options() };
        let backend = Arc::new(CpuBackend::new(host));
        let metas = runner::metas(&constants);
        let session = Session::new(backend, Arc::new(program), metas, device.limits());
        let given = RunInputs { tensors: &[], held: &[], layout: &[] };
        let values = session.run(&Resident::new(constants), given, options)?;
        let tensor = |value| match value {
            Value::Tensor(tensor) => Ok(tensor),
            Value::OnDevice(tensor) => tensor.to_host(),
            Value::Sequence(_) | Value::Absent => {
                let what = "prepare gives a sequence or an absent value, expected tensors";
                Err(RunError::new(RunErrorKind::Node, what))
            }
        };
        values.into_iter().map(tensor).collect()
    }
}

const FULL: &str = "executors are made of engines that have all their weights";

fn stored(weight: &Weight) -> Tensor {
    weight.tensor().expect(FULL)
}

/// Digests of all weights in table order.
fn digests(engine: &Engine) -> Vec<Digest> {
    engine.parts().weights.iter().map(|weight| weight.digest.expect(FULL)).collect()
}

/// The files that an engine's weights are parts of, unless they changed. Those that runs on `device` read of: a GPU has copies.
fn unchanged_files(engine: &Engine, device: &Device) -> Result<Vec<Bytes>, RunError> {
    let files = engine.files();
    files.iter().try_for_each(Bytes::check)?;
    Ok(if device.is_gpu() { Vec::new() } else { files })
}

/// The values that depend on `changed`, those included.
fn affected(block: &Block, changed: &BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let mut affected = changed.clone();
    for node in &block.nodes {
        let mut hit = false;
        program::reads(node, &mut |v| hit |= affected.contains(&v));
        if hit {
            affected.extend(node.outputs.iter().flatten());
        }
    }
    affected
}

/// An engine with all its weights, prepared and resident on a device. It holds the constants that `execute` reads, not the
/// weights that only `prepare` does.
pub(crate) struct Executor {
    /// Of the weights, in table order.
    digests: Vec<Digest>,
    version: Digest,
    device: Device,
    programs: Arc<Programs>,
    runner: Box<dyn Runner>,
    /// Files that constants may be parts of, a range of bytes of each.
    files: Vec<Bytes>,
}

impl Executor {
    /// Prepares a full engine; `options` say how `prepare` is run.
    pub fn load(
        engine: &Engine,
        programs: Arc<Programs>,
        device: &Device,
        options: &RunOptions,
    ) -> Result<Self, RunError> {
        let version = engine.version().expect(FULL);
        let files = unchanged_files(engine, device)?;
        let constants = programs.prepare(engine, device, None, options)?;
        let runner = device.runner(programs.execute.clone(), constants)?;
        let digests = digests(engine);
        Ok(Self { digests, version, device: device.clone(), programs, runner, files })
    }

    /// The same program with the weights of `engine`, which differs in nothing else. Only what depends on weights that
    /// differ is prepared again.
    pub fn refit(&self, engine: &Engine, options: &RunOptions) -> Result<Self, RunError> {
        self.follow().finish(engine, options)
    }

    /// Begins a refit whose weights are still being read.
    pub fn follow(&self) -> Following<'_> {
        Following { from: self, runner: self.runner.follow() }
    }

    /// The same with no constant that keeps more memory alive than its own: an engine file, say.
    pub fn compact(&self) -> Result<Self, RunError> {
        self.check_files()?;
        Ok(Self { files: Vec::new(), ..self.running(self.runner.compact()?) })
    }

    /// The same weights in another runner.
    fn running(&self, runner: Box<dyn Runner>) -> Self {
        Self {
            digests: self.digests.clone(),
            version: self.version,
            device: self.device.clone(),
            programs: self.programs.clone(),
            runner,
            files: self.files.clone(),
        }
    }

    fn check_files(&self) -> Result<(), RunError> {
        Ok(self.files.iter().try_for_each(Bytes::check)?)
    }

    /// A constant that `execute` runs with, as the host has it, if it does.
    #[cfg(test)]
    pub fn on_host(&self, id: ValueId) -> Option<Tensor> {
        self.runner.on_host(id)
    }

    /// A copy that shares nothing that changes.
    pub fn fork(&self) -> Self {
        self.running(self.runner.fork())
    }

    pub fn version(&self) -> Digest {
        self.version
    }

    /// What it holds beside `engine`, whose weights it has in common with it.
    pub fn memory(&self, engine: &Engine) -> Memory {
        let held = engine.parts().weights.iter().filter(|weight| weight.tensor().is_some());
        let held: BTreeSet<ValueId> = held.map(|weight| weight.value).collect();
        self.runner.memory(&|id| held.contains(&id))
    }

    /// Gives up the memory kept from runs.
    pub fn trim(&self) {
        self.runner.trim();
    }

    /// Where the nodes of the plans made so far run.
    pub fn placement(&self) -> Vec<Placement> {
        self.runner.placement()
    }

    /// What runs would make of the constants on their way, for the shapes that were run so far. Who takes it does it, or leaves
    /// it to the runs.
    pub fn forms(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        self.runner.forms()
    }

    /// What a value that an earlier run left is taken as: a tensor of the host, if it is one or plans depend on its contents, or `None`, itself.
    fn taken(&self, port: usize, value: &DeviceTensor) -> Result<Option<Tensor>, RunError> {
        let Held::Gpu(_) = value.held() else { return value.to_host().map(Some) };
        if !self.device.holds(value) {
            return Err(foreign(value, &self.device));
        }
        let program = &self.programs.execute;
        match program.keys(program.inputs[port], value.meta().byte_len()) {
            true => value.to_host().map(Some),
            false => Ok(None),
        }
    }

    /// Checks the inputs and runs.
    pub fn run(&self, inputs: &Values, options: &RunOptions) -> Result<Outputs, RunError> {
        self.check_files()?;
        let taken = |port, value: &DeviceTensor| self.taken(port, value);
        let ordered = inputs::ordered(&self.programs.inputs, inputs, &taken)?;
        let Ordered { tensors, held, layout } = &ordered;
        let given = RunInputs { tensors, held, layout };
        let ports = &self.programs.outputs;
        let wanted = value::wanted(ports, options)?;
        let results = self.runner.run(given, wanted.as_ref(), options)?;
        let ports = match &wanted {
            Some(wanted) => wanted.outputs.iter().map(|&i| &ports[i]).collect(),
            None => ports.iter().collect::<Vec<_>>(),
        };
        value::outputs(&ports, results, self.version)
    }
}

/// A refit under way: weights that differ are moved to the device while others are still being read.
pub(crate) struct Following<'a> {
    from: &'a Executor,
    runner: Box<dyn Follower + 'a>,
}

impl Following<'_> {
    /// Takes the new state of the weight in `row` of the table, by many threads at once.
    pub fn take(&self, row: usize, weight: &Weight) {
        let differs = weight.digest != self.from.digests.get(row).copied();
        if differs && self.from.programs.residents.contains(&weight.value) {
            self.runner.take(weight.value, &stored(weight));
        }
    }

    /// The executor with all weights of `engine`. Only what depends on weights that differ is prepared again.
    pub fn finish(self, engine: &Engine, options: &RunOptions) -> Result<Executor, RunError> {
        let Executor { digests: before, device, programs, .. } = self.from;
        let (version, digests) = (engine.version().expect(FULL), digests(engine));
        let files = unchanged_files(engine, device)?;
        let weights = &engine.parts().weights;
        let rows = weights.iter().zip(before.iter().zip(&digests));
        let changed = rows.filter(|(_, (a, b))| a != b).map(|(weight, _)| weight.value).collect();
        let constants = programs.prepare(engine, device, Some(&changed), options)?;
        let same = weights.iter().filter(|w| programs.residents.contains(&w.value));
        let same = same.filter(|w| !changed.contains(&w.value)).map(|w| (w.value, stored(w)));
        let runner = self.runner.finish(&constants, &same.collect())?;
        let (device, programs) = (device.clone(), programs.clone());
        Ok(Executor { digests, version, device, programs, runner, files })
    }
}
