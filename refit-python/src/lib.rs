//! The Python module `refit`: engines are built, run and refitted from Python.
//!
//! The Rust crates do the work; this one translates. What comes in becomes tensors and sources (`input`, `source`), what goes out
//! arrays (`array`) and plain Python objects (`describe`), an error one exception of its class (`failure`). Every call that may take
//! long works without Python's lock and ends on Ctrl-C (`work`).
#![deny(unsafe_code)]

mod array;
mod describe;
#[expect(
    unsafe_code,
    reason = "DLPack passes pointers between frameworks; the file says why each use is sound"
)]
mod dlpack;
mod engine;
mod failure;
mod input;
mod module;
mod options;
mod source;
mod state_dict;
mod work;

use engine_runtime::Device;
use pyo3::prelude::*;

/// The devices of this machine, the CPU first, each as text.
///
/// A device is chosen by `"auto"`, `"cpu"`, `"gpu"`, `"gpu:N"` or part of an adapter's name.
#[pyfunction]
fn devices(py: Python<'_>) -> PyResult<Vec<String>> {
    work::started()?;
    Ok(py.detach(|| Device::list().iter().map(ToString::to_string).collect()))
}

#[pymodule]
#[pyo3(name = "_refit")]
fn extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<array::Array>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<module::Module>()?;
    module.add_class::<work::Cancel>()?;
    module.add_function(wrap_pyfunction!(devices, module)?)?;
    module.add_function(wrap_pyfunction!(array::array_from_bytes, module)?)
}
