//! The one error of this crate.

use engine_format::{FitError, FitReport, FormatError, FormatErrorKind, SourceError};
use engine_onnx::{OnnxError, OnnxErrorKind};
use std::fmt;
use std::path::Path;

/// The class of a [`RefitError`]; match on this, print the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefitErrorKind {
    /// A file could not be opened, read or written.
    Io,
    /// The bytes are not an engine file, or a damaged one.
    InvalidEngine,
    /// A source of weights is not what it says it is, or damaged.
    InvalidSource,
    /// A file of tensors has no such element type, name or size.
    Unwritable,
    /// Two sources bring one tensor, and differ.
    Conflict,
    /// Weight bytes are absent and the request needs them.
    MissingWeights,
    /// The weights given do not fit the engine.
    UnfitWeights,
    /// The engine is frozen.
    NotRefittable,
}

/// What went wrong, with which file, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefitError {
    inner: Box<Inner>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    kind: RefitErrorKind,
    what: String,
    /// The file.
    place: Option<String>,
    /// Where in it.
    part: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    names: Vec<String>,
    report: Option<FitReport>,
}

impl RefitError {
    pub(crate) fn new(kind: RefitErrorKind, what: impl Into<String>) -> Self {
        let what = what.into();
        let inner = Inner {
            kind,
            what,
            place: None,
            part: None,
            expected: None,
            found: None,
            names: Vec::new(),
            report: None,
        };
        Self { inner: Box::new(inner) }
    }

    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(RefitErrorKind::Io, format!("{doing}: {error}")).at(path.display())
    }

    pub(crate) fn source(what: impl Into<String>) -> Self {
        Self::new(RefitErrorKind::InvalidSource, what)
    }

    /// Adds the file, unless one is known already.
    #[must_use]
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.inner.place.get_or_insert_with(|| place.to_string());
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

    /// Adds the weights that it is about.
    #[must_use]
    pub(crate) fn about(mut self, names: Vec<String>) -> Self {
        self.inner.names = names;
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> RefitErrorKind {
        self.inner.kind
    }

    /// What went wrong, without the place.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// The file the error is about.
    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }

    /// Where in the file: a section, a field, `offset 123`.
    pub fn part(&self) -> Option<&str> {
        self.inner.part.as_deref()
    }

    /// What was expected there.
    pub fn expectation(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    /// What was found there.
    pub fn finding(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// The weights the error is about.
    pub fn names(&self) -> &[String] {
        &self.inner.names
    }

    /// Everything that speaks against the weights, if they do not fit.
    pub fn report(&self) -> Option<&FitReport> {
        self.inner.report.as_ref()
    }
}

impl fmt::Display for RefitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind: _, what, place, part, expected, found, names, report } = &*self.inner;
        if let Some(place) = place {
            write!(f, "{place}: ")?;
        }
        f.write_str(what)?;
        if let Some(part) = part {
            write!(f, " at {part}")?;
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
        if let Some(report) = report {
            write!(f, ":\n{report}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RefitError {}

impl From<FormatErrorKind> for RefitErrorKind {
    fn from(kind: FormatErrorKind) -> Self {
        match kind {
            FormatErrorKind::Io => Self::Io,
            FormatErrorKind::MissingWeights => Self::MissingWeights,
            FormatErrorKind::UnfitWeights => Self::UnfitWeights,
            FormatErrorKind::NotRefittable => Self::NotRefittable,
            _ => Self::InvalidEngine,
        }
    }
}

impl From<FormatError> for RefitError {
    fn from(error: FormatError) -> Self {
        let mut made = Self::new(error.kind().into(), error.what());
        let of = |text: Option<&str>| text.map(str::to_owned);
        made.inner.part = of(error.place());
        made.inner.expected = of(error.expectation());
        made.inner.found = of(error.finding());
        made.inner.names = error.weight_names().to_vec();
        made
    }
}

impl From<SourceError> for RefitError {
    fn from(error: SourceError) -> Self {
        Self::source(error.to_string())
    }
}

impl From<FitReport> for RefitError {
    /// The error that an unfit report is.
    fn from(report: FitReport) -> Self {
        let kind = report.error_kind().unwrap_or(FormatErrorKind::UnfitWeights).into();
        let mut error = Self::new(kind, "the weights do not fit the engine");
        error.inner.report = Some(report);
        error
    }
}

impl From<FitError> for RefitError {
    fn from(error: FitError) -> Self {
        match error {
            FitError::Unfit(report) => report.into(),
            FitError::Source(error) => error.into(),
            FitError::Format(error) => error.into(),
            other => Self::new(other.kind().into(), other.to_string()),
        }
    }
}

impl From<OnnxError> for RefitError {
    fn from(error: OnnxError) -> Self {
        let kind = match error.kind() {
            OnnxErrorKind::Io => RefitErrorKind::Io,
            _ => RefitErrorKind::InvalidSource,
        };
        let mut made = Self::new(kind, error.what());
        let of = |text: Option<&str>| text.map(str::to_owned);
        made.inner.place = of(error.file());
        made.inner.part = of(error.place());
        made.inner.expected = of(error.expectation());
        made.inner.found = of(error.finding());
        made
    }
}
