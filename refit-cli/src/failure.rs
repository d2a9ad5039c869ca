//! Errors as scripts see them: each has one class, which decides the exit code, its own text, and what the text is made of.

use crate::output::alarm;
use engine_builder::{BuildError, BuildErrorKind};
use engine_format::{FitError, FitReport, FormatError, FormatErrorKind};
use engine_onnx::{OnnxError, OnnxErrorKind};
use engine_runtime::gpu::GpuErrorKind;
use engine_runtime::{DeviceError, LoadError, RefitError, RunError, RunErrorKind};
use refit::{FitSummary, MisfitSummary, RefitErrorKind};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// What kind of error it is. `docs/JSON.md` lists the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Compared, and different.
    Different,
    /// Wrong usage.
    Usage,
    /// Inputs that the engine does not take.
    InvalidInputs,
    /// A file that cannot be opened, read or written.
    Io,
    /// A file that is not what it should be.
    InvalidFile,
    /// A model or an engine that needs what is not there.
    Unsupported,
    /// A bug of this program.
    Internal,
    /// The engine needs weights.
    MissingWeights,
    /// Weights that the engine does not take.
    UnfitWeights,
    /// The engine is frozen.
    NotRefittable,
    /// Weights of a model that are not found in its checkpoint.
    Unbound,
    /// No such device, or it failed.
    Device,
    /// There is no memory for it.
    OutOfMemory,
}

impl Class {
    /// What the program ends with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Different => 1,
            Self::Usage | Self::InvalidInputs => 2,
            Self::Io | Self::InvalidFile | Self::Unsupported | Self::Internal => 3,
            Self::MissingWeights | Self::UnfitWeights | Self::NotRefittable | Self::Unbound => 4,
            Self::Device | Self::OutOfMemory => 5,
        }
    }
}

/// An error on its way to standard error and, under `--json`, to standard output.
#[derive(Debug)]
pub struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    error: ErrorObject,
    /// The object of the result, where what failed has one.
    report: Option<Value>,
}

/// What `--json` prints under `error`.
#[derive(Debug, Serialize)]
struct ErrorObject {
    class: Class,
    exit_code: u8,
    /// All of it, in words.
    message: String,
    /// What was being done, the outermost first.
    doing: Vec<String>,
    what: String,
    #[serde(rename = "where")]
    place: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    /// The weights, inputs or nodes that it is about.
    names: Vec<String>,
    misfits: Vec<MisfitSummary>,
    help: Option<String>,
}

impl Failure {
    /// An error that is only a sentence.
    pub fn new(class: Class, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let error = ErrorObject {
            class,
            exit_code: class.exit_code(),
            what: message.clone(),
            message,
            doing: Vec::new(),
            place: None,
            expected: None,
            found: None,
            names: Vec::new(),
            misfits: Vec::new(),
            help: None,
        };
        Self(Box::new(Inner { error, report: None }))
    }

    /// An error with advice on what to do next.
    pub fn with_help(class: Class, message: impl fmt::Display, help: impl fmt::Display) -> Self {
        Self::new(class, message).help(Some(help))
    }

    fn help(mut self, help: Option<impl fmt::Display>) -> Self {
        self.0.error.help = help.map(|help| help.to_string());
        self
    }

    /// What the message is made of: what went wrong, where, what was expected and what was found.
    fn parts(
        mut self,
        what: &str,
        place: Option<String>,
        expected: Option<&str>,
        found: Option<&str>,
    ) -> Self {
        what.clone_into(&mut self.0.error.what);
        self.0.error.place = place;
        self.0.error.expected = expected.map(str::to_owned);
        self.0.error.found = found.map(str::to_owned);
        self
    }

    /// The weights, inputs or nodes that it is about.
    pub fn names(mut self, names: &[String]) -> Self {
        self.0.error.names = names.to_vec();
        self
    }

    /// All of it, in words.
    pub fn words(&self) -> &str {
        &self.0.error.message
    }

    /// The same error in other words.
    #[must_use]
    pub fn message(mut self, message: impl fmt::Display) -> Self {
        self.0.error.message = message.to_string();
        self
    }

    /// Says what was being done.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.error.doing.insert(0, what.to_string());
        self
    }

    /// The result that is a failure too, which `--json` prints in the same object.
    #[must_use]
    pub fn with_report(mut self, report: &impl Serialize) -> Self {
        self.0.report = serde_json::to_value(report).ok();
        self
    }

    /// What the program ends with.
    pub fn exit_code(&self) -> u8 {
        self.0.error.exit_code
    }

    /// The object of the result, if there is one, with the error in it.
    pub fn object(&self) -> impl Serialize + use<> {
        let mut object = match &self.0.report {
            Some(Value::Object(fields)) => fields.clone(),
            _ => serde_json::Map::new(),
        };
        object.insert("error".to_owned(), serde_json::json!(self.0.error));
        object
    }

    /// Prints the error to standard error, no line of it broken: names of weights are long, and somebody may look for one.
    pub fn print(&self) {
        let ErrorObject { message, doing, help, .. } = &self.0.error;
        let report = match help {
            Some(help) => miette::miette!(help = help.clone(), "{message}"),
            None => miette::miette!("{message}"),
        };
        let wrapped = |report: miette::Report, what: &String| report.wrap_err(what.clone());
        alarm!("{:?}", doing.iter().rev().fold(report, wrapped));
    }
}

/// Has errors printed as they are, whatever the width of a terminal; in colours if that was said, else on a terminal.
pub fn keep_lines_whole(colors: Option<bool>) {
    let options = move || {
        let options = miette::MietteHandlerOpts::new().wrap_lines(false).break_words(false);
        match colors {
            Some(colors) => options.color(colors),
            None => options,
        }
    };
    // There is a hook already only if this was called before.
    let _ = miette::set_hook(Box::new(move |_| Box::new(options().build())));
}

/// Adds what was being done to a result's error.
pub trait Context<T> {
    /// Says what was being done.
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().context(what))
    }
}

const FILL: &str =
    "fill it first: refit fill FILE --weights SRC -o OUT, or give --weights SRC here";
const WHOLE: &str =
    "give every file that has some of the weights behind --weights; several are read as one";
const FROZEN: &str = "build it with --refit all, or refit its unfrozen original";
const SOFTWARE: &str =
    "software adapters such as lavapipe count as a GPU under REFIT_SOFTWARE_GPU=1";

fn of_format(kind: FormatErrorKind) -> (Class, Option<&'static str>) {
    match kind {
        FormatErrorKind::MissingWeights => (Class::MissingWeights, Some(FILL)),
        FormatErrorKind::NotRefittable => (Class::NotRefittable, Some(FROZEN)),
        FormatErrorKind::UnfitWeights => (Class::UnfitWeights, None),
        FormatErrorKind::OutOfMemory => (Class::OutOfMemory, None),
        FormatErrorKind::Io => (Class::Io, None),
        FormatErrorKind::UnsupportedVersion => (Class::Unsupported, None),
        _ => (Class::InvalidFile, None),
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        let (class, help) = of_format(error.kind());
        let place = error.place().map(str::to_owned);
        Self::new(class, &error)
            .parts(error.what(), place, error.expectation(), error.finding())
            .names(error.weight_names())
            .help(help)
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        match error {
            FitError::Unfit(report) => {
                let message = FitError::Unfit(report.clone());
                unfit(&report, message)
            }
            FitError::Format(error) => error.into(),
            error => {
                let (class, help) = of_format(error.kind());
                Self::new(class, error).help(help)
            }
        }
    }
}

/// Weights that do not fit: what to do is to give others, never to fill, which is what failed.
fn unfit(report: &FitReport, message: impl fmt::Display) -> Failure {
    let class = match report.error_kind() {
        Some(FormatErrorKind::MissingWeights) => Class::MissingWeights,
        Some(FormatErrorKind::NotRefittable) => Class::NotRefittable,
        _ => Class::UnfitWeights,
    };
    let help = match (report.prefix(), class) {
        (Some(prefix), _) => Some(format!(
            "the source's names begin with {prefix:?}, which is a wrapper's: save the weights of what it wraps"
        )),
        (None, Class::MissingWeights) => Some(WHOLE.to_owned()),
        (None, Class::NotRefittable) => Some(FROZEN.to_owned()),
        _ => None,
    };
    let missing = report.misfits.iter().filter(|misfit| misfit.kind() == "missing");
    let missing: Vec<_> = missing.filter_map(|misfit| misfit.name()).map(str::to_owned).collect();
    let mut failure = Failure::new(class, message).names(&missing).help(help);
    "the weights do not fit the engine".clone_into(&mut failure.0.error.what);
    failure.0.error.misfits = FitSummary::from(report).misfits;
    failure
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let class = match error.cause().kind() {
            GpuErrorKind::OutOfMemory => Class::OutOfMemory,
            _ => Class::Device,
        };
        let found: Vec<String> = error.found().iter().map(ToString::to_string).collect();
        Self::new(class, &error)
            .parts(
                "no such device",
                None,
                Some(&error.asked().to_string()),
                Some(&found.join(", ")),
            )
            .names(&found)
            .help(Some(SOFTWARE))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let (class, help) = match error.kind() {
            RunErrorKind::MissingWeights => (Class::MissingWeights, Some(FILL)),
            RunErrorKind::InvalidInputs => (Class::InvalidInputs, None),
            RunErrorKind::Device => (Class::Device, None),
            RunErrorKind::OutOfMemory => (Class::OutOfMemory, None),
            RunErrorKind::Changed => (Class::Io, None),
            _ => (Class::InvalidFile, None),
        };
        Self::new(class, &error).names(error.details()).help(help)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Format(error) => error.into(),
            LoadError::Prepare(error) => error.into(),
            LoadError::Unsupported(ref nodes) => Self::new(Class::Unsupported, &error).names(nodes),
            error => Self::new(Class::InvalidFile, error),
        }
    }
}

impl From<RefitError> for Failure {
    fn from(error: RefitError) -> Self {
        match error {
            RefitError::Fit(error) => error.into(),
            RefitError::Format(error) => error.into(),
            RefitError::Prepare(error) => error.into(),
            RefitError::SourcesDropped { ref missing, .. } => {
                Self::new(Class::MissingWeights, &error).names(missing)
            }
            error => Self::new(Class::UnfitWeights, error),
        }
    }
}

impl From<refit::RefitError> for Failure {
    fn from(error: refit::RefitError) -> Self {
        if let Some(report) = error.report() {
            return unfit(report, &error);
        }
        let (class, help) = match error.kind() {
            RefitErrorKind::MissingWeights => (Class::MissingWeights, Some(FILL)),
            RefitErrorKind::NotRefittable => (Class::NotRefittable, Some(FROZEN)),
            RefitErrorKind::UnfitWeights | RefitErrorKind::Conflict => (Class::UnfitWeights, None),
            RefitErrorKind::Io => (Class::Io, None),
            RefitErrorKind::Unwritable => (Class::Unsupported, None),
            _ => (Class::InvalidFile, None),
        };
        let place = joined(error.place(), error.part());
        Self::new(class, &error)
            .parts(error.what(), place, error.expectation(), error.finding())
            .names(error.names())
            .help(help)
    }
}

impl From<OnnxError> for Failure {
    fn from(error: OnnxError) -> Self {
        let class = match error.kind() {
            OnnxErrorKind::Io => Class::Io,
            OnnxErrorKind::UnsupportedVersion | OnnxErrorKind::UnsupportedType => {
                Class::Unsupported
            }
            _ => Class::InvalidFile,
        };
        let place = joined(error.file(), error.place());
        Self::new(class, &error).parts(error.what(), place, error.expectation(), error.finding())
    }
}

/// A file and a place in it.
fn joined(file: Option<&str>, part: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = file.into_iter().chain(part).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

const UNBOUND: &str = "export without what rewrites weights: torch.onnx.export(…, dynamo=True, optimize=False), or with dynamo=False, \
                       do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE; or prove what is no weight with a second \
                       export from other weights (--other), or say what is what in a map (--bind MAP). Without --weights the engine \
                       takes weights under the model's names";

impl From<&BuildError> for Failure {
    fn from(error: &BuildError) -> Self {
        let (class, help) = match error.kind() {
            BuildErrorKind::Options => (Class::Usage, None),
            BuildErrorKind::Unbound => (Class::Unbound, Some(UNBOUND)),
            BuildErrorKind::Unsupported => (Class::Unsupported, None),
            BuildErrorKind::Internal => (Class::Internal, None),
            _ => (Class::InvalidFile, None),
        };
        Self::new(class, error).names(error.nodes()).help(help)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Class::Io, error)
    }
}
