//! A module that holds an engine in memory.

use super::retired::Retired;
use super::watched::Watched;
use super::{
    Module, Ports, Refitted, State, file_without_sources, missing_weights, refit_error,
    rollback_without_sources, weight_bytes,
};
use crate::device::Device;
use crate::error::{LoadError, RefitError, RunError};
use crate::executor::{Executor, Programs};
use crate::memory::Memory;
use crate::options::{RefitOptions, RunOptions};
use crate::placement::Placement;
use crate::value::Outputs;
use crate::value::Values;
use engine_format::{
    Digest, Engine, EngineFlags, Filled, FormatError, Port, SerializeFlags, Weight, WeightSource,
};
use rayon::prelude::*;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A module that holds an engine in memory. A refit prepares the new constants beside the old ones, reusing all that
/// does not depend on a changed weight, and swaps them in.
pub struct LiveModule {
    device: Device,
    ports: Arc<Ports>,
    programs: Arc<Programs>,
    current: RwLock<Arc<Current>>,
    /// Held during a refit, so that refits follow one another. Runs never wait for it.
    refitting: Mutex<()>,
    /// What [`Module::rollback`] goes back to. Locked no longer than `current` is.
    previous: Mutex<Option<Engine>>,
    retired: Retired,
}

struct Current {
    /// Without its weights before the first refit and after they were dropped.
    engine: Engine,
    /// `None` before the first weights came.
    executor: Option<Executor>,
}

impl Current {
    /// Whether the module runs without holding its source weights.
    fn dropped(&self) -> bool {
        self.executor.is_some() && !self.engine.is_full()
    }
}

impl LiveModule {
    /// Loads `engine` onto `device`. An engine without its weights loads too, and needs a refit before it runs.
    ///
    /// # Errors
    /// Lists every node that this runtime cannot run.
    pub fn load(engine: Engine, device: &Device) -> Result<Self, LoadError> {
        let programs = Programs::check(&engine)?;
        let load = || Executor::load(&engine, programs.clone(), device, &RunOptions::default());
        let executor = match engine.is_full() {
            true => Some(device.preparing(false, load)?),
            false => None,
        };
        let ports = Arc::new(Ports::of(&engine));
        let current = Current { engine, executor };
        Ok(Self::of(device.clone(), ports, programs, current, None))
    }

    fn of(
        device: Device,
        ports: Arc<Ports>,
        programs: Arc<Programs>,
        current: Current,
        previous: Option<Engine>,
    ) -> Self {
        Self {
            device,
            ports,
            programs,
            current: RwLock::new(Arc::new(current)),
            refitting: Mutex::new(()),
            previous: Mutex::new(previous),
            retired: Retired::default(),
        }
    }

    /// What is current now. The lock is held for the copy of a pointer.
    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `engine` made ready, with all of `old` that does not depend on what changed.
    fn ready(
        &self,
        old: &Current,
        engine: &Engine,
        options: &RunOptions,
    ) -> Result<Executor, RefitError> {
        Ok(match &old.executor {
            Some(executor) => executor.refit(engine, options)?,
            None => Executor::load(engine, self.programs.clone(), &self.device, options)?,
        })
    }

    /// The engine with weights of `source`, and ready. The work is done on the threads of refits while the module serves.
    fn filled(
        &self,
        old: &Current,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<(Filled<Engine>, Executor), RefitError> {
        self.device.preparing(old.executor.is_some(), || {
            let watched = Watched::new(source, &old.engine, options);
            // Weights go to the device while others are read.
            let following = old.executor.as_ref().map(Executor::follow);
            let changed = |row: usize, weight: &Weight| {
                if let Some(following) = &following {
                    following.take(row, weight);
                }
            };
            let spare = self.retired.spare();
            let filled = old.engine.fill_with(&watched, options.fit, spare, &changed);
            let filled = filled.map_err(|error| refit_error(error, old.dropped(), options))?;
            watched.finished();
            let executor = match following {
                Some(following) => following.finish(&filled.made, &options.preparing())?,
                None => self.ready(old, &filled.made, &options.preparing())?,
            };
            if options.wait_for_forms {
                executor.forms().into_par_iter().for_each(|make| make());
            }
            Ok((filled, executor))
        })
    }

    /// Makes `engine` current and what was current the one to go back to. The old state lives on until the runs that began
    /// with it have ended.
    fn replace(&self, old: Arc<Current>, engine: Engine, executor: Executor) -> Digest {
        let version = executor.version();
        let previous = old.engine.is_full().then(|| old.engine.clone());
        drop(old);
        // Claimed before the first run can see the new weights, so that no run stops to make them.
        let forms = executor.forms();
        let retired = self.swap(Current { engine, executor: Some(executor) }, previous);
        retired.into_iter().for_each(|engine| self.retired.keep(engine));
        if !forms.is_empty() {
            self.device.beside(move || forms.into_par_iter().for_each(|make| make()));
        }
        version
    }

    /// Gives what a rollback went to. The locks are held for the exchange of pointers; what is freed is freed after it.
    fn swap(&self, new: Current, previous: Option<Engine>) -> Option<Engine> {
        let mut back = self.previous();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(new));
        drop(current);
        let retired = std::mem::replace(&mut *back, previous);
        drop(back);
        drop(old);
        retired
    }

    fn previous(&self) -> MutexGuard<'_, Option<Engine>> {
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many forms of today's weights nobody has begun to make, of those that runs asked for.
    #[cfg(test)]
    pub(crate) fn forms_left(&self) -> usize {
        self.current().executor.as_ref().map_or(0, |executor| executor.forms().len())
    }

    /// Held by whoever changes what is current.
    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.refitting.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn run_with(&self, inputs: &Values, options: &RunOptions) -> Result<Outputs, RunError> {
        let current = self.current();
        match &current.executor {
            Some(executor) => executor.run(inputs, options),
            None => Err(missing_weights(&current.engine)),
        }
    }

    fn refit_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Refitted, RefitError> {
        let _one = self.one_at_a_time();
        let old = self.current();
        let (Filled { made: engine, fit }, executor) = self.filled(&old, source, options)?;
        Ok(Refitted { version: self.replace(old, engine, executor), fit })
    }

    fn fork_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Box<dyn Module>, RefitError> {
        let (filled, executor) = self.filled(&self.current(), source, options)?;
        let current = Current { engine: filled.made, executor: Some(executor) };
        let (device, ports, programs) =
            (self.device.clone(), self.ports.clone(), self.programs.clone());
        Ok(Box::new(Self::of(device, ports, programs, current, None)))
    }

    fn rollback(&self) -> Result<Digest, RefitError> {
        let _one = self.one_at_a_time();
        let old = self.current();
        if old.dropped() {
            return Err(rollback_without_sources(&old.engine));
        }
        let engine = self.previous().clone().ok_or(RefitError::NothingToRollBack)?;
        let ready = || self.ready(&old, &engine, &RunOptions::default());
        let executor = self.device.preparing(true, ready)?;
        Ok(self.replace(old, engine, executor))
    }

    fn drop_sources(&self) -> Result<(), RefitError> {
        let _one = self.one_at_a_time();
        let old = self.current();
        let Some(executor) = &old.executor else { return Ok(()) };
        let engine = old.engine.strip()?;
        let executor = Some(executor.compact()?);
        self.swap(Current { engine, executor }, None);
        self.retired.clear();
        Ok(())
    }

    fn serialize(&self, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        let current = self.current();
        let file = current.engine.serialize(options);
        if current.dropped() { file.map_err(file_without_sources) } else { file }
    }

    fn memory(&self) -> Memory {
        let current = self.current();
        let weights = &current.engine.parts().weights;
        let same = |row: usize, digest: Option<Digest>| {
            weights[row].tensor().is_some() && weights[row].digest == digest
        };
        let executor = current.executor.as_ref();
        let held = executor.map(|executor| executor.memory(&current.engine)).unwrap_or_default();
        Memory {
            weights: weight_bytes(&current.engine, |_, _| false),
            previous: self.previous().as_ref().map_or(0, |engine| weight_bytes(engine, same)),
            ..held
        }
    }

    fn trim(&self) {
        self.retired.clear();
        self.current().executor.iter().for_each(Executor::trim);
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
        // Both of the same moment: they are exchanged under the lock of the previous one.
        let previous = self.previous();
        let (current, previous) = (self.current(), previous.clone());
        let copy = Current {
            engine: current.engine.clone(),
            executor: current.executor.as_ref().map(Executor::fork),
        };
        Self::of(self.device.clone(), self.ports.clone(), self.programs.clone(), copy, previous)
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
