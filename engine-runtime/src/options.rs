//! What a caller says about one run, or about one refit.

use crate::cancel::Cancel;
use crate::error::{RunError, RunErrorKind};
use crate::profile::Profile;
use engine_format::FitPolicy;
use std::fmt;
use std::sync::Arc;

/// How one run is done.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The outputs that are wanted; all of them by default. What only the others need is neither calculated nor read back from
    /// a GPU. Every set of outputs that is asked for has plans of its own.
    pub outputs: Option<Vec<String>>,
    /// Outputs that stay where the run makes them, as [`Value::OnDevice`](crate::Value::OnDevice): on a GPU they are not read back, and a later run
    /// there takes them as they are. They stand in [`Outputs::structures`](crate::Outputs::structures). Outputs that are no tensors come to the
    /// host all the same.
    pub on_device: Vec<String>,
    /// Where draws by chance begin that have no seed of their own in the model: the same seed gives the same numbers on every
    /// device and any number of threads. Without one they differ from run to run.
    pub seed: Option<u64>,
    /// Ends the run early.
    pub cancel: Option<Cancel>,
    /// Is told how long each step took. On a GPU without a clock ([`crate::Device::has_clock`]) only steps that run on the CPU are timed; with one,
    /// each kernel is a pass of its own then, so that the run takes longer. Where the platform has no clock, as in
    /// `wasm32-unknown-unknown`, such a run is an error.
    pub profile: Option<Profile>,
}

/// Whether the platform tells the time; the standard library panics where it does not.
pub const HAS_CLOCK: bool = !cfg!(all(target_family = "wasm", target_os = "unknown"));

impl RunOptions {
    /// The error of a run that asks for what this platform does not have, or was cancelled before it began.
    pub(crate) fn begin(&self) -> Result<(), RunError> {
        if self.profile.is_some() && !HAS_CLOCK {
            let why = "no step can be timed: this platform has no clock";
            return Err(RunError::new(RunErrorKind::Device, why));
        }
        self.check()
    }

    /// The error of a run that was cancelled, if it was.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        match &self.cancel {
            Some(cancel) if cancel.look() => {
                Err(RunError::new(RunErrorKind::Cancelled, "the run was cancelled"))
            }
            _ => Ok(()),
        }
    }
}

/// How one refit is done.
#[derive(Clone, Debug, Default)]
pub struct RefitOptions {
    /// How complete and how exact the source has to be.
    pub fit: FitPolicy,
    /// Is told how much of the weights was read.
    pub progress: Option<Progress>,
    /// Ends the refit early. The module then has the weights it had.
    pub cancel: Option<Cancel>,
    /// Make the new weights' forms for the shapes that were run so far before runs get them, so that no run waits for a form or
    /// does without. By default a refit is over sooner and they are made beside the runs that follow.
    pub wait_for_forms: bool,
}

impl RefitOptions {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// How `prepare` is run for it.
    pub(crate) fn preparing(&self) -> RunOptions {
        RunOptions { cancel: self.cancel.clone(), ..RunOptions::default() }
    }
}

impl From<FitPolicy> for RefitOptions {
    fn from(fit: FitPolicy) -> Self {
        Self { fit, ..Self::default() }
    }
}

/// Receives how far a refit has come. Clones are one and the same.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Calls `receive` with the bytes of weights that were read so far and with all that will be, on the threads of the refit.
    pub fn new(receive: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn receive(&self, done: u64, all: u64) {
        (self.0)(done, all);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
