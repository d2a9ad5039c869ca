//! Options that several calls take.

use crate::failure::{Class, Failure};
use crate::input::{as_bytes, as_path, is_mapping, pairs, type_name};
use crate::source::path_of;
use engine_builder::{BindMap, BuildOptions, Precision, RefitMode};
use engine_format::{EngineFlags, FitPolicy, SerializeFlags};
use engine_onnx::Model;
use pyo3::prelude::*;
use std::path::PathBuf;

/// What is done to weights on their way, and how complete they have to be.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) policy: FitPolicy,
    pub(crate) cast: bool,
    pub(crate) lora: Vec<(PathBuf, Option<f32>)>,
}

impl Changes {
    pub(crate) fn take(
        partial: bool,
        allow_extra: bool,
        cast: bool,
        lora: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let lora = lora.map(adapters).transpose()?.unwrap_or_default();
        Ok(Self { policy: FitPolicy { partial, allow_extra }, cast, lora })
    }
}

/// One adapter or several: a path, or a path and a scale.
fn adapters(given: &Bound<'_, PyAny>) -> PyResult<Vec<(PathBuf, Option<f32>)>> {
    if let Some(adapter) = adapter(given)? {
        return Ok(vec![adapter]);
    }
    let one = |given: PyResult<Bound<'_, PyAny>>| {
        let given = given?;
        adapter(&given)?.ok_or_else(|| {
            let what = "an adapter is a path, or a pair of a path and a scale";
            Failure::new(Class::InvalidOptions, format!("{what}: found {given}")).into()
        })
    };
    given.try_iter()?.map(one).collect()
}

fn adapter(given: &Bound<'_, PyAny>) -> PyResult<Option<(PathBuf, Option<f32>)>> {
    let (path, scale) = match (as_path(given), given.extract::<(Bound<'_, PyAny>, f32)>()) {
        (Some(path), _) => (path, None),
        (None, Ok((path, scale))) => match as_path(&path) {
            Some(path) => (path, Some(scale)),
            None => return Ok(None),
        },
        (None, Err(_)) => return Ok(None),
    };
    Ok(Some((path_of(given.py(), path)?, scale)))
}

/// What a file holds.
pub(crate) fn file_flags(
    engine: &engine_format::Engine,
    strip: bool,
    freeze: bool,
    compress: Option<bool>,
) -> SerializeFlags {
    let mut flags = SerializeFlags::empty();
    flags.set(SerializeFlags::EXCLUDE_WEIGHTS, strip || !engine.is_full());
    flags.set(SerializeFlags::INCLUDE_REFIT, !freeze);
    let was = engine.flags().contains(EngineFlags::COMPRESSED);
    flags.set(SerializeFlags::COMPRESS, compress.unwrap_or(was));
    flags
}

/// Which weights may change, by name.
pub(crate) fn refit_mode(name: &str) -> Result<RefitMode, Failure> {
    match name {
        "all" => Ok(RefitMode::All),
        "identical" => Ok(RefitMode::Identical),
        "none" => Ok(RefitMode::None),
        other => Err(Failure::new(
            Class::InvalidOptions,
            format!("refit: expected \"all\", \"identical\" or \"none\", found {other:?}"),
        )),
    }
}

/// To what weights are rounded, by name.
pub(crate) fn precision(name: &str) -> Result<Precision, Failure> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        "bf16" => Ok(Precision::BF16),
        other => Err(Failure::new(
            Class::InvalidOptions,
            format!("precision: expected \"f32\", \"f16\" or \"bf16\", found {other:?}"),
        )),
    }
}

/// A model as it was given.
pub(crate) enum GivenModel {
    Path(PathBuf),
    Bytes(engine_format::Bytes),
}

impl GivenModel {
    /// A path, the bytes of a file, or an `onnx.ModelProto`.
    pub(crate) fn take(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Some(bytes) = as_bytes(value)? {
            return Ok(Self::Bytes(bytes));
        }
        if let Some(path) = as_path(value) {
            return Ok(Self::Path(path_of(value.py(), path)?));
        }
        if value.hasattr("SerializeToString")? {
            return Self::take(&value.call_method0("SerializeToString")?);
        }
        let kind = type_name(value);
        let what = "a model is a path, the bytes of an ONNX file, or an onnx.ModelProto";
        Err(Failure::new(Class::InvalidOptions, format!("{what}: found {kind}")).into())
    }

    /// Reads it.
    pub(crate) fn open(self) -> Result<Model, Failure> {
        Ok(match self {
            GivenModel::Path(path) => Model::open(&path)?,
            GivenModel::Bytes(bytes) => Model::parse(bytes, None)?,
        })
    }
}

/// Decisions of a binding: a mapping with the entries of a map's file, or the path of one.
pub(crate) fn bind_map(given: &Bound<'_, PyAny>) -> PyResult<BindMap> {
    let invalid = |error: String| Failure::new(Class::InvalidOptions, error);
    if is_mapping(given)? {
        let text: String = given.py().import("json")?.call_method1("dumps", (given,))?.extract()?;
        let map = serde_json::from_str(&text);
        return Ok(map.map_err(|error| invalid(format!("not a map of initializers: {error}")))?);
    }
    let path = as_path(given)
        .ok_or_else(|| invalid("bind is a mapping, or the path of a map".to_owned()))?;
    let text = std::fs::read_to_string(path_of(given.py(), path.clone())?);
    let text =
        text.map_err(|error| Failure::new(Class::Os, format!("{}: {error}", path.display())))?;
    Ok(BindMap::parse(&text).map_err(Failure::from)?)
}

/// Shapes of inputs by name.
pub(crate) fn build_options(
    refit: &str,
    refit_only: Vec<String>,
    keep_inputs: Vec<String>,
    shapes: Option<&Bound<'_, PyAny>>,
    optimise: bool,
    precision: Precision,
) -> PyResult<BuildOptions> {
    let shapes = shapes.map(pairs).transpose()?.unwrap_or_default();
    let shapes = shapes.into_iter().map(|(name, shape)| {
        let sizes = shape.extract().map_err(|_| {
            let what = format!("shapes: expected a list of sizes for {name:?}, found {shape}");
            PyErr::from(Failure::new(Class::InvalidOptions, what))
        });
        sizes.map(|sizes| (name, sizes))
    });
    Ok(BuildOptions {
        refit: refit_mode(refit)?,
        refit_only,
        keep_inputs,
        shapes: shapes.collect::<PyResult<_>>()?,
        strip: false,
        optimise,
        precision,
    })
}
