//! A module that holds the bytes of an engine file.

use super::{Module, Ports, RefitOptions, State, missing_weights};
use crate::device::Device;
use crate::error::{LoadError, RefitError, RunError};
use crate::executor::{Executor, Outputs, Programs};
use crate::gpu::Placement;
use crate::inputs::Inputs;
use engine_format::{
    Bytes, Digest, Engine, EngineFlags, FormatError, Port, SerializeFlags, WeightSource,
};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

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
    /// `None` as long as weights are missing.
    executor: Option<Executor>,
    /// What [`Module::restore`] goes back to.
    previous: Option<Bytes>,
}

impl Packed {
    fn load(bytes: Bytes, previous: Option<Bytes>, device: &Device) -> Result<Self, LoadError> {
        let engine = Engine::read(bytes.clone())?;
        let programs = Programs::check(&engine)?;
        let executor = match engine.is_full() {
            true => Some(Executor::load(engine.clone(), programs, device)?),
            false => None,
        };
        Ok(Self { bytes, engine, executor, previous })
    }
}

impl PackedModule {
    /// Loads an engine file onto `device`. A stripped file loads too, and needs a refit before it runs.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes; every node that this runtime cannot run.
    pub fn load(bytes: Bytes, device: &Device) -> Result<Self, LoadError> {
        let packed = Packed::load(bytes, None, device)?;
        Ok(Self {
            device: device.clone(),
            ports: Arc::new(Ports::of(&packed.engine)),
            current: RwLock::new(Arc::new(packed)),
            refitting: Mutex::new(()),
        })
    }

    /// The bytes of the engine file that it runs.
    pub fn bytes(&self) -> Bytes {
        self.current().bytes.clone()
    }

    /// What is current now. The lock is held for the copy of a pointer.
    fn current(&self) -> Arc<Packed> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads `bytes` and makes them current. The old state lives on until the runs that began with it have ended.
    fn replace(&self, old: &Packed, bytes: Bytes) -> Result<Digest, RefitError> {
        let previous = old.executor.as_ref().map(|_| old.bytes.clone());
        let new = Packed::load(bytes, previous, &self.device).map_err(refit_error)?;
        let version = new.executor.as_ref().map(Executor::version);
        let version = version.expect("what replaces a module's bytes has all weights");
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(new));
        drop(current);
        drop(old);
        Ok(version)
    }
}

/// A load of bytes that this module wrote fails in the ways a refit fails.
fn refit_error(error: LoadError) -> RefitError {
    match error {
        LoadError::Format(error) => error.into(),
        LoadError::Prepare(error) => error.into(),
        LoadError::Unsupported(problems) => {
            unreachable!("the program was loaded before, with the same operators: {problems:?}")
        }
    }
}

/// The wish that keeps a file what it is: refittable, and compressed if it was.
fn same_wish(flags: EngineFlags) -> SerializeFlags {
    let mut wish = SerializeFlags::INCLUDE_REFIT;
    wish.set(SerializeFlags::COMPRESS, flags.contains(EngineFlags::COMPRESSED));
    wish
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
        let engine = Engine::read(old.bytes.clone())?.fill(source, options)?;
        let bytes = engine.serialize(same_wish(engine.flags()))?;
        self.replace(&old, Bytes::from(bytes))
    }

    fn restore(&self) -> Result<Digest, RefitError> {
        let _one = self.refitting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let bytes = old.previous.clone().ok_or(RefitError::NothingToRestore)?;
        self.replace(&old, bytes)
    }

    fn serialize(&self, wish: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        Engine::read(self.current().bytes.clone())?.serialize(wish)
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
        Self {
            device: self.device.clone(),
            ports: self.ports.clone(),
            current: RwLock::new(Arc::new(copy)),
            refitting: Mutex::new(()),
        }
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
