//! Loaded engines: the trait [`Module`] and its two implementations.
//!
//! [`LiveModule`] keeps an engine in memory and swaps prepared constants; [`PackedModule`] keeps the serialized bytes and
//! reloads them. They behave alike in every way a caller can see, and share nothing but the executor that both make
//! from an [`Engine`], so that each can be held against the other.

mod live;
mod packed;
mod retired;
mod watched;

pub use live::LiveModule;
pub use packed::PackedModule;

use crate::device::Device;
use crate::error::{RefitError, RunError, RunErrorKind};
use crate::memory::Memory;
use crate::options::{RefitOptions, RunOptions};
use crate::placement::Placement;
use crate::value::Inputs;
use crate::value::Outputs;
use crate::value::{self, Values};
use engine_format::{
    Digest, Engine, EngineFlags, FitError, FitPolicy, FitReport, FormatError, FormatErrorKind,
    Port, SerializeFlags, WeightSource,
};

/// What a refit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refitted {
    /// The version of the new weights.
    pub version: Digest,
    /// What was taken from the source, what the source did not have and kept its value, and what of the source is not used
    /// ([`FitReport::remarks`] says it in words).
    pub fit: FitReport,
}

/// Whether a module can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It cannot: these weights are missing, sorted by name.
    NeedsWeights(Vec<String>),
    /// It can; the version is a digest of all weights, the same for the same weights on every path.
    Ready(Digest),
}

/// An engine loaded onto a device.
///
/// Every method takes `&self` and may be called from many threads. A run works from beginning to end with the
/// weights that were there when it began; [`Outputs::version`] says which.
pub trait Module: Send + Sync {
    /// Inputs in the model's order.
    fn inputs(&self) -> &[Port];

    /// Outputs in the model's order.
    fn outputs(&self) -> &[Port];

    /// Whether it can run, and with which weights.
    fn state(&self) -> State;

    /// What the engine is now. A fill removes [`EngineFlags::EXCLUDE_WEIGHTS`].
    fn flags(&self) -> EngineFlags;

    /// The engine with the weights it has now; without them after [`Module::drop_sources`].
    fn engine(&self) -> Engine;

    /// Runs the engine on inputs that are tensors.
    ///
    /// # Errors
    /// `MissingWeights` names the weights of a module that needs them; `InvalidInputs` lists every input that is
    /// missing, unknown or of the wrong type or shape; `Node` names the node that does not take its operands.
    fn run(&self, inputs: &Inputs) -> Result<Outputs, RunError> {
        self.run_with(&value::values(inputs), &RunOptions::default())
    }

    /// Runs the engine on inputs that may be sequences and optional values, with more to say about it. An optional input that is
    /// not given is absent.
    ///
    /// # Errors
    /// Those of [`Module::run`]; `Cancelled`.
    fn run_with(&self, inputs: &Values, options: &RunOptions) -> Result<Outputs, RunError>;

    /// Replaces the weights by those of `source`, all or nothing, and says what was done. Runs go on meanwhile, with the
    /// weights that were there when they began; refits follow one another.
    ///
    /// # Errors
    /// Everything that does not fit, at once. The module then has the weights it had.
    fn refit(&self, source: &dyn WeightSource, fit: FitPolicy) -> Result<Refitted, RefitError> {
        self.refit_with(source, &fit.into())
    }

    /// As [`Module::refit`], with more to say about it: progress, an end from outside, whether forms are waited for.
    ///
    /// # Errors
    /// Those of [`Module::refit`]; `Cancelled`.
    fn refit_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Refitted, RefitError>;

    /// Another module for the same engine with the weights of `source`; with a partial refit, those it lacks are this
    /// module's. From then on neither knows the other. A [`LiveModule`] shares what is equal: weights with the same digest, what
    /// was prepared from such weights only, on the host and on the device, plans and kernels. A [`PackedModule`] has bytes of its
    /// own and shares only the device's compiled kernels.
    ///
    /// # Errors
    /// Those of [`Module::refit`].
    fn fork_weights(
        &self,
        source: &dyn WeightSource,
        fit: FitPolicy,
    ) -> Result<Box<dyn Module>, RefitError> {
        self.fork_with(source, &fit.into())
    }

    /// As [`Module::fork_weights`], with more to say about it.
    ///
    /// # Errors
    /// Those of [`Module::refit_with`].
    fn fork_with(
        &self,
        source: &dyn WeightSource,
        options: &RefitOptions,
    ) -> Result<Box<dyn Module>, RefitError>;

    /// Goes back to the weights before the last refit; called again, forth to those after it. The module keeps the source
    /// weights of one version for it, those that differ from today's.
    ///
    /// # Errors
    /// `NothingToRollBack` if the weights were never replaced, `SourcesDropped` after [`Module::drop_sources`].
    fn rollback(&self) -> Result<Digest, RefitError>;

    /// Gives up the source weights: what only a refit, a rollback or a file needs. The module runs as before and is then
    /// what a stripped engine is, but for being ready: it serializes without its weights, and takes a complete refit, after
    /// which it holds source weights again. Nothing happens to a module that needs weights.
    ///
    /// # Errors
    /// `Format` for a frozen engine, which cannot leave its weights out.
    fn drop_sources(&self) -> Result<(), RefitError>;

    /// The engine file with the weights it has now.
    ///
    /// # Errors
    /// Those of [`Engine::serialize`]; `MissingWeights` after [`Module::drop_sources`].
    fn serialize(&self, options: SerializeFlags) -> Result<Vec<u8>, FormatError>;

    /// Bytes that it holds, by kind.
    fn memory(&self) -> Memory;

    /// Gives up memory that is kept for speed alone: of runs that are over, and of weights that no rollback goes back to. The
    /// next run and the next refit take it anew.
    fn trim(&self);

    /// Which nodes run on the GPU and which on the CPU, and why, for the shapes that were run so far, each line once.
    /// Views and shape arithmetic are done while planning and have no line. Empty on the CPU, where there is no choice.
    fn placement(&self) -> Vec<Placement>;

    /// Where it runs.
    fn device(&self) -> &Device;

    /// A copy that shares no state with this one: refitting either leaves the other as it is.
    fn boxed_clone(&self) -> Box<dyn Module>;
}

/// The ports of a module; they are the same for every set of weights.
#[derive(Debug)]
struct Ports {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Ports {
    fn of(engine: &Engine) -> Self {
        let parts = engine.parts();
        Self { inputs: parts.inputs.clone(), outputs: parts.outputs.clone() }
    }
}

/// Bytes of the weights that an engine holds, of those that are not `but`.
fn weight_bytes(engine: &Engine, but: impl Fn(usize, Option<Digest>) -> bool) -> u64 {
    let weights = engine.parts().weights.iter().enumerate();
    let held =
        weights.filter(|(row, weight)| weight.tensor().is_some() && !but(*row, weight.digest));
    held.map(|(_, weight)| weight.byte_len() as u64).sum()
}

/// The error of running an engine that lacks weights.
fn missing_weights(engine: &Engine) -> RunError {
    let what = "the engine cannot run before it is filled: it lacks the weights";
    RunError::new(RunErrorKind::MissingWeights, what).items(engine.missing())
}

/// The error of a refit whose source, or what it gave, was not taken.
fn refit_error(error: FitError, dropped: bool, options: &RefitOptions) -> RefitError {
    match &error {
        // The source was made to fail.
        FitError::Source(_) if options.is_cancelled() => RefitError::Cancelled,
        _ if dropped => refit_without_sources(error),
        _ => error.into(),
    }
}

/// The error of a refit that was to keep weights which the module gave up.
fn refit_without_sources(error: FitError) -> RefitError {
    match error {
        FitError::Unfit(report) if report.error_kind() == Some(FormatErrorKind::MissingWeights) => {
            let name = |misfit: &engine_format::Misfit| misfit.name().map(str::to_owned);
            let missing = report.misfits.iter().filter_map(name).collect();
            RefitError::SourcesDropped { what: "a partial refit has nothing to keep", missing }
        }
        error => error.into(),
    }
}

/// The error of going back on a module that gave up its weights.
fn rollback_without_sources(engine: &Engine) -> RefitError {
    let what = "there is nothing to roll back to";
    RefitError::SourcesDropped { what, missing: engine.missing() }
}

/// The error of a file with weights that the module gave up.
fn file_without_sources(error: FormatError) -> FormatError {
    match error.kind() {
        FormatErrorKind::MissingWeights => {
            let what = "the module gave up its source weights (drop_sources) and can only be written without them";
            FormatError::new(error.kind(), what).names(error.weight_names().to_vec())
        }
        _ => error,
    }
}
