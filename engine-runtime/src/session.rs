//! A program on a device: plans made on demand, kept, and run.

use crate::backend::{Backend, Run};
use crate::error::RunError;
use crate::limits::MemoryLimits;
use crate::memory::Memory;
use crate::options::RunOptions;
use crate::placement::{Obstacle, Placement};
use crate::plan::Segment;
use crate::plan::cache::{Cache, CacheLimits, Key};
use crate::plan::item::RunInputs;
use crate::plan::program::{Program, Wanted};
use crate::plan::walk::{Planned, ResidentMetas, Rest};
use crate::value::Value;
use engine_format::ValueId;
use engine_ops::cpu::Draws;
use engine_ops::memory;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sets of outputs that a session keeps plans for, besides all of them.
const MAX_PARTS: usize = 16;

/// A program, the types of its resident constants, and the plans made so far. Constants may change under it as long
/// as their types do not.
pub(crate) struct Session<B: Backend> {
    backend: Arc<B>,
    program: Arc<Program>,
    residents: ResidentMetas,
    limits: MemoryLimits,
    stages: Mutex<Cache<Stage<B>>>,
    /// Sessions of the same program with only some of its outputs.
    parts: Mutex<BTreeMap<Wanted, Arc<Self>>>,
    /// Stages made so far; names the next one. 0 stands for the start of the program.
    counted: AtomicU64,
}

/// A segment ready to run, and what comes after it.
struct Stage<B: Backend> {
    id: u64,
    segment: Arc<Segment>,
    lowered: B::Lowered,
    rest: Rest,
    /// Bytes that the limits leave for what kernels ask for while the segment runs.
    left: u64,
}

impl<B: Backend> Session<B> {
    pub fn new(
        backend: Arc<B>,
        program: Arc<Program>,
        residents: ResidentMetas,
        limits: MemoryLimits,
    ) -> Self {
        let stages = Mutex::new(Cache::new(CacheLimits::SESSION));
        let (counted, parts) = (AtomicU64::new(0), Mutex::default());
        Self { backend, program, residents, limits, stages, parts, counted }
    }

    /// The constants that only kernels read which take halves.
    pub fn halves(&self) -> &BTreeSet<ValueId> {
        &self.program.halves
    }

    /// The same program with no plans made yet.
    pub fn fork(&self) -> Self {
        self.with_residents(self.residents.clone())
    }

    /// The same program over constants of other types, with no plans made yet.
    pub fn with_residents(&self, residents: ResidentMetas) -> Self {
        Self::new(self.backend.clone(), self.program.clone(), residents, self.limits)
    }

    pub fn residents(&self) -> &ResidentMetas {
        &self.residents
    }

    /// The session of the same program with only these of its outputs.
    pub fn wanting(&self, wanted: &Wanted) -> Arc<Self> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(wanted) {
            return part.clone();
        }
        if parts.len() >= MAX_PARTS {
            parts.clear();
        }
        let program = Arc::new(self.program.wanting(wanted));
        let part = Self::new(self.backend.clone(), program, self.residents.clone(), self.limits);
        let part = Arc::new(part);
        parts.insert(wanted.clone(), part.clone());
        part
    }

    /// This session and those of parts of its program.
    fn all<R>(&self, mut visit: impl FnMut(&Self) -> R) -> Vec<R> {
        let parts: Vec<Arc<Self>> = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.values().cloned().collect()
        };
        std::iter::once(self).chain(parts.iter().map(|part| &**part)).map(&mut visit).collect()
    }

    /// All plans made so far.
    fn made(&self) -> Vec<Arc<Stage<B>>> {
        let stages = |session: &Self| session.cache().items().cloned().collect::<Vec<_>>();
        self.all(stages).into_iter().flatten().collect()
    }

    /// See [`Backend::forms`], for every plan made so far.
    pub fn forms(&self, resident: &Arc<B::Resident>) -> Vec<Box<dyn FnOnce() + Send>> {
        let stages = self.made().into_iter();
        stages.flat_map(|stage| self.backend.forms(&stage.lowered, resident)).collect()
    }

    /// What is held beside the constants, for every plan made so far.
    pub fn memory(&self, resident: &B::Resident) -> Memory {
        let stages = self.made();
        let lowered: Vec<_> = stages.iter().map(|stage| &stage.lowered).collect();
        Memory {
            forms: self.backend.form_bytes(resident, &lowered),
            runs: self.backend.kept(&lowered),
            ..Memory::default()
        }
    }

    /// Gives up the memory kept from runs.
    pub fn trim(&self) {
        let stages = self.made();
        self.backend.trim(&stages.iter().map(|stage| &stage.lowered).collect::<Vec<_>>());
    }

    /// Runs the program over inputs in port order, already checked.
    pub fn run(
        &self,
        resident: &B::Resident,
        given: RunInputs<'_>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, RunError> {
        memory::limited(self.limits.run, || self.run_stages(resident, given, options))
    }

    fn run_stages(
        &self,
        resident: &B::Resident,
        given: RunInputs<'_>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, RunError> {
        options.begin()?;
        let keyed = || self.program.keyed(given);
        let plan = || self.program.plan(given, &self.residents, self.limits);
        let mut stage = self.stage(0, given, keyed, plan)?;
        let mut inputs = Cow::Borrowed(given.tensors);
        let taken = given.held.iter().map(|value| self.backend.take(value));
        let mut carried = taken.collect::<Result<Vec<_>, _>>()?;
        let draws = Draws::new(options.seed);
        loop {
            let run = Run {
                segment: &stage.segment,
                lowered: &stage.lowered,
                resident,
                inputs: &inputs,
                carried: &carried,
                options,
                draws: &draws,
            };
            let finished = memory::limited(stage.left, || self.backend.run(run))?;
            let rest = match &stage.rest {
                Rest::Outputs(layout) => {
                    let left = finished.carry.into_iter().map(|value| self.backend.leave(value));
                    let left = left.collect::<Result<_, _>>()?;
                    return Ok(Value::assemble(finished.host, left, layout));
                }
                Rest::Suspension(rest) => rest,
            };
            let given = rest.absorb(finished.host)?;
            let keyed = || rest.keyed(&self.program, &given);
            let plan = || self.program.resume(rest, &given, &self.residents, self.limits);
            let next = self.stage(
                stage.id,
                RunInputs { tensors: &given, held: &[], layout: &[] },
                keyed,
                plan,
            )?;
            if rest.joins_inputs() {
                inputs.to_mut().extend(given);
            }
            carried = finished.carry;
            stage = next;
        }
    }

    /// Where the nodes of the plans made so far run, each line once.
    pub fn placement(&self) -> Vec<Placement> {
        let stages = self.made();
        let mut lines = Vec::new();
        let mut seen = HashSet::new();
        for stage in stages {
            let between = match &stage.rest {
                Rest::Suspension(rest) if B::CHOOSES => rest.on_host(),
                Rest::Suspension(_) | Rest::Outputs(_) => None,
            };
            let between = between.map(|(path, op)| Placement {
                path: path.clone(),
                op: op.name,
                obstacle: Some(Obstacle::DataDependent),
            });
            let new = self.backend.placement(&stage.lowered).into_iter().chain(between);
            lines.extend(new.filter(|line| seen.insert(line.clone())));
        }
        lines
    }

    /// The stage after stage `after` for what is given, planned and lowered if it is not there yet.
    fn stage(
        &self,
        after: u64,
        given: RunInputs<'_>,
        keyed: impl FnOnce() -> Vec<bool>,
        plan: impl FnOnce() -> Result<Planned, RunError>,
    ) -> Result<Arc<Stage<B>>, RunError> {
        if let Some(stage) = self.cache().get(after, given) {
            return Ok(stage);
        }
        // Planned outside the lock, so that runs of shapes that are there go on meanwhile.
        let Planned { segment, rest } = plan()?;
        let segment = Arc::new(segment);
        let like = self.cache().latest(after).cloned();
        let like = like.as_ref().map(|stage| &stage.lowered);
        let lowered = self.backend.lower(&segment, &self.program.halves, like)?;
        let left = self.limits.check_run(&segment, self.backend.memory(&segment, &lowered))?;
        let kept = match &rest {
            Rest::Outputs(_) => 0,
            Rest::Suspension(rest) => rest.cost(),
        };
        let cost = cost(&segment) + self.backend.cost(&lowered) + kept;
        let id = self.counted.fetch_add(1, Ordering::Relaxed) + 1;
        let stage = Arc::new(Stage { id, segment, lowered, rest, left });
        let key = Key::new(after, given, &keyed());
        Ok(self.cache().insert(key, stage, cost, given))
    }

    fn cache(&self) -> MutexGuard<'_, Cache<Stage<B>>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how much memory a segment takes.
fn cost(segment: &Segment) -> usize {
    let operands: usize = segment.steps.iter().map(|s| s.inputs.len() + s.outputs.len()).sum();
    let constants: usize = segment.constants.iter().map(|c| c.tensor.bytes().len()).sum();
    size_of_val(segment.steps.as_slice()) + operands * 128 + constants
}
