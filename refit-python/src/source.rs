//! What is given as weights: arrays by name, files, bytes, an engine; and what happens to them on the way.

use crate::engine::Engine;
use crate::failure::{self, Class, Failure};
use crate::input::{as_bytes, as_path, is_mapping, type_name};
use crate::module::Module;
use crate::options::Changes;
use crate::state_dict::StateDict;
use crate::work::{self, Watch};
use engine_format::{self as format, Bytes, FitPolicy};
use engine_runtime::{Cancel, Progress, RefitOptions};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use refit::{BoxedSource, CastSource, EngineSource, Lora, LoraSource};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Weights as they were given; they are opened without Python's lock.
pub(crate) enum Weights {
    /// None: what the engine has, for adapters.
    Own,
    Paths(Vec<PathBuf>),
    Bytes(Bytes),
    Source(BoxedSource),
}

impl Weights {
    /// Understands what was given as weights.
    pub(crate) fn take(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::Own);
        }
        if let Some(bytes) = as_bytes(value)? {
            return Ok(Self::Bytes(bytes));
        }
        if let Ok(engine) = value.cast::<Engine>() {
            let source = EngineSource::new(engine.get().engine().clone(), "an engine");
            return Ok(Self::Source(Box::new(source)));
        }
        if let Ok(module) = value.cast::<Module>() {
            let source = EngineSource::new(module.get().loaded()?.engine(), "a module");
            return Ok(Self::Source(Box::new(source)));
        }
        if let Some(path) = as_path(value) {
            return Ok(Self::Paths(vec![path_of(value.py(), path)?]));
        }
        if value.cast::<PyList>().is_ok() || value.cast::<PyTuple>().is_ok() {
            let paths = value.try_iter()?.map(|path| {
                let path = path?;
                let known = as_path(&path).ok_or_else(|| not_weights(&path))?;
                path_of(value.py(), known)
            });
            return Ok(Self::Paths(paths.collect::<PyResult<_>>()?));
        }
        if is_mapping(value)? {
            return Ok(Self::Source(Box::new(StateDict::take(value)?)));
        }
        if value.hasattr("state_dict")? {
            return Self::take(&value.call_method0("state_dict")?);
        }
        Err(not_weights(value).into())
    }

    /// Opens the weights with what is done to them on the way; adapters without weights are merged into those of `engine`.
    pub(crate) fn open(
        self,
        engine: &format::Engine,
        changes: Changes,
    ) -> Result<BoxedSource, Failure> {
        let mut source: BoxedSource = match self {
            Weights::Own if changes.lora.is_empty() => {
                return Err(Failure::new(
                    Class::InvalidOptions,
                    "no weights were given, and no adapters",
                ));
            }
            Weights::Own => Box::new(EngineSource::new(engine.clone(), "the engine")),
            other => other.open_plain()?,
        };
        if !changes.lora.is_empty() {
            let adapters = changes.lora.iter().map(|(path, scale)| Lora::open(path, *scale));
            source = Box::new(LoraSource::new(source, adapters.collect::<Result<_, _>>()?)?);
        }
        if changes.cast {
            source = Box::new(CastSource::new(source, engine));
        }
        Ok(source)
    }

    /// Opens the weights as they are.
    pub(crate) fn open_plain(self) -> Result<BoxedSource, Failure> {
        match self {
            Weights::Own => Err(Failure::new(Class::InvalidOptions, "no weights were given")),
            Weights::Paths(paths) => Ok(refit::open_sources(&paths)?),
            Weights::Bytes(bytes) => Ok(refit::open_bytes(bytes)?),
            Weights::Source(source) => Ok(source),
        }
    }
}

/// A path, also one that means a file of the Hugging Face hub's cache. It has to be there, but for `FILE:KEY`.
pub(crate) fn path_of(py: Python<'_>, path: PathBuf) -> PyResult<PathBuf> {
    let path = match path.to_str() {
        Some(text) if text.starts_with("hf://") => {
            py.import("refit.hub")?.call_method1("cached_path", (text,))?.extract()?
        }
        _ => path,
    };
    let has_key = path.to_str().and_then(|text| text.rsplit_once(':'));
    if !has_key.is_some_and(|(file, _)| Path::new(file).exists()) {
        failure::check_path(&path)?;
    }
    Ok(path)
}

fn not_weights(value: &Bound<'_, PyAny>) -> Failure {
    let kind = type_name(value);
    Failure::new(
        Class::InvalidOptions,
        format!(
            "weights are arrays by name (a state_dict), one path or several, the bytes of a file, or an Engine: found {kind}"
        ),
    )
}

/// How far a refit is, and whether it shall end.
#[derive(Default)]
pub(crate) struct Followed {
    cancel: Cancel,
    /// Called with bytes done and bytes to do.
    progress: Option<Py<PyAny>>,
    /// What the refit said last: its threads take no lock of Python's.
    said: Arc<(AtomicU64, AtomicU64)>,
}

impl Followed {
    pub(crate) fn new(
        cancel: Option<&Bound<'_, work::Cancel>>,
        progress: Option<Py<PyAny>>,
    ) -> Self {
        let cancel = cancel.map(|cancel| cancel.get().cancel.clone()).unwrap_or_default();
        Self { cancel, progress, said: Arc::default() }
    }

    /// What the refit is told.
    pub(crate) fn options(&self, fit: FitPolicy) -> RefitOptions {
        let said = self.said.clone();
        let progress = Progress::new(move |done, all| {
            said.0.store(done, Ordering::Relaxed);
            said.1.store(all, Ordering::Relaxed);
        });
        let progress = self.progress.is_some().then_some(progress);
        RefitOptions { fit, progress, cancel: Some(self.cancel.clone()), ..RefitOptions::default() }
    }
}

impl Watch for Followed {
    fn cancel(&self) -> bool {
        self.cancel.cancel();
        true
    }

    fn tell(&self, py: Python<'_>) -> PyResult<()> {
        let Some(progress) = &self.progress else { return Ok(()) };
        let said = (self.said.0.load(Ordering::Relaxed), self.said.1.load(Ordering::Relaxed));
        progress.call1(py, said).map(drop)
    }
}
