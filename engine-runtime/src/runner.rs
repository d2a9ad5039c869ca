//! A session with its constants on some device.

use crate::backend::{Backend, Constants};
use crate::cpu::kernel;
use crate::error::RunError;
use crate::limits::MemoryLimits;
use crate::memory::Memory;
use crate::options::RunOptions;
use crate::placement::Placement;
use crate::plan::item::RunInputs;
use crate::plan::program::{Program, Wanted};
use crate::plan::walk::ResidentMetas;
use crate::session::Session;
use crate::value::Value;
use engine_format::{Tensor, ValueId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// A program that can run, whatever the device.
pub(crate) trait Runner: Send + Sync {
    /// Runs over inputs in port order, already checked, and gives all outputs, or those that are wanted.
    fn run(
        &self,
        inputs: RunInputs<'_>,
        wanted: Option<&Wanted>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, RunError>;

    /// What runs would make of the constants on their way, for the plans made so far: see [`Backend::forms`].
    fn forms(&self) -> Vec<Box<dyn FnOnce() + Send>>;

    /// What is held: of constants on the host, those that are not held `elsewhere`.
    fn memory(&self, elsewhere: &dyn Fn(ValueId) -> bool) -> Memory;

    /// Gives up the memory kept from runs.
    fn trim(&self);

    /// Where the nodes of the plans made so far run.
    fn placement(&self) -> Vec<Placement>;

    /// Begins to move the constants of the version that follows this one.
    fn follow(&self) -> Box<dyn Follower + '_>;

    /// The same with no constant that keeps more memory of the host alive than its own: an engine file, say.
    fn compact(&self) -> Result<Box<dyn Runner>, RunError>;

    /// The constant as the host has it, if it does.
    #[cfg(test)]
    fn on_host(&self, id: ValueId) -> Option<Tensor>;

    /// A runner that shares nothing that changes with this one.
    fn fork(&self) -> Box<dyn Runner>;
}

/// A version on its way: constants that are other ones than before are moved to the device one by one, by many threads at once, while what
/// the version consists of is still being read.
pub(crate) trait Follower: Send + Sync {
    /// Moves a constant. An error is kept for [`Self::finish`].
    fn take(&self, id: ValueId, tensor: &Tensor);

    /// The runner of the version, with what was taken and the rest of `changed`; `relocated` are constants that are the same, in memory that
    /// the host may have them in from now on. The runner before keeps running with its own.
    fn finish(
        self: Box<Self>,
        changed: &Constants,
        relocated: &Constants,
    ) -> Result<Box<dyn Runner>, RunError>;
}

/// A session and the constants of one version.
pub(crate) struct Loaded<B: Backend> {
    backend: Arc<B>,
    session: Arc<Session<B>>,
    resident: Arc<B::Resident>,
}

impl<B: Backend> Loaded<B> {
    /// Makes `constants` resident.
    pub fn new(
        backend: Arc<B>,
        program: Arc<Program>,
        constants: Constants,
        limits: MemoryLimits,
    ) -> Result<Self, RunError> {
        let all: Vec<_> = constants.iter().map(|(&id, tensor)| (id, tensor)).collect();
        let moved = backend.moved(&all, &program.halves)?;
        let resident = Arc::new(backend.resident(moved, None)?);
        let session = Session::new(backend.clone(), program, metas(&constants), limits);
        Ok(Self { backend, session: Arc::new(session), resident })
    }
}

/// The version after `from`.
struct Following<'a, B: Backend> {
    from: &'a Loaded<B>,
    taken: Mutex<BTreeMap<ValueId, Result<B::Constant, RunError>>>,
}

impl<B: Backend> Follower for Following<'_, B> {
    fn take(&self, id: ValueId, tensor: &Tensor) {
        let constant = self.from.backend.constant(tensor, self.from.session.halves().contains(&id));
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(id, constant);
    }

    fn finish(
        self: Box<Self>,
        changed: &Constants,
        relocated: &Constants,
    ) -> Result<Box<dyn Runner>, RunError> {
        let Self { from: Loaded { backend, session, resident }, taken } = *self;
        let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut constants = backend.constants(resident).clone();
        for (id, tensor) in relocated {
            if let Some(constant) = constants.get_mut(id) {
                *constant = backend.relocated(constant, tensor);
            }
        }
        let rest = changed.iter().filter(|(id, _)| !taken.contains_key(id));
        let rest: Vec<_> = rest.map(|(&id, tensor)| (id, tensor)).collect();
        constants.extend(backend.moved(&rest, session.halves())?);
        for (id, constant) in taken {
            constants.insert(id, constant?);
        }
        let ids = changed.keys().copied().collect();
        let resident = Arc::new(backend.resident(constants, Some((resident, &ids)))?);
        // Plans depend on the types of constants, never on their contents.
        let mut types = session.residents().clone();
        types.extend(metas(changed));
        let session = match types == *session.residents() {
            true => session.clone(),
            false => Arc::new(session.with_residents(types)),
        };
        Ok(Box::new(Loaded { backend: backend.clone(), session, resident }))
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn run(
        &self,
        inputs: RunInputs<'_>,
        wanted: Option<&Wanted>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, RunError> {
        match wanted {
            Some(wanted) => self.session.wanting(wanted).run(&self.resident, inputs, options),
            None => self.session.run(&self.resident, inputs, options),
        }
    }

    fn forms(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        self.session.forms(&self.resident)
    }

    fn memory(&self, elsewhere: &dyn Fn(ValueId) -> bool) -> Memory {
        let mut all = self.session.memory(&self.resident);
        for (&id, constant) in self.backend.constants(&self.resident) {
            let [host, device] = self.backend.bytes(constant);
            all.on_device += device;
            all.constants += if elsewhere(id) { 0 } else { host };
        }
        all
    }

    fn trim(&self) {
        self.session.trim();
    }

    fn placement(&self) -> Vec<Placement> {
        self.session.placement()
    }

    fn follow(&self) -> Box<dyn Follower + '_> {
        Box::new(Following { from: self, taken: Mutex::default() })
    }

    fn compact(&self) -> Result<Box<dyn Runner>, RunError> {
        let Self { backend, session, resident } = self;
        let constants = backend.constants(resident).iter();
        let constants = constants.map(|(&id, constant)| (id, backend.compact(constant)));
        let none = BTreeSet::new();
        let resident = backend.resident(constants.collect(), Some((resident, &none)))?;
        let (backend, session) = (backend.clone(), session.clone());
        Ok(Box::new(Self { backend, session, resident: Arc::new(resident) }))
    }

    #[cfg(test)]
    fn on_host(&self, id: ValueId) -> Option<Tensor> {
        self.backend.on_host(self.backend.constants(&self.resident).get(&id)?)
    }

    fn fork(&self) -> Box<dyn Runner> {
        Box::new(Self {
            backend: self.backend.clone(),
            session: Arc::new(self.session.fork()),
            resident: self.resident.clone(),
        })
    }
}

/// Types of constants.
pub(crate) fn metas(constants: &Constants) -> ResidentMetas {
    constants.iter().map(|(id, tensor)| (*id, kernel::meta(tensor))).collect()
}
