//! The errors of running, loading and refitting.

use engine_format::Changed;
use std::fmt;

/// The class of a [`RunError`]; match on this, print the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The module's weights are missing: it cannot run until it is filled.
    MissingWeights,
    /// Inputs are missing, unknown, or of the wrong type or shape.
    InvalidInputs,
    /// A node of the program does not take its operands, or its kernel failed.
    Node,
    /// The device failed: a lost GPU, a command that it refused.
    Device,
    /// A tensor or the run is larger than the limit ([`MemoryLimits`](crate::MemoryLimits)), or there is no memory for it.
    OutOfMemory,
    /// [`Cancel`](crate::Cancel) ended the run.
    Cancelled,
    /// A file that the module's weights are parts of was truncated or written to since it was mapped. A refit with all weights ends that.
    Changed,
}

/// Why a run gave no outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    kind: RunErrorKind,
    what: String,
    items: Vec<String>,
}

impl RunError {
    /// An error of `kind` about `what`.
    pub fn new(kind: RunErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), items: Vec::new() }
    }

    /// Adds what the error is about, one entry each: weights' names, unfit inputs.
    #[must_use]
    pub fn items(mut self, items: Vec<String>) -> Self {
        self.items = items;
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }

    /// Every missing weight's name, or a sentence for every unfit input.
    pub fn details(&self) -> &[String] {
        &self.items
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for (i, item) in self.items.iter().enumerate() {
            write!(f, "{} {item}", if i == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for RunError {}

impl From<Changed> for RunError {
    fn from(changed: Changed) -> Self {
        Self::new(RunErrorKind::Changed, changed.to_string())
    }
}

/// Why an engine could not be loaded onto a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are not an engine, or a damaged one.
    #[error(transparent)]
    Format(#[from] engine_format::FormatError),
    /// The program uses operators in ways this runtime does not know; one entry for each node.
    #[error("this runtime cannot run the engine: {}", .0.join("; "))]
    Unsupported(Vec<String>),
    /// Preparing the weights, or moving them to the device, failed.
    #[error(transparent)]
    Prepare(#[from] RunError),
}

impl From<RunError> for RefitError {
    fn from(error: RunError) -> Self {
        match error.kind() {
            RunErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Prepare(error),
        }
    }
}

/// Why a module kept the weights it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefitError {
    /// The source's weights do not fit; everything wrong is listed.
    #[error(transparent)]
    Fit(#[from] engine_format::FitError),
    /// The new weights fit, but preparing them or moving them to the device failed.
    #[error(transparent)]
    Prepare(RunError),
    /// The packed bytes could not be read or written.
    #[error(transparent)]
    Format(#[from] engine_format::FormatError),
    /// [`Cancel`](crate::Cancel) ended the refit.
    #[error("the refit was cancelled; the module has the weights it had")]
    Cancelled,
    /// There is no version to go back to.
    #[error(
        "there is no version to roll back to: the weights were not replaced since the module was loaded, forked or gave up its \
         source weights"
    )]
    NothingToRollBack,
    /// The module gave up its source weights: what needs them cannot be done.
    #[error(
        "the module gave up its source weights (drop_sources): {what}; refit it with all its weights first, of which it lacks {}",
        .missing.join(", ")
    )]
    SourcesDropped {
        /// What cannot be done.
        what: &'static str,
        /// The weights it lacks.
        missing: Vec<String>,
    },
}
