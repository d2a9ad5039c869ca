//! The one error of this crate.

use crate::binding::BindingReport;
use engine_onnx::OnnxError;
use std::fmt;

/// The class of a [`BuildError`]; match on this, print the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BuildErrorKind {
    /// The options contradict each other or name what the model does not have.
    Options,
    /// The ONNX file could not be read.
    Onnx,
    /// The checkpoint that weights are bound to could not be read.
    Checkpoint,
    /// Weights are not in the checkpoint, or it is not clear which they are; all are listed.
    Unbound,
    /// The model uses operators that are not known here; all are listed.
    Unsupported,
    /// A node is used in a way its operator does not take.
    InvalidNode,
    /// The model is not a valid graph: a name is used that nothing defines, a port has no type.
    InvalidModel,
    /// A bug of this crate: a graph that broke its own rules.
    Internal,
}

/// Why a model was not built: what, where, what was expected and what was found.
#[derive(Debug)]
pub struct BuildError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: BuildErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    binding: Option<BindingReport>,
    nodes: Vec<String>,
}

impl BuildError {
    /// An error of `kind` that says `message`.
    pub(crate) fn new(kind: BuildErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let inner = Inner { kind, message, source: None, binding: None, nodes: Vec::new() };
        Self { inner: Box::new(inner) }
    }

    /// A binding with open questions.
    pub(crate) fn unbound(report: BindingReport) -> Self {
        let mut error = Self::new(BuildErrorKind::Unbound, report.to_string());
        error.inner.binding = Some(report);
        error
    }

    /// Operators that are not known here, and the nodes that use them.
    pub(crate) fn unsupported(message: String, nodes: Vec<String>) -> Self {
        let mut error = Self::new(BuildErrorKind::Unsupported, message);
        error.inner.nodes = nodes;
        error
    }

    /// Options that cannot be followed.
    pub(crate) fn options(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::Options, message)
    }

    /// A model that is not a graph.
    pub(crate) fn model(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::InvalidModel, message)
    }

    /// A graph that broke its own rules.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(BuildErrorKind::Internal, message)
    }

    /// The class of the error.
    pub fn kind(&self) -> BuildErrorKind {
        self.inner.kind
    }

    /// The paths of all nodes whose operators are `Unsupported`.
    pub fn nodes(&self) -> &[String] {
        &self.inner.nodes
    }

    /// The open questions of an `Unbound` binding, with what was bound.
    pub fn binding(&self) -> Option<&BindingReport> {
        self.inner.binding.as_ref()
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|e| &**e as &(dyn std::error::Error + 'static))
    }
}

impl From<OnnxError> for BuildError {
    fn from(error: OnnxError) -> Self {
        Self {
            inner: Box::new(Inner {
                kind: BuildErrorKind::Onnx,
                message: error.to_string(),
                source: Some(Box::new(error)),
                binding: None,
                nodes: Vec::new(),
            }),
        }
    }
}
