//! A module that holds an engine in memory.

use super::{Module, Ports, RefitOptions, State, missing_weights};
use crate::device::Device;
use crate::error::{LoadError, RefitError, RunError};
use crate::executor::{Executor, Outputs, Programs};
use crate::gpu::Placement;
use crate::inputs::Inputs;
use engine_format::{Digest, Engine, EngineFlags, FormatError, Port, SerializeFlags, WeightSource};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A module that holds an engine in memory. A refit prepares the new constants beside the old ones, reusing all that
/// does not depend on a changed weight, and swaps them in.
pub struct LiveModule {
    device: Device,
    ports: Arc<Ports>,
    programs: Arc<Programs>,
    current: RwLock<Arc<Current>>,
    /// Held during a refit, so that refits follow one another. Runs never wait for it.
    refitting: Mutex<()>,
}

struct Current {
    engine: Engine,
    /// `None` as long as weights are missing.
    executor: Option<Executor>,
    /// What [`Module::restore`] goes back to.
    previous: Option<Engine>,
}

impl LiveModule {
    /// Loads `engine` onto `device`. An engine without its weights loads too, and needs a refit before it runs.
    ///
    /// # Errors
    /// Lists every node that this runtime cannot run.
    pub fn load(engine: Engine, device: &Device) -> Result<Self, LoadError> {
        let programs = Programs::check(&engine)?;
        let executor = match engine.is_full() {
            true => Some(Executor::load(engine.clone(), programs.clone(), device)?),
            false => None,
        };
        Ok(Self {
            device: device.clone(),
            ports: Arc::new(Ports::of(&engine)),
            programs,
            current: RwLock::new(Arc::new(Current { engine, executor, previous: None })),
            refitting: Mutex::new(()),
        })
    }

    /// What is current now. The lock is held for the copy of a pointer.
    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes `engine` current. The old state lives on until the runs that began with it have ended.
    fn replace(&self, old: &Current, engine: Engine) -> Result<Digest, RefitError> {
        let executor = match &old.executor {
            Some(executor) => executor.refit(engine.clone())?,
            None => Executor::load(engine.clone(), self.programs.clone(), &self.device)?,
        };
        let version = executor.version();
        let previous = old.executor.as_ref().map(|_| old.engine.clone());
        let new = Arc::new(Current { engine, executor: Some(executor), previous });
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, new);
        drop(current);
        drop(old);
        Ok(version)
    }
}

impl Module for LiveModule {
    fn inputs(&self) -> &[Port] {
        &self.ports.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.ports.outputs
    }

    fn state(&self) -> State {
        let current = self.current();
        match &current.executor {
            Some(executor) => State::Ready(executor.version()),
            None => State::NeedsWeights(current.engine.missing()),
        }
    }

    fn flags(&self) -> EngineFlags {
        self.current().engine.flags()
    }

    fn engine(&self) -> Engine {
        self.current().engine.clone()
    }

    fn run(&self, inputs: &Inputs) -> Result<Outputs, RunError> {
        let current = self.current();
        match &current.executor {
            Some(executor) => executor.run(inputs),
            None => Err(missing_weights(&current.engine)),
        }
    }

    fn refit(
        &self,
        source: &dyn WeightSource,
        options: RefitOptions,
    ) -> Result<Digest, RefitError> {
        let _one = self.refitting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let engine = old.engine.fill(source, options)?;
        self.replace(&old, engine)
    }

    fn restore(&self) -> Result<Digest, RefitError> {
        let _one = self.refitting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let engine = old.previous.clone().ok_or(RefitError::NothingToRestore)?;
        self.replace(&old, engine)
    }

    fn serialize(&self, wish: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        self.current().engine.serialize(wish)
    }

    fn placement(&self) -> Vec<Placement> {
        self.current().executor.as_ref().map(Executor::placement).unwrap_or_default()
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn boxed_clone(&self) -> Box<dyn Module> {
        Box::new(self.clone())
    }
}

impl Clone for LiveModule {
    fn clone(&self) -> Self {
        let current = self.current();
        let copy = Current {
            engine: current.engine.clone(),
            executor: current.executor.as_ref().map(Executor::fork),
            previous: current.previous.clone(),
        };
        Self {
            device: self.device.clone(),
            ports: self.ports.clone(),
            programs: self.programs.clone(),
            current: RwLock::new(Arc::new(copy)),
            refitting: Mutex::new(()),
        }
    }
}

impl fmt::Debug for LiveModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveModule")
            .field("device", &self.device)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
