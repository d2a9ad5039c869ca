//! Exceptions: every error of the crates below has exactly one class, its own text, and what the class has to say beside it.

use crate::describe;
use engine_builder::{BuildError, BuildErrorKind};
use engine_format::{FitError, FitReport, FormatError, FormatErrorKind};
use engine_onnx::{OnnxError, OnnxErrorKind};
use engine_runtime::{DeviceError, LoadError, RefitError, RunError, RunErrorKind};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use refit::RefitErrorKind;
use std::io;
use std::path::Path;

/// The exception classes of `refit.errors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// `refit.Error` itself.
    Error,
    InvalidOptions,
    InvalidInputs,
    InvalidFile,
    /// Python's own `OSError`.
    Os,
    UnfitWeights,
    MissingWeights,
    NotRefittable,
    Unbound,
    Unsupported,
    Device,
    OutOfMemory,
    Cancelled,
}

impl Class {
    fn name(self) -> &'static str {
        match self {
            Class::Error | Class::Os => "Error",
            Class::InvalidOptions => "InvalidOptions",
            Class::InvalidInputs => "InvalidInputs",
            Class::InvalidFile => "InvalidFile",
            Class::UnfitWeights => "UnfitWeights",
            Class::MissingWeights => "MissingWeights",
            Class::NotRefittable => "NotRefittable",
            Class::Unbound => "Unbound",
            Class::Unsupported => "Unsupported",
            Class::Device => "DeviceError",
            Class::OutOfMemory => "OutOfMemory",
            Class::Cancelled => "Cancelled",
        }
    }
}

/// What an exception has beside its text.
#[derive(Debug)]
enum Details {
    Nothing,
    /// `problems`, `names` or `nodes`: one entry for each.
    List(&'static str, Vec<String>),
    /// `misfits`, and the `names` of those that are missing.
    Misfits(Box<FitReport>),
    /// `report`, as JSON.
    Binding(String),
}

/// An error on its way to Python; no thread of Python's is needed to make one.
#[derive(Debug)]
pub(crate) struct Failure {
    class: Class,
    message: String,
    details: Details,
}

impl Failure {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), details: Details::Nothing }
    }

    /// An input that is no value of its port.
    pub(crate) fn input(problem: String) -> Self {
        let message = problem.clone();
        Self::new(Class::InvalidInputs, message).list("problems", vec![problem])
    }

    pub(crate) fn list(self, field: &'static str, entries: Vec<String>) -> Self {
        Self { details: Details::List(field, entries), ..self }
    }

    /// A report that does not fit.
    fn unfit(report: FitReport, mut message: String) -> Self {
        if let Some(prefix) = report.prefix() {
            message += &format!(
                "\nthe source's names begin with {prefix:?}, which is a wrapper's: give the weights of what it wraps"
            );
        }
        let class = match report.error_kind() {
            Some(FormatErrorKind::MissingWeights) => Class::MissingWeights,
            Some(FormatErrorKind::NotRefittable) => Class::NotRefittable,
            _ => Class::UnfitWeights,
        };
        Self { class, message, details: Details::Misfits(Box::new(report)) }
    }

    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        if self.class == Class::Os {
            return Ok(PyOSError::new_err(self.message));
        }
        let class = py.import("refit.errors")?.getattr(self.class.name())?;
        let exception = class.call1((self.message,))?;
        match self.details {
            Details::Nothing => {}
            Details::List(field, entries) => exception.setattr(field, entries)?,
            Details::Misfits(report) => {
                let missing = report.misfits.iter().filter(|misfit| misfit.kind() == "missing");
                let names: Vec<_> = missing.filter_map(|misfit| misfit.name()).collect();
                exception.setattr("names", names)?;
                exception.setattr("misfits", describe::misfits(py, &report.misfits)?)?;
            }
            Details::Binding(json) => {
                exception.setattr("report", py.import("json")?.call_method1("loads", (json,))?)?;
            }
        }
        Ok(PyErr::from_value(exception))
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.raise(py).unwrap_or_else(|error| error))
    }
}

/// A file that has to be there: the exception is the one that `open` would raise.
pub(crate) fn check_path(path: &Path) -> PyResult<()> {
    std::fs::metadata(path).map(drop).map_err(|error| os_error(&error, path))
}

fn os_error(error: &io::Error, path: &Path) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, path.to_path_buf()))
        }
        None => PyOSError::new_err(format!("{}: {error}", path.display())),
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let class = match error.kind() {
            FormatErrorKind::MissingWeights => Class::MissingWeights,
            FormatErrorKind::UnfitWeights => Class::UnfitWeights,
            FormatErrorKind::NotRefittable => Class::NotRefittable,
            FormatErrorKind::OutOfMemory => Class::OutOfMemory,
            FormatErrorKind::Io => Class::Os,
            FormatErrorKind::InvalidEngine => Class::Error,
            _ => Class::InvalidFile,
        };
        let names = error.weight_names().to_vec();
        match names.is_empty() {
            true => Self::new(class, error.to_string()),
            false => Self::new(class, error.to_string()).list("names", names),
        }
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        let message = error.to_string();
        match error {
            FitError::Unfit(report) => Self::unfit(report, message),
            FitError::Format(error) => error.into(),
            _ => Self::new(Class::InvalidFile, message),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let class = match error.kind() {
            RunErrorKind::MissingWeights => Class::MissingWeights,
            RunErrorKind::InvalidInputs => Class::InvalidInputs,
            RunErrorKind::Device => Class::Device,
            RunErrorKind::OutOfMemory => Class::OutOfMemory,
            RunErrorKind::Cancelled => Class::Cancelled,
            RunErrorKind::Changed => Class::Os,
            _ => Class::Error,
        };
        let field = if class == Class::MissingWeights { "names" } else { "problems" };
        let entries = error.details().to_vec();
        match class {
            Class::MissingWeights | Class::InvalidInputs => {
                Self::new(class, error.to_string()).list(field, entries)
            }
            _ => Self::new(class, error.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let message = error.to_string();
        match error {
            LoadError::Format(error) => error.into(),
            LoadError::Prepare(error) => error.into(),
            LoadError::Unsupported(nodes) => {
                Self::new(Class::Unsupported, message).list("nodes", nodes)
            }
            _ => Self::new(Class::Error, message),
        }
    }
}

impl From<RefitError> for Failure {
    fn from(error: RefitError) -> Self {
        let message = error.to_string();
        match error {
            RefitError::Fit(error) => error.into(),
            RefitError::Prepare(error) => error.into(),
            RefitError::Format(error) => error.into(),
            RefitError::Cancelled => Self::new(Class::Cancelled, message),
            RefitError::SourcesDropped { missing, .. } => {
                Self::new(Class::MissingWeights, message).list("names", missing)
            }
            _ => Self::new(Class::Error, message),
        }
    }
}

impl From<refit::RefitError> for Failure {
    fn from(error: refit::RefitError) -> Self {
        let message = error.to_string();
        if let Some(report) = error.report() {
            return Self::unfit(report.clone(), message);
        }
        let class = match error.kind() {
            RefitErrorKind::Io => Class::Os,
            RefitErrorKind::MissingWeights => Class::MissingWeights,
            RefitErrorKind::UnfitWeights | RefitErrorKind::Conflict => Class::UnfitWeights,
            RefitErrorKind::NotRefittable => Class::NotRefittable,
            _ => Class::InvalidFile,
        };
        Self::new(class, message)
    }
}

impl From<OnnxError> for Failure {
    fn from(error: OnnxError) -> Self {
        let class = match error.kind() {
            OnnxErrorKind::Io => Class::Os,
            _ => Class::InvalidFile,
        };
        Self::new(class, error.to_string())
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let class = match error.kind() {
            BuildErrorKind::Options => Class::InvalidOptions,
            BuildErrorKind::Unbound => Class::Unbound,
            BuildErrorKind::Unsupported => Class::Unsupported,
            BuildErrorKind::Internal => Class::Error,
            _ => Class::InvalidFile,
        };
        let failure = Self::new(class, error.to_string());
        match (error.binding(), class) {
            (Some(report), _) => {
                let json = serde_json::to_string(report).expect("a report is plain data");
                Self { details: Details::Binding(json), ..failure }
            }
            (None, Class::Unsupported) => failure.list("nodes", error.nodes().to_vec()),
            _ => failure,
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::new(Class::Device, error.to_string())
    }
}
