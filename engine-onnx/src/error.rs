//! The one error of this crate.

use std::fmt;

/// The class of an [`OnnxError`]; match on this, print the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnnxErrorKind {
    /// A file could not be opened or mapped.
    Io,
    /// The bytes are not a protobuf message of ONNX.
    Corrupt,
    /// The message is well formed and says something that has no meaning.
    Invalid,
    /// An IR version or opset that is not read here.
    UnsupportedVersion,
    /// A tensor of an element type that this stack does not have.
    UnsupportedType,
    /// A cap was exceeded: nesting, count or size.
    LimitExceeded,
    /// A tensor's bytes lie in another file that is absent, too short or outside the model's folders.
    ExternalData,
}

/// What went wrong, in which file, where in it, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxError {
    inner: Box<Inner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: OnnxErrorKind,
    what: String,
    file: Option<String>,
    place: Option<String>,
    expected: Option<String>,
    found: Option<String>,
}

impl OnnxError {
    pub(crate) fn new(kind: OnnxErrorKind, what: impl Into<String>) -> Self {
        let what = what.into();
        let inner = Inner { kind, what, file: None, place: None, expected: None, found: None };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(OnnxErrorKind::Invalid, what)
    }

    pub(crate) fn limit(what: impl Into<String>, cap: impl fmt::Display) -> Self {
        Self::new(OnnxErrorKind::LimitExceeded, what).expected(format!("at most {cap}"))
    }

    /// Adds the place, unless a more precise one is known already.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.inner.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// Adds the file, unless one is known already.
    #[must_use]
    pub(crate) fn in_file(mut self, file: impl fmt::Display) -> Self {
        self.inner.file.get_or_insert_with(|| file.to_string());
        self
    }

    #[must_use]
    pub(crate) fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.inner.expected = Some(expected.to_string());
        self
    }

    #[must_use]
    pub(crate) fn found(mut self, found: impl fmt::Display) -> Self {
        self.inner.found = Some(found.to_string());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> OnnxErrorKind {
        self.inner.kind
    }

    /// What went wrong, without the place and what was expected and found.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// The file.
    pub fn file(&self) -> Option<&str> {
        self.inner.file.as_deref()
    }

    /// What was expected there.
    pub fn expectation(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    /// What was found there.
    pub fn finding(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// Where in the file: a byte offset, a tensor's name, a node's path.
    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }
}

impl fmt::Display for OnnxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind: _, what, file, place, expected, found } = &*self.inner;
        if let Some(file) = file {
            write!(f, "{file}: ")?;
        }
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
        Ok(())
    }
}

impl std::error::Error for OnnxError {}
