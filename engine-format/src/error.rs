//! The one error of this crate.

use crate::{Changed, DType, OutOfMemory};
use std::fmt;

/// The class of a [`FormatError`]; match on this, print the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FormatErrorKind {
    /// The bytes are not an engine file, or a damaged one.
    Corrupt,
    /// The file's major version, or something a newer minor brought, is not read here.
    UnsupportedVersion,
    /// A flag bit or combination that has no meaning.
    InvalidFlags,
    /// A cap of the format was exceeded.
    LimitExceeded,
    /// The parts handed over do not form an engine (a builder's bug, or a forged program).
    InvalidEngine,
    /// Weight bytes are absent and the request needs them.
    MissingWeights,
    /// The weights given do not fit the engine.
    UnfitWeights,
    /// The engine is frozen.
    NotRefittable,
    /// Writing to, or reading from, the caller's stream failed, or a mapped file changed.
    Io,
    /// There is no memory for what was asked for.
    OutOfMemory,
}

/// What went wrong, where, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    inner: Box<Inner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: FormatErrorKind,
    what: String,
    place: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    names: Vec<String>,
}

impl FormatError {
    /// An error of `kind` about `what`.
    pub fn new(kind: FormatErrorKind, what: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                what: what.into(),
                place: None,
                expected: None,
                found: None,
                names: Vec::new(),
            }),
        }
    }

    /// Adds the place: a field, a section, `offset 123`, a node path.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.inner.place = Some(place.to_string());
        self
    }

    /// Adds what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.inner.expected = Some(expected.to_string());
        self
    }

    /// Adds what was found.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.inner.found = Some(found.to_string());
        self
    }

    /// Adds the weights the error is about.
    #[must_use]
    pub fn names(mut self, names: Vec<String>) -> Self {
        self.inner.names = names;
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> FormatErrorKind {
        self.inner.kind
    }

    /// What went wrong, without the place and what was expected and found.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// Where: a field, a section, `offset 123`, a node path.
    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }

    /// What was expected there.
    pub fn expectation(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    /// What was found there.
    pub fn finding(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// The weights the error is about, all of them.
    pub fn weight_names(&self) -> &[String] {
        &self.inner.names
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind: _, what, place, expected, found, names } = &*self.inner;
        f.write_str(what)?;
        if let Some(place) = place {
            write!(f, " at {place}")?;
        }
        if let Some(expected) = expected {
            write!(f, ": expected {expected}")?;
        }
        if let Some(found) = found {
            write!(f, "{} found {found}", if expected.is_some() { "," } else { ":" })?;
        }
        if !names.is_empty() {
            write!(f, ": {}", names.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for FormatError {}

impl From<OutOfMemory> for FormatError {
    fn from(error: OutOfMemory) -> Self {
        Self::new(FormatErrorKind::OutOfMemory, error.to_string())
    }
}

impl From<Changed> for FormatError {
    fn from(changed: Changed) -> Self {
        Self::new(FormatErrorKind::Io, changed.to_string())
    }
}

/// Why bytes are not the tensor they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte count does not follow from dtype and shape.
    #[error("a tensor of {dtype} {shape:?} takes {expected} bytes, found {found}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Dimensions.
        shape: Vec<usize>,
        /// Bytes that dtype and shape ask for; `usize::MAX` when that overflows.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A typed view was asked for another type.
    #[error("a tensor of {expected} was asked for {found} elements")]
    DType {
        /// The tensor's type.
        expected: DType,
        /// The type asked for.
        found: DType,
    },
    /// A byte stands for no element: anything but 0 and 1 in a bool tensor.
    #[error("byte {index} of a {dtype} tensor is {found}, which is no {dtype}")]
    Element {
        /// Element type.
        dtype: DType,
        /// Position.
        index: usize,
        /// The byte.
        found: u8,
    },
    /// Bytes are not the strings they were said to be.
    #[error("a tensor of string {shape:?}: {what}: expected {expected}, found {found}")]
    Strings {
        /// Dimensions.
        shape: Vec<usize>,
        /// What is wrong, and where.
        what: String,
        /// What it has to be.
        expected: String,
        /// What is there.
        found: String,
    },
}
