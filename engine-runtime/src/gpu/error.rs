//! The error of this module.

use crate::error::{RunError, RunErrorKind};
use std::fmt;

/// The class of a [`GpuError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GpuErrorKind {
    /// No adapter matches what was asked for.
    NoAdapter,
    /// The adapter is there but gave no device.
    Open,
    /// A shader or its pipeline was refused: a bug in an operator's WGSL or in the driver.
    Shader,
    /// A command was refused: a bug in this crate or in an operator's bindings.
    Launch,
    /// Something is larger than the device takes.
    TooLarge,
    /// The device is out of memory.
    OutOfMemory,
    /// The device went away while it was used.
    Lost,
}

/// What the GPU refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GpuError(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: GpuErrorKind,
    place: String,
    message: String,
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl GpuError {
    /// An error of `kind` at `place` (a node, a shader, an adapter).
    pub(crate) fn new(
        kind: GpuErrorKind,
        place: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner { kind, place: place.into(), message: message.into() }))
    }

    /// The class of the error.
    pub fn kind(&self) -> GpuErrorKind {
        self.0.kind
    }
}

impl From<GpuError> for RunError {
    fn from(error: GpuError) -> Self {
        let kind = match error.kind() {
            GpuErrorKind::OutOfMemory => RunErrorKind::OutOfMemory,
            _ => RunErrorKind::Device,
        };
        RunError::new(kind, error.to_string())
    }
}
