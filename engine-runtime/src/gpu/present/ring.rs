//! The host-visible memory that a device keeps for constants on their way to it.

use crate::gpu::GpuError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use wgpu::{Buffer, SubmissionIndex};

/// Chunks of a device at most.
const MOST: usize = 16;

/// The chunks of a device. They are kept for the next constants until the device goes.
#[derive(Default)]
pub(super) struct Ring {
    kept: Mutex<Kept>,
    given_back: Condvar,
}

#[derive(Default)]
struct Kept {
    /// Those that nobody fills, the one whose copy was submitted first at the front.
    chunks: VecDeque<Chunk>,
    /// How many there are, those that are being filled included.
    made: usize,
}

/// Memory that the device copies from.
pub(super) struct Chunk {
    pub(super) buffer: Buffer,
    pub(super) mapped: Arc<AtomicBool>,
    /// The last copy out of it.
    pub(super) submitted: Option<SubmissionIndex>,
}

impl Chunk {
    /// Memory that is mapped from the start.
    pub(super) fn new(buffer: Buffer) -> Self {
        Self { buffer, mapped: Arc::new(AtomicBool::new(true)), submitted: None }
    }

    pub(super) fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Acquire)
    }
}

/// A chunk that is being filled. One that is not given back is none any more.
pub(super) struct Taken<'a> {
    ring: &'a Ring,
    chunk: Option<Chunk>,
}

impl Taken<'_> {
    /// Gives it back, to be filled again once its copy is done.
    pub(super) fn give_back(mut self, chunk: Chunk) {
        self.chunk = Some(chunk);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut kept = self.ring.kept();
        match self.chunk.take() {
            Some(chunk) => kept.chunks.push_back(chunk),
            None => kept.made -= 1,
        }
        drop(kept);
        self.ring.given_back.notify_one();
    }
}

impl Ring {
    /// A chunk to fill, perhaps one whose copy is still under way. `look` lets those whose copies are done be mapped, `make` makes one
    /// more.
    pub(super) fn take(
        &self,
        look: impl Fn(),
        make: impl FnOnce() -> Result<Chunk, GpuError>,
    ) -> Result<(Taken<'_>, Chunk), GpuError> {
        let mut kept = self.kept();
        loop {
            if kept.chunks.front().is_some_and(|chunk| !chunk.is_mapped()) {
                look();
            }
            let ready = kept.chunks.front().is_some_and(Chunk::is_mapped);
            if !ready && kept.made < MOST {
                kept.made += 1;
                drop(kept);
                let taken = Taken { ring: self, chunk: None };
                return make().map(|chunk| (taken, chunk));
            }
            if let Some(chunk) = kept.chunks.pop_front() {
                return Ok((Taken { ring: self, chunk: None }, chunk));
            }
            kept = self.given_back.wait(kept).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
