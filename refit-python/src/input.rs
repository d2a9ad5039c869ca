//! Arrays that come in: whatever speaks DLPack, without a copy where it lies as a tensor does, and all else through NumPy.

use crate::array::ADDED;
use crate::dlpack::Foreign;
use crate::failure::{Class, Failure};
use engine_format::{Bytes, DType, Form, Port, Tensor, TensorInfo};
use engine_runtime::Value;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyBytes, PyCapsule, PyDict, PyList, PyMemoryView, PyString, PyTuple,
};

/// A tensor that was given.
pub(crate) enum Given {
    /// Of another framework; `as_dtype` is its element type, of which DLPack may have seen another of the same width.
    Foreign { tensor: Foreign, as_dtype: DType },
    /// Already one of ours: strings.
    Own(Tensor),
}

impl Given {
    /// Takes anything that is an array: an object of NumPy, PyTorch, JAX or another framework, a number, nested lists, strings.
    /// Numbers without a type get `wanted`.
    pub(crate) fn take(value: &Bound<'_, PyAny>, wanted: Option<DType>) -> PyResult<Self> {
        if let Some(capsule) = capsule(value)? {
            match Foreign::take(&capsule) {
                Ok(tensor) => return Ok(Self::foreign(tensor)),
                Err(why) => {
                    return Self::on_host(value)?.ok_or_else(|| refused(value, &why).into());
                }
            }
        }
        match Self::on_host(value)? {
            Some(given) => Ok(given),
            None => Self::by_numpy(value, wanted),
        }
    }

    fn foreign(tensor: Foreign) -> Self {
        Self::Foreign { as_dtype: tensor.dtype(), tensor }
    }

    /// A tensor of PyTorch that is on a device, or part of a calculation.
    fn on_host(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = value.py();
        let Some(detach) = value.getattr_opt(intern!(py, "detach"))? else { return Ok(None) };
        let value = detach.call0()?.call_method0(intern!(py, "cpu"))?;
        let Some(capsule) = capsule(&value)? else { return Ok(None) };
        Foreign::take(&capsule)
            .map(|tensor| Some(Self::foreign(tensor)))
            .map_err(|why| refused(&value, &why).into())
    }

    /// What NumPy makes of a value: of lists and numbers, of types that DLPack does not have, of arrays in another byte order.
    fn by_numpy(value: &Bound<'_, PyAny>, wanted: Option<DType>) -> PyResult<Self> {
        let py = value.py();
        let numpy = py.import(intern!(py, "numpy"))?;
        let typed = value.hasattr("dtype")? || value.hasattr("__array__")?;
        let wanted = if typed { None } else { wanted.and_then(numpy_name) };
        let array = numpy.call_method1("asarray", (value, wanted));
        let array = array.map_err(|error| refused_for(value, error))?;
        let dtype = array.getattr("dtype")?;
        let (kind, name) = (dtype.getattr("kind")?, dtype.getattr("name")?);
        let (kind, name): (String, String) = (kind.extract()?, name.extract()?);
        if matches!(kind.as_str(), "U" | "S" | "O" | "T") {
            return strings(&array).map(Self::Own);
        }
        let added = ADDED.iter().find(|(_, added, _)| *added == name);
        let (as_dtype, carrier) = match added {
            Some(&(dtype, _, carrier)) => (Some(dtype), numpy_name(carrier)),
            None if name == "bool" => (Some(DType::Bool), numpy_name(DType::U8)),
            None => (None, None),
        };
        let order = PyDict::new(py);
        order.set_item("order", "C")?;
        let native = dtype.call_method1("newbyteorder", ("=",))?;
        // A copy has the machine's byte order and no gaps, and may be written to, which older NumPys ask of what they export.
        let mut copy = array.call_method("astype", (native,), Some(&order))?;
        if let Some(carrier) = carrier {
            copy = copy.call_method1("view", (carrier,))?;
        }
        let exported = copy.call_method0(intern!(py, "__dlpack__"));
        let capsule = exported.and_then(|capsule| Ok(capsule.cast_into::<PyCapsule>()?));
        let capsule = capsule.map_err(|error| refused_for(value, error))?;
        let tensor = Foreign::take(&capsule).map_err(|why| refused(value, &why))?;
        Ok(Self::Foreign { as_dtype: as_dtype.unwrap_or(tensor.dtype()), tensor })
    }

    /// Element type and sizes.
    pub(crate) fn info(&self) -> TensorInfo {
        match self {
            Given::Foreign { tensor, as_dtype } => {
                TensorInfo { dtype: *as_dtype, shape: tensor.shape().to_vec() }
            }
            Given::Own(tensor) => {
                TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec() }
            }
        }
    }

    /// The tensor, in the memory it was given in if it is large.
    pub(crate) fn into_tensor(self) -> Result<Tensor, String> {
        let info = self.info();
        match self {
            Given::Own(tensor) => Ok(tensor),
            Given::Foreign { tensor, .. } => {
                let bytes = tensor.into_bytes().map_err(|error| error.to_string())?;
                Tensor::new(info.dtype, &info.shape, bytes).map_err(|error| error.to_string())
            }
        }
    }
}

/// What an object exports; `None` if it does not speak DLPack, or not of these elements.
fn capsule<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyCapsule>>> {
    static VERSION: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let py = value.py();
    let Some(export) = value.getattr_opt(intern!(py, "__dlpack__"))? else { return Ok(None) };
    let version = VERSION.get_or_try_init(py, || {
        let version = PyDict::new(py);
        version.set_item("max_version", (1, 1))?;
        PyResult::Ok(version.unbind())
    })?;
    // Older frameworks do not know the argument.
    let exported =
        export.call((), Some(version.bind(py))).or_else(|error| match error
            .is_instance_of::<pyo3::exceptions::PyTypeError>(
            py,
        ) {
            true => export.call0(),
            false => Err(error),
        });
    match exported {
        Ok(capsule) => Ok(capsule.cast_into::<PyCapsule>().ok()),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// NumPy's name for an element type.
fn numpy_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F16 => "float16",
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::I8 => "int8",
        DType::I16 => "int16",
        DType::I32 => "int32",
        DType::I64 => "int64",
        DType::U8 => "uint8",
        DType::U16 => "uint16",
        DType::U32 => "uint32",
        DType::U64 => "uint64",
        DType::Bool => "bool",
        _ => return None,
    })
}

fn refused(value: &Bound<'_, PyAny>, why: &str) -> Failure {
    Failure::input(format!("a value of type {} is no tensor: {why}", type_name(value)))
}

/// As [`refused`], for the reason that an exception gives; what ends the program goes on.
fn refused_for(value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = value.py();
    match error.is_instance_of::<PyException>(py) {
        true => refused(value, &error.value(py).to_string()).into(),
        false => error,
    }
}

/// An array of strings; bytes are read as UTF-8.
fn strings(array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let elements = array.call_method0("ravel")?.call_method0("tolist")?;
    let text = |element: Bound<'_, PyAny>| -> PyResult<String> {
        if let Ok(bytes) = element.cast::<PyBytes>() {
            let text = std::str::from_utf8(bytes.as_bytes());
            return Ok(text
                .map_err(|_| Failure::input("a string is not UTF-8".to_owned()))?
                .to_owned());
        }
        let text = element
            .cast::<PyString>()
            .map_err(|_| refused(&element, "expected strings or numbers"))?;
        Ok(text.to_str()?.to_owned())
    };
    let elements =
        elements.cast_into::<PyList>()?.iter().map(text).collect::<PyResult<Vec<_>>>()?;
    Ok(Tensor::from_strings(&shape, &elements))
}

/// A value for an input, or for a name that no input has, whose errors the runtime says.
pub(crate) fn value(given: &Bound<'_, PyAny>, port: Option<&Port>) -> PyResult<Value> {
    let form = port.map_or(Form::Tensor, |port| port.form);
    if given.is_none() && form.is_optional() {
        return Ok(Value::Absent);
    }
    if let (true, Some(port)) = (given.is_none(), port) {
        let what = format!("input {:?} is None, and it is not optional", port.name);
        return Err(Failure::input(what).into());
    }
    let tensor = |given: &Bound<'_, PyAny>| -> PyResult<Tensor> {
        let taken = Given::take(given, port.map(|port| port.dtype))?;
        let named =
            |why| Failure::input(format!("input {:?}: {why}", port.map_or("", |port| &port.name)));
        Ok(taken.into_tensor().map_err(named)?)
    };
    let is_sequence = given.cast::<PyList>().is_ok() || given.cast::<PyTuple>().is_ok();
    match form.is_sequence() && is_sequence {
        true => {
            let elements = given.try_iter()?.map(|element| tensor(&element?));
            Ok(Value::Sequence(elements.collect::<PyResult<_>>()?))
        }
        false => Ok(Value::Tensor(tensor(given)?)),
    }
}

/// Extracts a mapping as pairs.
pub(crate) fn pairs<'py>(
    mapping: &Bound<'py, PyAny>,
) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
    if let Ok(dict) = mapping.cast::<PyDict>() {
        return dict.iter().map(|(name, value)| Ok((name.extract()?, value))).collect();
    }
    if !is_mapping(mapping)? {
        let what = format!("expected a mapping of names, found {}", type_name(mapping));
        return Err(Failure::new(Class::InvalidOptions, what).into());
    }
    mapping.call_method0("items")?.try_iter()?.map(|pair| pair?.extract()).collect()
}

/// Whether a value maps names to something.
pub(crate) fn is_mapping(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.cast::<PyDict>().is_ok() || (value.hasattr("items")? && value.hasattr("keys")?))
}

/// The name of a value's type, for messages.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

/// The contents of a file in memory: `bytes` as they are, a copy of what may change.
pub(crate) fn as_bytes(value: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Bytes::from_owner(PyBackedBytes::from(bytes.clone()))));
    }
    if value.cast::<PyByteArray>().is_err() && value.cast::<PyMemoryView>().is_err() {
        return Ok(None);
    }
    let copy = value.py().get_type::<PyBytes>().call1((value,))?;
    as_bytes(&copy)
}

/// Text and paths as text.
pub(crate) fn as_path(value: &Bound<'_, PyAny>) -> Option<std::path::PathBuf> {
    value.cast::<PyBytes>().is_err().then(|| value.extract().ok())?
}
