//! `refit.Engine`.

use crate::array;
use crate::describe;
use crate::failure::{Class, Failure};
use crate::input::{as_bytes, as_path, type_name};
use crate::options::{self, Changes, GivenModel, bind_map, build_options, file_flags};
use crate::source::{Weights, path_of};
use crate::work::{self, Unwatched};
use engine_builder::{Binding, build_bound, build_with_report};
use engine_format::{self as format, Bytes, Tensor, Weight, WeightSource, check_fit};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyList};
use refit::OnnxSource;
use std::path::PathBuf;

/// A compiled model: its program, the table of its weights and, unless it is stripped, their values.
///
/// An engine does not change; `strip` and `fill` give others. It runs when it is loaded onto a device, as a `refit.Module`.
#[pyclass(frozen, module = "refit")]
pub(crate) struct Engine {
    engine: format::Engine,
    /// What the weights were bound to at build, as JSON.
    binding: Option<String>,
}

impl Engine {
    pub(crate) fn new(engine: format::Engine) -> Self {
        Self { engine, binding: None }
    }

    pub(crate) fn engine(&self) -> &format::Engine {
        &self.engine
    }

    /// An engine as it was given: itself, the path of a file, or its bytes.
    pub(crate) fn take(value: &Bound<'_, PyAny>) -> PyResult<format::Engine> {
        let py = value.py();
        if let Ok(engine) = value.cast::<Self>() {
            return Ok(engine.get().engine.clone());
        }
        if let Some(bytes) = as_bytes(value)? {
            return work::long(py, &Unwatched, move || Ok(format::Engine::read(bytes)?));
        }
        match as_path(value) {
            Some(path) => {
                let path = path_of(py, path)?;
                work::long(py, &Unwatched, move || Ok(refit::open_engine(&path)?))
            }
            None => {
                let kind = type_name(value);
                let what = "an engine is an Engine, the path of an engine file, or its bytes";
                Err(Failure::new(Class::InvalidOptions, format!("{what}: found {kind}")).into())
            }
        }
    }
}

#[pymethods]
impl Engine {
    /// Compiles an ONNX model: a path, the bytes of a file, or an `onnx.ModelProto`.
    ///
    /// `refit` says which weights may be given new values: `"all"`, `"identical"` (only the values at build, checked by digest) or `"none"`;
    /// `refit_only` are patterns (`*`, `?`) of names outside of which weights are frozen. `shapes` fixes the sizes of inputs by name, each a
    /// list of numbers. `keep_inputs` are inputs that stay inputs although the model has an initializer of their name. Without
    /// `optimise` the graph runs as it was imported. With the `precision` `"f16"` or `"bf16"` products, convolutions and embeddings read their
    /// weights rounded to that type, and sum in float32; weights are given, and kept, as they are in the model.
    ///
    /// With a `checkpoint` (what `Module.refit` takes as weights) the engine's weights get the names and the layout that they have there, whatever
    /// the exporter made of them, and the engine starts from its values. What is not clear is `Unbound`, with a `report`; a second export from
    /// other weights (`other`, `other_checkpoint`) settles most of it, `bind` the rest: a mapping such as
    /// `{"onnx::MatMul_7": "fc.weight", "mask": "constant"}`, or the path of a TOML file of such lines.
    ///
    /// Raises `Unsupported` (`nodes`), `Unbound`, `InvalidFile`, `InvalidOptions`, `FileNotFoundError`.
    #[staticmethod]
    #[pyo3(signature = (
        onnx, *, refit = "all", refit_only = vec![], keep_inputs = vec![], shapes = None, checkpoint = None, bind = None,
        other = None, other_checkpoint = None, pin_unbound = false, optimise = true, precision = "f32"
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn build(
        py: Python<'_>,
        onnx: &Bound<'_, PyAny>,
        refit: &str,
        refit_only: Vec<String>,
        keep_inputs: Vec<String>,
        shapes: Option<&Bound<'_, PyAny>>,
        checkpoint: Option<&Bound<'_, PyAny>>,
        bind: Option<&Bound<'_, PyAny>>,
        other: Option<&Bound<'_, PyAny>>,
        other_checkpoint: Option<&Bound<'_, PyAny>>,
        pin_unbound: bool,
        optimise: bool,
        precision: &str,
    ) -> PyResult<Self> {
        let model = GivenModel::take(onnx)?;
        let options = build_options(
            refit,
            refit_only,
            keep_inputs,
            shapes,
            optimise,
            options::precision(precision)?,
        )?;
        let Some(checkpoint) = checkpoint else {
            if bind.is_some() || other.is_some() || other_checkpoint.is_some() || pin_unbound {
                let what = "bind, other, other_checkpoint and pin_unbound go with a checkpoint";
                return Err(Failure::new(Class::InvalidOptions, what).into());
            }
            return work::long(py, &Unwatched, move || {
                let (engine, _) = build_with_report(&model.open()?, &options)?;
                Ok(Self::new(engine))
            });
        };
        let checkpoint = Weights::take(checkpoint)?;
        let map = bind.map(bind_map).transpose()?.unwrap_or_default();
        let other = other.map(GivenModel::take).transpose()?;
        let other_weights = other_checkpoint.map(Weights::take).transpose()?;
        work::long(py, &Unwatched, move || {
            let checkpoint = checkpoint.open_plain()?;
            let other = other.map(GivenModel::open).transpose()?;
            let other = other.map(|other| OnnxSource::new(&other, "the other model"));
            let other_weights = other_weights.map(Weights::open_plain).transpose()?;
            let binding = Binding {
                checkpoint: &*checkpoint,
                map,
                pin_unbound,
                other: other.as_ref().map(|other| other as &dyn WeightSource),
                other_weights: other_weights.as_deref().map(|weights| weights as &dyn WeightSource),
            };
            let (engine, _, report) = build_bound(&model.open()?, &options, &binding)?;
            let binding = serde_json::to_string(&report).expect("a report is plain data");
            Ok(Self { engine, binding: Some(binding) })
        })
    }

    /// Opens an engine file, by its path or as bytes. A file is mapped and checked whole, its weights are not copied: replace
    /// engine files by renaming, never by writing into them.
    ///
    /// Raises `InvalidFile`, `FileNotFoundError`.
    #[staticmethod]
    fn load(file: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::take(file).map(Self::new)
    }

    /// The engine without the weights that may be replaced.
    ///
    /// Raises `NotRefittable` for a frozen engine.
    fn strip(&self, py: Python<'_>) -> PyResult<Self> {
        let engine = self.engine.clone();
        work::short(py, move || Ok(Self::new(engine.strip()?)))
    }

    /// The engine with these weights: a refit without a device. Arguments are those of `Module.refit`. Everything is checked
    /// before, and this engine does not change.
    ///
    /// Raises `UnfitWeights` (`misfits`), `MissingWeights` (`names`), `NotRefittable`, `InvalidFile`.
    #[pyo3(signature = (weights, *, partial = false, allow_extra = false, cast = false, lora = None))]
    fn fill(
        &self,
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        partial: bool,
        allow_extra: bool,
        cast: bool,
        lora: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let changes = Changes::take(partial, allow_extra, cast, lora)?;
        let weights = Weights::take(weights)?;
        let engine = self.engine.clone();
        work::long(py, &Unwatched, move || {
            let policy = changes.policy;
            Ok(Self::new(engine.fill(&*weights.open(&engine, changes)?, policy)?))
        })
    }

    /// Whether these weights would fit, and all that speaks against them, as a `FitReport`, which is true if they do. That they do
    /// not is no error here.
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
        let weights = Weights::take(weights)?;
        let engine = self.engine.clone();
        let report = work::long(py, &Unwatched, move || {
            let policy = changes.policy;
            Ok(check_fit(&engine, &*weights.open(&engine, changes)?, policy)
                .map_err(format::FitError::from)?)
        })?;
        describe::fit(py, &report)
    }

    /// Writes an engine file, which appears whole or not at all. With `strip` the weights are left out, which those of a stripped
    /// engine are anyway; with `freeze` the file takes no other weights any more; `compress` packs weights, and by default they stay as they are.
    ///
    /// Raises `NotRefittable`, `OSError`.
    #[pyo3(signature = (path, *, strip = false, freeze = false, compress = None))]
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        strip: bool,
        freeze: bool,
        compress: Option<bool>,
    ) -> PyResult<()> {
        let engine = self.engine.clone();
        let flags = file_flags(&engine, strip, freeze, compress);
        work::long(py, &Unwatched, move || {
            refit::write_engine(&engine, flags, &path, None)?;
            Ok(())
        })
    }

    /// The bytes that `save` would write.
    #[pyo3(signature = (*, strip = false, freeze = false, compress = None))]
    fn to_bytes<'py>(
        &self,
        py: Python<'py>,
        strip: bool,
        freeze: bool,
        compress: Option<bool>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let engine = self.engine.clone();
        let flags = file_flags(&engine, strip, freeze, compress);
        let bytes = work::long(py, &Unwatched, move || Ok(engine.serialize(flags)?))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The values of all weights by name, parameters included, each a copy.
    ///
    /// Raises `MissingWeights` (`names`) for a stripped engine.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let missing = self.engine.missing();
        if !missing.is_empty() {
            let what =
                format!("the engine is stripped, it lacks the weights: {}", missing.join(", "));
            return Err(Failure::new(Class::MissingWeights, what).list("names", missing).into());
        }
        let engine = self.engine.clone();
        let copies = work::long(py, &Unwatched, move || {
            let weights = engine.parts().weights.iter();
            let copy = |weight: &Weight| {
                let tensor = weight.tensor().expect("no weight is missing");
                let bytes = Bytes::copy_from(tensor.bytes());
                let copy = Tensor::new(tensor.dtype(), tensor.shape(), bytes);
                (weight.name.clone(), copy.expect("a copy of a tensor"))
            };
            Ok(weights.map(copy).collect::<Vec<_>>())
        })?;
        let state = PyDict::new(py);
        for (name, copy) in copies {
            state.set_item(name, array::of_tensor(py, copy)?)?;
        }
        Ok(state)
    }

    /// Inputs in the model's order, as `Port`s.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        describe::ports(py, &self.engine.parts().inputs)
    }

    /// Outputs in the model's order, as `Port`s.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        describe::ports(py, &self.engine.parts().outputs)
    }

    /// The weight table, sorted by name, as `Weight`s.
    #[getter]
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        describe::weights(py, &self.engine)
    }

    /// What the engine is: some of `REFIT`, `REFIT_IDENTICAL`, `REFIT_INDIVIDUAL`, `EXCLUDE_WEIGHTS`, `COMPRESSED`, `F16` and `BF16`.
    #[getter]
    fn flags<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFrozenSet>> {
        PyFrozenSet::new(py, self.engine.flags().flag_names())
    }

    /// The version of the weights: a digest of all of them, 64 hexadecimal digits; `None` if any is missing. The same weights have the same
    /// version wherever they come from.
    #[getter]
    fn version(&self) -> Option<String> {
        self.engine.version().map(|version| version.to_string())
    }

    /// Names of the weights whose values are not here, sorted.
    #[getter]
    fn missing(&self) -> Vec<String> {
        self.engine.missing()
    }

    /// The model's `metadata_props`.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        for (key, value) in &self.engine.parts().metadata {
            metadata.set_item(key, value)?;
        }
        Ok(metadata)
    }

    /// What a build with a checkpoint bound, as plain data; `None` for any other engine.
    #[getter]
    fn binding(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.binding {
            None => Ok(py.None()),
            Some(json) => py.import("json")?.call_method1("loads", (json,))?.into_py_any(py),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("refit.show")?.call_method1("engine", (slf,))?.extract()
    }

    fn _repr_html_(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.py().import("refit.show")?.call_method1("engine_html", (slf,))?.extract()
    }

    /// Pickled as the file it would be.
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let load = slf.get_type().getattr("load")?;
        Ok((load, (slf.get().to_bytes(slf.py(), false, false, None)?,)))
    }

    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// It does not change, so a copy is itself.
    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }
}
