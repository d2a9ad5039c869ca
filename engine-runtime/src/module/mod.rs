//! Loaded engines: the trait [`Module`] and its two implementations.
//!
//! [`LiveModule`] keeps an engine in memory and swaps prepared constants; [`PackedModule`] keeps the serialized bytes and
//! reloads them. They behave alike in every way a caller can see, and share nothing but the executor that both make
//! from an [`Engine`], so that each can be held against the other.

mod live;
mod packed;

pub use live::LiveModule;
pub use packed::PackedModule;

use crate::device::Device;
use crate::error::{RefitError, RunError, RunErrorKind};
use crate::executor::Outputs;
use crate::gpu::Placement;
use crate::inputs::Inputs;
use engine_format::{
    Digest, Engine, EngineFlags, FitPolicy, FormatError, Port, SerializeFlags, WeightSource,
};

/// How complete a refit is.
pub type RefitOptions = FitPolicy;

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

    /// The engine with the weights it has now.
    fn engine(&self) -> Engine;

    /// Runs the engine.
    ///
    /// # Errors
    /// `MissingWeights` names the weights of a module that needs them; `InvalidInputs` lists every input that is
    /// missing, unknown or of the wrong type or shape; `Node` names the node that does not take its operands.
    fn run(&self, inputs: &Inputs) -> Result<Outputs, RunError>;

    /// Replaces the weights by those of `source`, all or nothing, and gives the new version.
    ///
    /// # Errors
    /// Everything that does not fit, at once. The module then has the weights it had.
    fn refit(&self, source: &dyn WeightSource, options: RefitOptions)
    -> Result<Digest, RefitError>;

    /// Goes back to the weights before the last refit; called again, forth to those after it.
    ///
    /// # Errors
    /// `NothingToRestore` if the weights were never replaced.
    fn restore(&self) -> Result<Digest, RefitError>;

    /// The engine file with the weights it has now.
    ///
    /// # Errors
    /// Those of [`Engine::serialize`].
    fn serialize(&self, wish: SerializeFlags) -> Result<Vec<u8>, FormatError>;

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

/// The error of running an engine that lacks weights.
fn missing_weights(engine: &Engine) -> RunError {
    let what = "the engine cannot run before it is filled: it lacks the weights";
    RunError::new(RunErrorKind::MissingWeights, what).items(engine.missing())
}
