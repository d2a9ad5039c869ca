//! Arrays that go out: the bytes of a result, which are nobody else's, seen by NumPy and through DLPack without a copy.

use crate::dlpack::{self, Memory};
use crate::failure::Failure;
use engine_format::{AlignedBuf, Bytes, DType, Tensor};
use engine_runtime::Value;
use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use std::sync::Arc;

/// A tensor that a run gave: its own memory, on the host, in row-major order.
///
/// `numpy.asarray`, `torch.from_dlpack`, `jax.dlpack.from_dlpack` and everything else that knows DLPack or NumPy's array interface takes
/// it without a copy, and may write to it: the memory is never that of an input or of a weight. `bfloat16`, the floats of 8 and 4 bits and
/// the integers of 4 and 2 are NumPy arrays only where `ml_dtypes` is installed.
#[pyclass(frozen, module = "refit")]
pub(crate) struct Array {
    dtype: DType,
    shape: Vec<usize>,
    memory: Arc<Memory>,
}

/// A result as Python has it: an [`Array`], or a NumPy array of strings.
pub(crate) fn of_tensor(py: Python<'_>, tensor: Tensor) -> PyResult<Py<PyAny>> {
    if tensor.dtype() == DType::String {
        return strings(py, &tensor);
    }
    let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
    Py::new(py, Array { dtype, shape, memory: Arc::new(Memory::new(own(tensor.into_bytes()))) })?
        .into_py_any(py)
}

/// A result of any form: an array, a list of arrays, or `None`.
pub(crate) fn of_value(py: Python<'_>, value: Value) -> PyResult<Py<PyAny>> {
    match value {
        Value::Tensor(tensor) => of_tensor(py, tensor),
        Value::Sequence(tensors) => {
            let arrays = tensors.into_iter().map(|tensor| of_tensor(py, tensor));
            PyList::new(py, arrays.collect::<PyResult<Vec<_>>>()?)?.into_py_any(py)
        }
        Value::Absent => Ok(py.None()),
        Value::OnDevice(tensor) => {
            let tensor = py.detach(|| tensor.to_host()).map_err(Failure::from)?;
            of_tensor(py, tensor)
        }
    }
}

/// The bytes if they are nobody else's, else a copy: a result may be an input or a weight as it is.
fn own(bytes: Bytes) -> AlignedBuf {
    bytes.try_into_buf().unwrap_or_else(|shared| {
        let mut copy = AlignedBuf::zeroed(shared.len());
        copy.copy_from_slice(&shared);
        copy
    })
}

fn strings(py: Python<'_>, tensor: &Tensor) -> PyResult<Py<PyAny>> {
    let strings = tensor.strings().map_err(|error| PyValueError::new_err(error.to_string()))?;
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("empty", (strings.len(), "object"))?;
    for (i, string) in strings.into_iter().enumerate() {
        array.set_item(i, string)?;
    }
    array.call_method1("reshape", (PyTuple::new(py, tensor.shape())?,))?.into_py_any(py)
}

/// The element types that NumPy has, as its array interface writes them.
fn typestr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::Bool => "|b1",
        _ => return None,
    })
}

/// The element types that `ml_dtypes` adds to NumPy, and the type of NumPy's that lies in memory as they do.
pub(crate) const ADDED: [(DType, &str, DType); 11] = [
    (DType::BF16, "bfloat16", DType::U16),
    (DType::F8E4M3FN, "float8_e4m3fn", DType::U8),
    (DType::F8E4M3FNUZ, "float8_e4m3fnuz", DType::U8),
    (DType::F8E5M2, "float8_e5m2", DType::U8),
    (DType::F8E5M2FNUZ, "float8_e5m2fnuz", DType::U8),
    (DType::F8E8M0, "float8_e8m0fnu", DType::U8),
    (DType::F4E2M1, "float4_e2m1fn", DType::U8),
    (DType::I4, "int4", DType::I8),
    (DType::U4, "uint4", DType::U8),
    (DType::I2, "int2", DType::I8),
    (DType::U2, "uint2", DType::U8),
];

impl Array {
    /// The same memory as elements of another type of the same width.
    fn seen_as(&self, dtype: DType) -> Self {
        Self { dtype, shape: self.shape.clone(), memory: self.memory.clone() }
    }
}

#[pymethods]
impl Array {
    /// Element type: `"f32"`, `"i64"`, `"bool"`, …
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype.name()
    }

    /// Sizes of the axes.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    /// Number of axes.
    #[getter]
    fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of bytes.
    #[getter]
    fn nbytes(&self) -> usize {
        self.size() * self.dtype.width()
    }

    /// The array as NumPy's, over the same memory.
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, dtype) = (slf.py(), slf.get().dtype);
        let numpy = py.import(intern!(py, "numpy"))?;
        let Some((_, name, carrier)) = ADDED.iter().find(|(added, ..)| *added == dtype) else {
            return numpy.call_method1(intern!(py, "asarray"), (slf,));
        };
        let added = py.import("ml_dtypes").and_then(|module| module.getattr(*name)).map_err(|_| {
            PyTypeError::new_err(format!(
                "NumPy has no {dtype}: install ml_dtypes, which adds it as {name}, or take the array through DLPack"
            ))
        })?;
        let carried = Bound::new(py, slf.get().seen_as(*carrier))?;
        numpy.call_method1("asarray", (carried,))?.call_method1("view", (added,))
    }

    #[pyo3(signature = (dtype = None, *, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = Self::numpy(slf)?;
        let same = match dtype {
            None => true,
            Some(dtype) => array
                .getattr("dtype")?
                .eq(slf.py().import("numpy")?.call_method1("dtype", (dtype,))?)?,
        };
        match (same, copy) {
            (true, Some(true)) => array.call_method0("copy"),
            (true, _) => Ok(array),
            (false, Some(false)) => Err(PyValueError::new_err("another dtype needs a copy")),
            (false, _) => array.call_method1("astype", (dtype,)),
        }
    }

    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let typestr = typestr(self.dtype)
            .ok_or_else(|| PyAttributeError::new_err(format!("NumPy has no {}", self.dtype)))?;
        let interface = PyDict::new(py);
        interface.set_item(intern!(py, "version"), 3)?;
        interface.set_item(intern!(py, "typestr"), typestr)?;
        interface.set_item(intern!(py, "shape"), PyTuple::new(py, &self.shape)?)?;
        interface.set_item(intern!(py, "data"), (self.memory.address(), false))?;
        Ok(interface)
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some() {
            return Err(PyBufferError::new_err("an array on the host has no streams"));
        }
        if dl_device.is_some_and(|device| device != (1, 0)) {
            return Err(PyBufferError::new_err(
                "the array is on the host, DLPack's device (1, 0), and stays there",
            ));
        }
        let memory = match copy {
            Some(true) => {
                let mut copy = AlignedBuf::zeroed(self.nbytes());
                copy.copy_from_slice((*self.memory).as_ref());
                Arc::new(Memory::new(copy))
            }
            _ => self.memory.clone(),
        };
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        let capsule = dlpack::export(py, memory, self.dtype, &self.shape, versioned)?;
        let capsule = capsule.ok_or_else(|| {
            PyBufferError::new_err(format!(
                "DLPack packs the elements of {}, here each has a byte",
                self.dtype
            ))
        })?;
        Ok(capsule.into_any())
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }

    /// The elements as nested lists of Python numbers.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::numpy(slf)?.call_method0("tolist")
    }

    /// The only element as a Python number.
    fn item<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::numpy(slf)?.call_method0("item")
    }

    fn __len__(&self) -> PyResult<usize> {
        self.shape
            .first()
            .copied()
            .ok_or_else(|| PyTypeError::new_err("an array without axes has no length"))
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::numpy(slf)?.get_item(index)
    }

    fn __float__(slf: &Bound<'_, Self>) -> PyResult<f64> {
        Self::item(slf)?.extract()
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let array = slf.get();
        let kind = format!("refit.Array, {}{:?}", array.dtype, array.shape);
        match Self::numpy(slf).and_then(|numpy| Ok(numpy.str()?.to_string())) {
            Ok(text) => format!("<{kind}\n{text}>"),
            Err(_) => format!("<{kind}>"),
        }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let make = py.import("refit._refit")?.getattr("array_from_bytes")?;
        let bytes = pyo3::types::PyBytes::new(py, (*self.memory).as_ref());
        let given = (self.dtype.name(), PyTuple::new(py, &self.shape)?, bytes);
        Ok((make, given.into_pyobject(py)?.into_any()))
    }
}

/// The array of these bytes, as pickle stores it.
#[pyfunction]
#[pyo3(name = "array_from_bytes")]
pub(crate) fn array_from_bytes(
    py: Python<'_>,
    dtype: &str,
    shape: Vec<usize>,
    bytes: &[u8],
) -> PyResult<Py<PyAny>> {
    let known =
        DType::ALL.into_iter().find(|known| known.name() == dtype && known.size().is_some());
    let dtype = known.ok_or_else(|| PyValueError::new_err(format!("no element type {dtype:?}")))?;
    let tensor = Tensor::new(dtype, &shape, Bytes::copy_from(bytes));
    of_tensor(py, tensor.map_err(|error| PyValueError::new_err(error.to_string()))?)
}
