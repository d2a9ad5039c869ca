//! Exit codes: every error of the crates below has exactly one.

use crate::output::remark;
use engine_format::{FitError, FitReport, FormatError, FormatErrorKind};
use engine_runtime::{DeviceError, LoadError, RefitError, RunError, RunErrorKind};
use std::fmt;

/// What the program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Compared, and different.
    Different = 1,
    /// Wrong usage.
    Usage = 2,
    /// Unreadable or invalid file.
    File = 3,
    /// Weights missing or unfit.
    Weights = 4,
    /// No such device.
    Device = 5,
}

/// An error with its exit code. The message goes to stderr.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    report: miette::Report,
}

impl Failure {
    /// An error that is only a sentence.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, report: miette::miette!("{message}") }
    }

    /// An error with advice on what to do next.
    pub fn with_help(exit: Exit, message: impl fmt::Display, help: impl fmt::Display) -> Self {
        Self { exit, report: miette::miette!(help = help.to_string(), "{message}") }
    }

    /// Says what was being done.
    #[must_use]
    pub fn context(self, what: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { exit: self.exit, report: self.report.wrap_err(what.to_string()) }
    }

    /// Prints the error to stderr, no line of it broken: names of weights are long, and somebody may look for one.
    pub fn print(&self) {
        remark!("{:?}", self.report);
    }
}

/// Has errors printed as they are, whatever the width of a terminal.
pub fn keep_lines_whole() {
    let options = || miette::MietteHandlerOpts::new().wrap_lines(false).break_words(false);
    // There is a hook already only if this was called before.
    let _ = miette::set_hook(Box::new(move |_| Box::new(options().build())));
}

/// Adds what was being done to a result's error.
pub trait Context<T> {
    /// Says what was being done.
    fn doing(self, what: impl fmt::Display + Send + Sync + 'static) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display + Send + Sync + 'static) -> Result<T, Failure> {
        self.map_err(|error| error.into().context(what))
    }
}

const FILL: &str =
    "fill it first: refit fill FILE --weights SRC -o OUT, or give --weights SRC here";
const WHOLE: &str =
    "give every file that has some of the weights behind --weights; several are read as one";
const FROZEN: &str = "build it with --refit all, or refit its unfrozen original";

fn of_format(kind: FormatErrorKind) -> (Exit, Option<&'static str>) {
    match kind {
        FormatErrorKind::MissingWeights => (Exit::Weights, Some(FILL)),
        FormatErrorKind::NotRefittable => (Exit::Weights, Some(FROZEN)),
        FormatErrorKind::UnfitWeights => (Exit::Weights, None),
        _ => (Exit::File, None),
    }
}

fn failure((exit, help): (Exit, Option<&'static str>), error: impl fmt::Display) -> Failure {
    match help {
        Some(help) => Failure::with_help(exit, error, help),
        None => Failure::new(exit, error),
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        failure(of_format(error.kind()), error)
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        match &error {
            FitError::Unfit(report) => unfit(report, &error),
            _ => failure(of_format(error.kind()), error),
        }
    }
}

/// Weights that do not fit: what to do is to give others, never to fill, which is what failed.
fn unfit(report: &FitReport, error: impl fmt::Display) -> Failure {
    let kind = report.error_kind().unwrap_or(FormatErrorKind::UnfitWeights);
    if let Some(prefix) = report.prefix() {
        let help = format!(
            "the source's names begin with {prefix:?}, which is a wrapper's: save the weights of what it wraps"
        );
        return Failure::with_help(Exit::Weights, error, help);
    }
    match kind {
        FormatErrorKind::MissingWeights => Failure::with_help(Exit::Weights, error, WHOLE),
        kind => failure(of_format(kind), error),
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let help = "software adapters such as lavapipe count as a GPU under REFIT_SOFTWARE_GPU=1";
        Self::with_help(Exit::Device, error, help)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error.kind() {
            RunErrorKind::MissingWeights => Self::with_help(Exit::Weights, error, FILL),
            RunErrorKind::InvalidInputs => Self::new(Exit::Usage, error),
            RunErrorKind::Device | RunErrorKind::OutOfMemory => Self::new(Exit::Device, error),
            _ => Self::new(Exit::File, error),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Format(error) => error.into(),
            LoadError::Prepare(error) => error.into(),
            error => Self::new(Exit::File, error),
        }
    }
}

impl From<RefitError> for Failure {
    fn from(error: RefitError) -> Self {
        match error {
            RefitError::Fit(error) => error.into(),
            RefitError::Format(error) => error.into(),
            RefitError::Prepare(error) => error.into(),
            error => Self::new(Exit::Weights, error),
        }
    }
}

impl From<refit::RefitError> for Failure {
    fn from(error: refit::RefitError) -> Self {
        use refit::RefitErrorKind::{MissingWeights, NotRefittable, UnfitWeights};
        if let Some(report) = error.report() {
            return unfit(report, &error);
        }
        let how = match error.kind() {
            MissingWeights => (Exit::Weights, Some(FILL)),
            NotRefittable => (Exit::Weights, Some(FROZEN)),
            UnfitWeights => (Exit::Weights, None),
            _ => (Exit::File, None),
        };
        failure(how, error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::File, error)
    }
}
