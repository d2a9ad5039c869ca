//! Giving up work from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells runs and refits to end early. Clones are one and the same; what is cancelled stays so, and any number of them may share
/// it.
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
    /// work to a GPU. A step or submission that has begun is not interrupted. A refit gives one before it reads
    /// the next weight or prepares the next constant.
    pub fn cancel(&self) {
        self.0.is_set.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    /// Whether it was cancelled, as work under way asks.
    pub(crate) fn look(&self) -> bool {
        #[cfg(test)]
        self.count();
        self.is_cancelled()
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

    fn count(&self) {
        let (looks, most) = &self.0.looks;
        if most.is_some_and(|most| looks.fetch_add(1, Ordering::Relaxed) >= most) {
            self.cancel();
        }
    }
}
