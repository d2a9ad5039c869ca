//! What an engine is, as plain Python objects: the named tuples of `refit.types`.

use engine_format::{Engine, FitReport, Form, Misfit, Port};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// A class of `refit.types`.
fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("refit.types")?.getattr(name)
}

/// Inputs or outputs, in the model's order.
pub(crate) fn ports<'py>(py: Python<'py>, ports: &[Port]) -> PyResult<Bound<'py, PyList>> {
    let class = class(py, "Port")?;
    let port = |port: &Port| {
        let form = match port.form {
            Form::Tensor => "tensor",
            Form::Sequence => "sequence",
            Form::OptionalTensor => "optional tensor",
            Form::OptionalSequence => "optional sequence",
        };
        let shape = port.shape.as_ref().map(|dims| {
            let dims = dims.iter().map(|dim| match dim.to_string().parse::<i64>() {
                Ok(size) => Ok(size.into_pyobject(py)?.into_any()),
                Err(_) => Ok(dim.to_string().into_pyobject(py)?.into_any()),
            });
            PyTuple::new(py, dims.collect::<PyResult<Vec<_>>>()?)
        });
        class.call1((&port.name, port.dtype.name(), shape.transpose()?, form))
    };
    PyList::new(py, ports.iter().map(port).collect::<PyResult<Vec<_>>>()?)
}

/// The weight table, in its order.
pub(crate) fn weights<'py>(py: Python<'py>, engine: &Engine) -> PyResult<Bound<'py, PyList>> {
    let class = class(py, "Weight")?;
    let weight = |row: &refit::WeightSummary| {
        class.call1((
            &row.name,
            &row.dtype,
            PyTuple::new(py, &row.shape)?,
            row.class,
            row.bytes,
            row.stored,
            &row.fixed,
            &row.digest,
            PyTuple::new(py, &row.aliases)?,
        ))
    };
    let rows = refit::weight_summaries(engine);
    PyList::new(py, rows.iter().map(weight).collect::<PyResult<Vec<_>>>()?)
}

/// What speaks against weights.
pub(crate) fn misfits<'py>(py: Python<'py>, misfits: &[Misfit]) -> PyResult<Bound<'py, PyList>> {
    let class = class(py, "Misfit")?;
    let misfit = |misfit: &Misfit| class.call1((misfit.kind(), misfit.name(), misfit.to_string()));
    PyList::new(py, misfits.iter().map(misfit).collect::<PyResult<Vec<_>>>()?)
}

/// What a refit would do.
pub(crate) fn fit<'py>(py: Python<'py>, report: &FitReport) -> PyResult<Bound<'py, PyAny>> {
    let taken = report.taken.iter().map(|taken| (&taken.weight, &taken.source));
    let taken = PyList::new(py, taken.collect::<Vec<_>>())?;
    let misfits = misfits(py, &report.misfits)?;
    let fields = (taken, &report.kept, &report.unused, misfits, report.remarks());
    class(py, "FitReport")?.call1(fields)
}
