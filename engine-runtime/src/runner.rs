//! A session with its constants on some device.

use crate::backend::{Backend, Constants};
use crate::cpu::kernel;
use crate::error::RunError;
use crate::limits::MemoryLimits;
use crate::options::RunOptions;
use crate::placement::Placement;
use crate::plan::item::Given;
use crate::plan::program::Program;
use crate::plan::walk::ResidentMetas;
use crate::session::Session;
use crate::value::Value;
use std::sync::Arc;

/// A program that can run, whatever the device.
pub(crate) trait Runner: Send + Sync {
    /// Runs over inputs in port order, already checked, and gives all outputs, or those at the positions that are wanted.
    fn run(
        &self,
        inputs: Given<'_>,
        wanted: Option<&[usize]>,
        options: &RunOptions,
    ) -> Result<Vec<Value>, RunError>;

    /// What runs would make of the constants on their way, for the plans made so far: see [`Backend::forms`].
    fn forms(&self) -> Vec<Box<dyn FnOnce() + Send>>;

    /// Where the nodes of the plans made so far run.
    fn placement(&self) -> Vec<Placement>;

    /// The constants it runs with.
    fn constants(&self) -> &Constants;

    /// The same program with other constants. This one keeps running with its own.
    fn with(&self, constants: Constants) -> Result<Box<dyn Runner>, RunError>;

    /// A runner that shares nothing that changes with this one.
    fn fork(&self) -> Box<dyn Runner>;
}

/// A session and the constants of one version.
pub(crate) struct Loaded<B: Backend> {
    backend: Arc<B>,
    session: Arc<Session<B>>,
    constants: Arc<Constants>,
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
        let resident = Arc::new(backend.load(&constants, None)?);
        let session = Session::new(backend.clone(), program, metas(&constants), limits);
        let session = Arc::new(session);
        Ok(Self { backend, session, constants: Arc::new(constants), resident })
    }
}

impl<B: Backend> Runner for Loaded<B> {
    fn run(
        &self,
        inputs: Given<'_>,
        wanted: Option<&[usize]>,
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

    fn placement(&self) -> Vec<Placement> {
        self.session.placement()
    }

    fn constants(&self) -> &Constants {
        &self.constants
    }

    fn with(&self, constants: Constants) -> Result<Box<dyn Runner>, RunError> {
        let previous = Some((&*self.constants, &*self.resident));
        let resident = Arc::new(self.backend.load(&constants, previous)?);
        let metas = metas(&constants);
        // Plans depend on the types of constants, never on their contents.
        let session = if metas == *self.session.residents() {
            self.session.clone()
        } else {
            Arc::new(self.session.with_residents(metas))
        };
        let constants = Arc::new(constants);
        Ok(Box::new(Self { backend: self.backend.clone(), session, constants, resident }))
    }

    fn fork(&self) -> Box<dyn Runner> {
        Box::new(Self {
            backend: self.backend.clone(),
            session: Arc::new(self.session.fork()),
            constants: self.constants.clone(),
            resident: self.resident.clone(),
        })
    }
}

/// Types of constants.
pub(crate) fn metas(constants: &Constants) -> ResidentMetas {
    constants.iter().map(|(id, tensor)| (*id, kernel::meta(tensor))).collect()
}
