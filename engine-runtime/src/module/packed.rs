//! A module that holds the bytes of an engine file.

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
    Bytes, Digest, Engine, EngineFlags, Filled, FormatError, Port, SerializeFlags, Spare,
    WeightSource,
};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A module that holds the bytes of an engine file and runs only what it loaded from them. A refit decodes the bytes,
/// fills, encodes anew and reloads: what runs is always what would go to disk or over a wire.
pub struct PackedModule {
    device: Device,
    ports: Arc<Ports>,
    current: RwLock<Arc<Packed>>,
    /// Held during a refit, so that refits follow one another. Runs never wait for it.
    refitting: Mutex<()>,
}

/// Bytes and what was loaded from them.
struct Packed {
    bytes: Bytes,
    /// The bytes decoded; weights are slices of them.
    engine: Engine,
    /// `None` before the first weights came. Made from these very bytes, or, if they have no weights, from those before.
    executor: Option<Executor>,
    /// What [`Module::rollback`] goes back to.
    previous: Option<Bytes>,
}

impl Packed {
    fn load(
        bytes: Bytes,
        previous: Option<Bytes>,
        device: &Device,
        options: &RunOptions,
    ) -> Result<Self, LoadError> {
        let engine = Engine::read(bytes.clone())?;
        let programs = Programs::check(&engine)?;
        let executor = match engine.is_full() {
            true => Some(Executor::load(&engine, programs, device, options)?),
            false => None,
        };
        Ok(Self { bytes, engine, executor, previous })
    }

    /// Whether the module runs without holding its source weights.
    fn dropped(&self) -> bool {
        self.executor.is_some() && !self.engine.is_full()
    }
}

impl PackedModule {
    /// Loads an engine file onto `device`. A stripped file loads too, and needs a refit before it runs.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; every node that this runtime cannot run.
    pub fn load(bytes: Bytes, device: &Device) -> Result<Self, LoadError> {
        let load = || Packed::load(bytes, None, device, &RunOptions::default());
        let packed = device.preparing(false, load)?;
        let ports = Arc::new(Ports::of(&packed.engine));
        Ok(Self::of(device.clone(), ports, packed))
    }

    fn of(device: Device, ports: Arc<Ports>, packed: Packed) -> Self {
        let current = RwLock::new(Arc::new(packed));
        Self { device, ports, current, refitting: Mutex::new(()) }
    }

    /// The bytes of the engine file that it runs.
    pub fn bytes(&self) -> Bytes {
        self.current().bytes.clone()
    }

    /// What is current now. The lock is held for the copy of a pointer.
    fn current(&self) -> Arc<Packed> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The old bytes decoded, filled, encoded anew and loaded, on the threads of refits while the module serves.
    fn filled(
        &self,
        old: &Packed,
        source: &dyn WeightSource,
        options: &RefitOptions,
        previous: Option<Bytes>,
    ) -> Result<Filled<Packed>, RefitError> {
        self.device.preparing(old.executor.is_some(), || {
            let engine = Engine::read(old.bytes.clone())?;
            let watched = Watched::new(source, &engine, options);
            let filled = engine.fill_into(&watched, options.fit, &Spare::default());
            let Filled { made: engine, fit } =
                filled.map_err(|error| refit_error(error, old.dropped(), options))?;
            watched.finished();
            let bytes = Bytes::from(engine.serialize(same_options(engine.flags()))?);
            let made = Packed::load(bytes, previous, &self.device, &options.preparing());
            let made = made.map_err(reload_error)?;
            Ok(Filled { made, fit })
        })
    }

    /// Makes `new` current. The old state lives on until the runs that began with it have ended. The lock is held for the
    /// exchange of two pointers; what is freed is freed after it.
    fn replace(&self, new: Packed) -> Digest {
        let version = new.executor.as_ref().map(Executor::version);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(new));
        drop(current);
        drop(old);
        version.expect("what replaces a module's bytes was made from all weights")
    }

    /// Held by whoever changes what is current.
    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.refitting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A load of bytes that this module wrote fails in the ways a refit fails.
fn reload_error(error: LoadError) -> RefitError {
    match error {
        LoadError::Format(error) => error.into(),
        LoadError::Prepare(error) => error.into(),
        LoadError::Unsupported(problems) => {
            unreachable!("the program was loaded before, with the same operators: {problems:?}")
        }
    }
}

/// The options that keep a file what it is: refittable, and compressed if it was.
fn same_options(flags: EngineFlags) -> SerializeFlags {
    let mut options = SerializeFlags::INCLUDE_REFIT;
    options.set(SerializeFlags::COMPRESS, flags.contains(EngineFlags::COMPRESSED));
    options
}

impl Module for PackedModule {
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
        let previous = old.engine.is_full().then(|| old.bytes.clone());
        let Filled { made, fit } = self.filled(&old, source, options, previous)?;
        Ok(Refitted { version: self.replace(made), fit })
    }

    fn fork_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Box<dyn Module>, RefitError> {
        let packed = self.filled(&self.current(), source, options, None)?.made;
        Ok(Box::new(Self::of(self.device.clone(), self.ports.clone(), packed)))
    }

    fn rollback(&self) -> Result<Digest, RefitError> {
        let _one = self.one_at_a_time();
        let old = self.current();
        if old.dropped() {
            return Err(rollback_without_sources(&old.engine));
        }
        let bytes = old.previous.clone().ok_or(RefitError::NothingToRollBack)?;
        let options = RunOptions::default();
        let load = || Packed::load(bytes, Some(old.bytes.clone()), &self.device, &options);
        Ok(self.replace(self.device.preparing(true, load).map_err(reload_error)?))
    }

    fn drop_sources(&self) -> Result<(), RefitError> {
        let _one = self.one_at_a_time();
        let old = self.current();
        let Some(executor) = &old.executor else { return Ok(()) };
        let full = Engine::read(old.bytes.clone())?;
        let options = SerializeFlags::EXCLUDE_WEIGHTS | same_options(full.flags());
        let bytes = Bytes::from(full.serialize(options)?);
        let engine = Engine::read(bytes.clone())?;
        let executor = Some(executor.compact()?);
        self.replace(Packed { bytes, engine, executor, previous: None });
        Ok(())
    }

    fn serialize(&self, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        let current = self.current();
        let file = Engine::read(current.bytes.clone())?.serialize(options);
        if current.dropped() { file.map_err(file_without_sources) } else { file }
    }

    fn memory(&self) -> Memory {
        let current = self.current();
        let executor = current.executor.as_ref();
        let held = executor.map(|executor| executor.memory(&current.engine)).unwrap_or_default();
        Memory {
            weights: weight_bytes(&current.engine, |_, _| false),
            previous: current.previous.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ..held
        }
    }

    fn trim(&self) {
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

impl Clone for PackedModule {
    fn clone(&self) -> Self {
        let current = self.current();
        let copy = Packed {
            bytes: current.bytes.clone(),
            engine: current.engine.clone(),
            executor: current.executor.as_ref().map(Executor::fork),
            previous: current.previous.clone(),
        };
        Self::of(self.device.clone(), self.ports.clone(), copy)
    }
}

impl fmt::Debug for PackedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedModule")
            .field("device", &self.device)
            .field("bytes", &self.current().bytes.len())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
