//! How many objects a device has made.

use std::sync::atomic::{AtomicU64, Ordering};

/// Objects that a device has made since it was opened, those that are gone included: what a load, a refit or a run has made is the
/// difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuCounts {
    /// Buffers, on the device and for staging.
    pub buffers: u64,
    /// Bind groups: one for each launch of a plan, its weights and its memory.
    pub bind_groups: u64,
    /// Shaders that were compiled.
    pub pipelines: u64,
    /// Error scopes: one for each load and each run, and for each shader.
    pub scopes: u64,
}

impl GpuCounts {
    /// What was made since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buffers: self.buffers - earlier.buffers,
            bind_groups: self.bind_groups - earlier.bind_groups,
            pipelines: self.pipelines - earlier.pipelines,
            scopes: self.scopes - earlier.scopes,
        }
    }
}

/// The same while they are counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub buffers: Counter,
    pub bind_groups: Counter,
    pub pipelines: Counter,
    pub scopes: Counter,
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// What was counted so far.
    pub fn read(&self) -> GpuCounts {
        GpuCounts {
            buffers: self.buffers.get(),
            bind_groups: self.bind_groups.get(),
            pipelines: self.pipelines.get(),
            scopes: self.scopes.get(),
        }
    }
}
