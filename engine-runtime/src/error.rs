//! The errors of running, loading and refitting.

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
    /// The device failed: memory, a lost GPU.
    Device,
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
