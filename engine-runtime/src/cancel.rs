//! Giving up a run from outside.

use crate::error::{RunError, RunErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells runs to end early. Clones are one and the same; what is cancelled stays so, and any number of runs may share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// One that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the runs that have it: each gives a `Cancelled` error before its next step on the CPU, or before it next hands
    /// work to a GPU. A step or submission that has begun is not interrupted.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How one run is done.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Ends the run early.
    pub cancel: Option<Cancel>,
}

/// The error of a run that was cancelled, if it was.
pub(crate) fn check(cancel: Option<&Cancel>) -> Result<(), RunError> {
    match cancel {
        Some(cancel) if cancel.is_cancelled() => {
            Err(RunError::new(RunErrorKind::Cancelled, "the run was cancelled"))
        }
        _ => Ok(()),
    }
}
