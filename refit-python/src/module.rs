//! `refit.Module`.

use crate::array;
use crate::describe;
use crate::engine::Engine;
use crate::failure::{Class, Failure};
use crate::input::{pairs, value};
use crate::options::{Changes, file_flags};
use crate::source::{Followed, Weights};
use crate::work::{self, Cancel, Unwatched, Watch};
use engine_format::{Digest, FitError, Port, check_fit};
use engine_runtime::{
    Device, DeviceSelector, LiveModule, Module as Loaded, Outputs, RunOptions, State, Value, Values,
};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

/// An engine on a device, ready to run and to be refitted.
///
/// Every method may be called from many threads; runs go on while a refit reads, and each gives the version of the weights it used.
#[pyclass(frozen, module = "refit", name = "Module")]
pub(crate) struct Module {
    /// `None` once it was closed.
    loaded: RwLock<Option<Arc<dyn Loaded>>>,
    device: String,
    threads: Option<usize>,
    pace: Pace,
    version: Mutex<Option<(Digest, Py<PyString>)>>,
}

/// How long runs take: one that will soon be over needs no thread to wait for it.
struct Pace {
    /// Of the last run.
    micros: AtomicU64,
    /// Bytes of its inputs.
    bytes: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { micros: AtomicU64::new(u64::MAX), bytes: AtomicU64::new(0) }
    }
}

impl Pace {
    /// Microseconds that Ctrl-C may go unheard.
    const SHORT: u64 = 10_000;

    fn is_short(&self, bytes: u64) -> bool {
        let last = self.micros.load(Ordering::Relaxed);
        last < Self::SHORT && bytes <= self.bytes.load(Ordering::Relaxed)
    }

    fn note(&self, start: Instant, bytes: u64) {
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

impl Module {
    fn of(loaded: Arc<dyn Loaded>, device: String, threads: Option<usize>) -> Self {
        Self {
            loaded: RwLock::new(Some(loaded)),
            device,
            threads,
            pace: Pace::default(),
            version: Mutex::new(None),
        }
    }

    /// Another module on the same device.
    fn beside(&self, loaded: Box<dyn Loaded>) -> Self {
        Self::of(Arc::from(loaded), self.device.clone(), self.threads)
    }

    pub(crate) fn loaded(&self) -> PyResult<Arc<dyn Loaded>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(loaded.ok_or_else(|| Failure::new(Class::Error, "the module was closed"))?)
    }

    /// A version as text, which stays the same from run to run.
    fn version_text<'py>(&self, py: Python<'py>, version: Digest) -> Bound<'py, PyString> {
        let mut known = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((digest, text)) if *digest == version => text.bind(py).clone(),
            _ => {
                let text = PyString::new(py, &version.to_string());
                *known = Some((version, text.clone().unbind()));
                text
            }
        }
    }

    /// Runs, and gives the outputs that were asked for in their order.
    fn run_values<'py>(
        &self,
        py: Python<'py>,
        inputs: Values,
        wanted: Option<Vec<String>>,
        seed: Option<u64>,
        cancel: Option<&Bound<'py, Cancel>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loaded = self.loaded()?;
        let tensors = inputs.values().flat_map(Value::tensors);
        let bytes = tensors.map(|tensor| tensor.bytes().len() as u64).sum();
        let cancel = cancel.map(|cancel| cancel.get().cancel.clone()).unwrap_or_default();
        let options = RunOptions {
            outputs: wanted.clone(),
            seed,
            cancel: Some(cancel.clone()),
            ..RunOptions::default()
        };
        let start = Instant::now();
        let outputs = match self.pace.is_short(bytes) {
            // The inputs are dropped with Python's lock held: they may be other frameworks'.
            true => work::short(py, || Ok(loaded.run_with(&inputs, &options)?))?,
            false => {
                let (loaded, inputs) = (loaded.clone(), Arc::new(inputs));
                let given = inputs.clone();
                let outputs =
                    work::long(py, &cancel, move || Ok(loaded.run_with(&given, &options)?));
                drop(inputs);
                outputs?
            }
        };
        self.pace.note(start, bytes);
        self.outputs(py, loaded.outputs(), outputs, wanted)
    }

    fn outputs<'py>(
        &self,
        py: Python<'py>,
        ports: &[Port],
        mut outputs: Outputs,
        wanted: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static OUTPUTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = OUTPUTS.get_or_try_init(py, || {
            PyResult::Ok(py.import("refit.types")?.getattr("Outputs")?.unbind())
        })?;
        let results = class.bind(py).call0()?;
        let dict = results.cast::<PyDict>()?;
        let names = wanted.as_ref().map(|wanted| wanted.iter().map(String::as_str).collect());
        let names: Vec<&str> =
            names.unwrap_or_else(|| ports.iter().map(|port| port.name.as_str()).collect());
        for name in names {
            let result = match outputs.tensors.remove(name) {
                Some(tensor) => array::of_tensor(py, tensor)?,
                None => match outputs.structures.remove(name) {
                    Some(value) => array::of_value(py, value)?,
                    None => continue,
                },
            };
            dict.set_item(name, result)?;
        }
        results.setattr(intern!(py, "version"), self.version_text(py, outputs.version))?;
        Ok(results)
    }
}

impl Drop for Module {
    /// In a forked process the threads that it would wait for are not there: what it holds is left to the end of the process.
    fn drop(&mut self) {
        if work::is_forked() {
            let loaded = self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(loaded.take());
        }
    }
}

fn port<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|port| port.name == name)
}

/// More threads than any machine has processors.
const MOST_THREADS: usize = 4096;

/// Opens a device; that `auto` passes over a GPU which does not open is a warning.
fn open(py: Python<'_>, name: &str, threads: Option<usize>) -> PyResult<Device> {
    let Ok(selector) = name.parse::<DeviceSelector>();
    let device = work::long(py, &Unwatched, move || Ok(Device::open(&selector)?))?;
    if let Some(error) = device.passed_over() {
        let what = format!("the GPU does not open, the CPU is used: {error}");
        let category = py.get_type::<PyRuntimeWarning>();
        py.import("warnings")?.call_method1("warn", (what, category, 3))?;
    }
    let Some(threads) = threads else { return Ok(device) };
    if !(1..=MOST_THREADS).contains(&threads) {
        let what = format!("threads: expected 1 to {MOST_THREADS}, found {threads}");
        return Err(Failure::new(Class::InvalidOptions, what).into());
    }
    if device.is_gpu() {
        let what = format!("threads go with the CPU, and the device is {device}");
        return Err(Failure::new(Class::InvalidOptions, what).into());
    }
    Ok(device.with_threads(threads))
}

#[pymethods]
impl Module {
    /// Loads an engine, or the engine file of a path or of bytes, onto a device: `"auto"` (a hardware GPU if there is one, else the CPU),
    /// `"cpu"`, `"gpu"`, `"gpu:N"` or part of an adapter's name. `threads` limits what a run on the CPU spreads over; results do not depend on it. A
    /// stripped engine loads too, and needs a refit before it runs.
    ///
    /// Raises `DeviceError`, `Unsupported` (`nodes`), and what `Engine.load` raises.
    #[new]
    #[pyo3(signature = (engine, device = "auto", *, threads = None))]
    fn new(engine: &Bound<'_, PyAny>, device: &str, threads: Option<usize>) -> PyResult<Self> {
        let py = engine.py();
        let engine = Engine::take(engine)?;
        let opened = open(py, device, threads)?;
        let loaded = work::long(py, &Unwatched, move || Ok(LiveModule::load(engine, &opened)?))?;
        Ok(Self::of(Arc::new(loaded), device.to_owned(), threads))
    }

    /// Runs, with inputs in the model's order or by name; see `run`.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loaded = self.loaded()?;
        let ports = loaded.inputs();
        if args.len() > ports.len() {
            let what = format!("expected at most {} inputs, found {}", ports.len(), args.len());
            return Err(Failure::input(what).into());
        }
        let mut inputs = Values::new();
        for (port, given) in ports.iter().zip(args.iter()) {
            inputs.insert(port.name.clone(), value(&given, Some(port))?);
        }
        for (name, given) in kwargs.into_iter().flatten() {
            let name: String = name.extract()?;
            let given = value(&given, port(ports, &name))?;
            if inputs.insert(name.clone(), given).is_some() {
                return Err(Failure::input(format!("input {name:?} is given twice")).into());
            }
        }
        self.run_values(args.py(), inputs, None, None, None)
    }

    /// Runs the engine. `feeds` are inputs by name: arrays of the very element type of the port (numbers and lists are converted), lists of
    /// arrays for a sequence, `None` for an optional value that is absent. Gives `Outputs` by name, all or those that are asked for; what only
    /// the others need is not calculated. `seed` makes draws by chance repeatable.
    ///
    /// Raises `InvalidInputs` (`problems`), `MissingWeights` (`names`), `Cancelled`, `OutOfMemory`, `DeviceError`.
    #[pyo3(signature = (feeds = None, outputs = None, *, seed = None, cancel = None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        feeds: Option<&Bound<'py, PyAny>>,
        outputs: Option<Vec<String>>,
        seed: Option<u64>,
        cancel: Option<&Bound<'py, Cancel>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let loaded = self.loaded()?;
        let feeds = feeds.map(pairs).transpose()?.unwrap_or_default();
        let values = feeds.into_iter().map(|(name, given)| {
            let given = value(&given, port(loaded.inputs(), &name))?;
            Ok((name, given))
        });
        self.run_values(py, values.collect::<PyResult<_>>()?, outputs, seed, cancel)
    }

    /// Replaces the weights, all or nothing, and gives their version, 64 hexadecimal digits. Runs go on meanwhile, with the weights that were there
    /// when they began.
    ///
    /// `weights` are arrays by name (a `state_dict`, which is copied and digested while it is read), the path of a file, several paths, the
    /// bytes of a file, a `torch.nn.Module`, an `Engine` or a `Module`; a path may be an address of the Hugging Face hub's cache,
    /// `hf://ORG/NAME/FILE`. With `partial` what is not given keeps its values; `allow_extra` accepts tensors that the engine does not know;
    /// `cast` converts between f32, f16 and bf16. `lora` are adapters that are merged into the weights, or into those of the engine if
    /// none are given: paths of files or of the folders that PEFT writes, or pairs of a path and a scale. `progress` is called with bytes
    /// done and bytes to do, now and then; what it raises ends the refit.
    ///
    /// Raises `UnfitWeights` (`misfits`), `MissingWeights` (`names`), `NotRefittable`, `InvalidFile`, `Cancelled`; the module then has the weights
    /// it had.
    #[pyo3(signature = (
        weights = None, *, partial = false, allow_extra = false, cast = false, lora = None, progress = None, cancel = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn refit(
        &self,
        py: Python<'_>,
        weights: Option<&Bound<'_, PyAny>>,
        partial: bool,
        allow_extra: bool,
        cast: bool,
        lora: Option<&Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
        cancel: Option<&Bound<'_, Cancel>>,
    ) -> PyResult<String> {
        let changes = Changes::take(partial, allow_extra, cast, lora)?;
        let weights = weights.map_or(Ok(Weights::Own), Weights::take)?;
        let (loaded, engine) = (self.loaded()?, self.loaded()?.engine());
        let followed = Followed::new(cancel, progress);
        let options = followed.options(changes.policy);
        let version = work::long(py, &followed, move || {
            let source = weights.open(&engine, changes)?;
            // What a refit frees it keeps for the next one, unless somebody else holds it.
            drop(engine);
            Ok(loaded.refit_with(&*source, &options)?.version)
        })?;
        followed.tell(py)?;
        Ok(version.to_string())
    }

    /// Another module for the same engine, with these weights, or with the same if none are given; from then on neither knows the
    /// other. What is equal is shared. Arguments are those of `refit`.
    #[pyo3(signature = (
        weights = None, *, partial = false, allow_extra = false, cast = false, lora = None, progress = None, cancel = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn fork(
        &self,
        py: Python<'_>,
        weights: Option<&Bound<'_, PyAny>>,
        partial: bool,
        allow_extra: bool,
        cast: bool,
        lora: Option<&Bound<'_, PyAny>>,
        progress: Option<Py<PyAny>>,
        cancel: Option<&Bound<'_, Cancel>>,
    ) -> PyResult<Self> {
        let changes = Changes::take(partial, allow_extra, cast, lora)?;
        let loaded = self.loaded()?;
        let Some(weights) =
            weights.map(Weights::take).or((!changes.lora.is_empty()).then_some(Ok(Weights::Own)))
        else {
            return Ok(self.beside(loaded.boxed_clone()));
        };
        let (weights, engine) = (weights?, loaded.engine());
        let followed = Followed::new(cancel, progress);
        let options = followed.options(changes.policy);
        let forked = work::long(py, &followed, move || {
            Ok(loaded.fork_with(&*weights.open(&engine, changes)?, &options)?)
        })?;
        followed.tell(py)?;
        Ok(self.beside(forked))
    }

    /// Whether these weights would fit, as a `FitReport`; see `Engine.check`.
    #[pyo3(signature = (weights, *, partial = false, allow_extra = false, cast = false, lora = None))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        weights: &Bound<'py, PyAny>,
        partial: bool,
        allow_extra: bool,
        cast: bool,
        lora: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let changes = Changes::take(partial, allow_extra, cast, lora)?;
        let (weights, engine) = (Weights::take(weights)?, self.loaded()?.engine());
        let report = work::long(py, &Unwatched, move || {
            let policy = changes.policy;
            let source = weights.open(&engine, changes)?;
            Ok(check_fit(&engine, &*source, policy).map_err(FitError::from)?)
        })?;
        describe::fit(py, &report)
    }

    /// Goes back to the weights before the last refit, and gives their version; called again, forth to those after it.
    fn rollback(&self, py: Python<'_>) -> PyResult<String> {
        let loaded = self.loaded()?;
        let version = work::long(py, &Unwatched, move || Ok(loaded.rollback()?))?;
        Ok(version.to_string())
    }

    /// Gives up the memory that only a refit in part, a rollback or a file needs. The module runs as before, and takes a complete refit.
    fn drop_sources(&self, py: Python<'_>) -> PyResult<()> {
        let loaded = self.loaded()?;
        work::long(py, &Unwatched, move || Ok(loaded.drop_sources()?))
    }

    /// Bytes that it holds, by kind: `weights`, `previous` (what `rollback` goes back to), `constants` (calculated of weights), `on_device`,
    /// `forms` (other forms of constants that kernels read), `runs` (kept for the next run).
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = self.loaded()?.memory();
        let kinds = PyDict::new(py);
        for (kind, bytes) in [
            ("weights", memory.weights),
            ("previous", memory.previous),
            ("constants", memory.constants),
            ("on_device", memory.on_device),
            ("forms", memory.forms),
            ("runs", memory.runs),
        ] {
            kinds.set_item(kind, bytes)?;
        }
        Ok(kinds)
    }

    /// Gives up memory that is kept for speed alone; the next run and the next refit take it anew.
    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        let loaded = self.loaded()?;
        work::long(py, &Unwatched, move || {
            loaded.trim();
            Ok(())
        })
    }

    /// The engine with the weights it has now.
    #[getter]
    fn engine(&self) -> PyResult<Engine> {
        Ok(Engine::new(self.loaded()?.engine()))
    }

    /// Inputs in the model's order, as `Port`s.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        describe::ports(py, self.loaded()?.inputs())
    }

    /// Outputs in the model's order, as `Port`s.
    #[getter(outputs)]
    fn output_ports<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        describe::ports(py, self.loaded()?.outputs())
    }

    /// `"ready"`, or `"needs weights"`.
    #[getter]
    fn state(&self) -> PyResult<&'static str> {
        Ok(match self.loaded()?.state() {
            State::Ready(_) => "ready",
            State::NeedsWeights(_) => "needs weights",
        })
    }

    /// The version of its weights, 64 hexadecimal digits; `None` if it needs weights.
    #[getter]
    fn version<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyString>>> {
        Ok(match self.loaded()?.state() {
            State::Ready(version) => Some(self.version_text(py, version)),
            State::NeedsWeights(_) => None,
        })
    }

    /// Names of the weights that it needs before it can run.
    #[getter]
    fn missing(&self) -> PyResult<Vec<String>> {
        Ok(match self.loaded()?.state() {
            State::Ready(_) => Vec::new(),
            State::NeedsWeights(names) => names,
        })
    }

    /// Where it runs.
    #[getter]
    fn device(&self) -> PyResult<String> {
        Ok(self.loaded()?.device().to_string())
    }

    /// Where each node runs that was run so far, on a GPU: path, operator, and `None` for the GPU or why it is the CPU.
    fn placement<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let steps = self.loaded()?.placement();
        let steps = steps.iter().map(|step| {
            let why = step.obstacle.as_ref().map(ToString::to_string);
            (&*step.path, step.op, why).into_py_any(py)
        });
        PyList::new(py, steps.collect::<PyResult<Vec<_>>>()?)
    }

    /// Gives up everything; the module raises from then on. The end of a `with` block does the same.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        work::started()?;
        let closed = self.loaded.write().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(closed));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __copy__(&self) -> PyResult<Self> {
        Ok(self.beside(self.loaded()?.boxed_clone()))
    }

    /// The copy has weights of its own: refitting either leaves the other as it is.
    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__copy__()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (py, module) = (slf.py(), slf.get());
        let loaded = module.loaded()?;
        let flags = match loaded.state() {
            State::Ready(_) => engine_format::SerializeFlags::INCLUDE_REFIT,
            State::NeedsWeights(_) => file_flags(&loaded.engine(), true, false, None),
        };
        let bytes = work::long(py, &Unwatched, move || Ok(loaded.serialize(flags)?))?;
        let make = py.import("refit.show")?.getattr("unpickle_module")?;
        let given = (PyBytes::new(py, &bytes), &module.device, module.threads);
        Ok((make, given.into_pyobject(py)?.into_any()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("refit.show")?.call_method1("module", (slf,))?.extract()
    }

    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("refit.show")?.call_method1("module_html", (slf,))?.extract()
    }
}
