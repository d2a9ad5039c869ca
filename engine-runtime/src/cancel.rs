//! Giving up a run from outside.

use crate::error::{RunError, RunErrorKind};
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tells runs to end early. Clones are one and the same; what is cancelled stays so, and any number of runs may share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_set: AtomicBool,
    /// How often runs looked at it, and after how many it sets itself.
    #[cfg(test)]
    looks: (std::sync::atomic::AtomicUsize, Option<usize>),
}

impl Cancel {
    /// One that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the runs that have it: each gives a `Cancelled` error before its next step on the CPU, or before it next hands
    /// work to a GPU. A step or submission that has begun is not interrupted.
    pub fn cancel(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
impl Cancel {
    /// One that is cancelled as soon as runs have looked at it so many times.
    pub(crate) fn after(looks: usize) -> Self {
        Self(Arc::new(Flag { looks: (0.into(), Some(looks)), ..Flag::default() }))
    }

    /// How often runs looked at it.
    pub(crate) fn looks(&self) -> usize {
        self.0.looks.0.load(Ordering::Relaxed)
    }

    fn look(&self) {
        let (looks, most) = &self.0.looks;
        if most.is_some_and(|most| looks.fetch_add(1, Ordering::Relaxed) >= most) {
            self.cancel();
        }
    }
}

/// How one run is done.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Ends the run early.
    pub cancel: Option<Cancel>,
    /// Is told how long each step took, on the CPU.
    pub profile: Option<Profile>,
}

impl RunOptions {
    /// The error of a run that was cancelled, if it was.
    pub(crate) fn check(&self) -> Result<(), RunError> {
        #[cfg(test)]
        self.cancel.iter().for_each(|cancel| cancel.look());
        match &self.cancel {
            Some(cancel) if cancel.is_cancelled() => {
                Err(RunError::new(RunErrorKind::Cancelled, "the run was cancelled"))
            }
            _ => Ok(()),
        }
    }
}

/// Receives the steps of runs with the time they took. Clones are one and the same.
#[derive(Clone)]
pub struct Profile(Arc<dyn Fn(&StepTime<'_>) + Send + Sync>);

impl Profile {
    /// Calls `receive` after every step, on the thread of the run.
    pub fn new(receive: impl Fn(&StepTime<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn receive(&self, step: &StepTime<'_>) {
        (self.0)(step);
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Profile")
    }
}

/// A step of a run and how long it took.
#[derive(Clone, Debug)]
pub struct StepTime<'a> {
    /// Path of the node in the model; steps that a physical plan adds bear that of the node they serve.
    pub path: &'a str,
    /// The operator, as it ran.
    pub op: &'static str,
    /// Types of its operands; `None` is an omitted one.
    pub inputs: &'a [Option<TensorMeta>],
    /// Types of its results; `None` is one that nobody reads.
    pub outputs: &'a [Option<TensorMeta>],
    /// From the call of its kernel to its end.
    pub time: Duration,
}
