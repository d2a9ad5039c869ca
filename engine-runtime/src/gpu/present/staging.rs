//! Host-visible memory that constants go through on their way to the device, filled by many threads.
//!
//! Memory that the device copies from is dear to make, and one thread fills it slower than a bus takes it. So a device keeps a few chunks
//! of it: whoever moves a constant takes one, fills it, has it copied, and gives it back, while the copies of others are under way.

use super::device::GpuDevice;
use super::scope::Scope;
use super::transfer::unmapped;
use super::words::widen;
use crate::gpu::{GpuError, GpuErrorKind};
use engine_ops::cpu::TensorRef;
use engine_ops::gpu::words;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use wgpu::{Buffer, BufferUsages, MapMode, PollType, SubmissionIndex};

/// Bytes of a chunk: a copy of so many takes much longer than to submit it.
const CHUNK: usize = 4 << 20;

/// Chunks of a device at most.
const MOST: usize = 16;

/// What is not larger than this is handed to the queue, which collects what is small.
const SMALL: usize = 64 << 10;

/// The chunks of a device. They are kept for the next constants until the device goes.
#[derive(Default)]
pub(crate) struct Staging {
    ring: Mutex<Ring>,
    given_back: Condvar,
}

#[derive(Default)]
struct Ring {
    /// Those that nobody fills, the one whose copy was submitted first at the front.
    chunks: VecDeque<Chunk>,
    /// How many there are, those that are being filled included.
    made: usize,
}

struct Chunk {
    buffer: Buffer,
    mapped: Arc<AtomicBool>,
    /// The last copy out of it.
    submitted: Option<SubmissionIndex>,
}

/// A chunk that is being filled. One that is not given back is none any more.
struct Taken<'a> {
    staging: &'a Staging,
    chunk: Option<Chunk>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut ring = self.staging.ring();
        match self.chunk.take() {
            Some(chunk) => ring.chunks.push_back(chunk),
            None => ring.made -= 1,
        }
        drop(ring);
        self.staging.given_back.notify_one();
    }
}

impl Staging {
    /// Moves the words of `tensor` to the start of `target`: they are there for whatever is submitted after this call.
    pub(crate) fn send(
        &self,
        scope: &Scope<'_>,
        tensor: TensorRef<'_>,
        target: &Buffer,
    ) -> Result<(), GpuError> {
        let per = words(tensor.dtype).expect("the caller made a buffer of its words") * 4;
        if tensor.bytes.len() / tensor.dtype.width() * per <= SMALL {
            if !tensor.is_empty() {
                let all = widen(tensor.dtype, tensor.bytes);
                scope.queue().write_buffer(target, 0, bytemuck::cast_slice(&all));
            }
            return Ok(());
        }
        let piece = CHUNK / per * tensor.dtype.width();
        if tensor.bytes.len() <= piece {
            let all = widen(tensor.dtype, tensor.bytes);
            return self.copy(scope, bytemuck::cast_slice(&all), target, 0);
        }
        let device: &GpuDevice = scope;
        let pieces = tensor.bytes.par_chunks(piece).with_max_len(1);
        pieces.enumerate().try_for_each(|(i, piece)| {
            // A thread of its own has error scopes of its own.
            device.scoped(GpuErrorKind::Launch, "a part of a constant", |scope| {
                let all = widen(tensor.dtype, piece);
                self.copy(scope, bytemuck::cast_slice(&all), target, (i * CHUNK) as u64)
            })
        })
    }

    /// Copies `bytes`, no more than a chunk of them, to `offset` of `target`.
    fn copy(
        &self,
        scope: &Scope<'_>,
        bytes: &[u8],
        target: &Buffer,
        offset: u64,
    ) -> Result<(), GpuError> {
        let mut taken = Taken { staging: self, chunk: None };
        let mut chunk = self.take(scope)?;
        if let Some(submission) = chunk.submitted.take().filter(|_| !chunk.is_mapped()) {
            scope.wait(submission)?;
        }
        let len = bytes.len() as u64;
        let mut view = chunk.buffer.get_mapped_range_mut(..len).map_err(unmapped)?;
        view.slice(..).copy_from_slice(bytes);
        drop(view);
        chunk.mapped.store(false, Ordering::Release);
        chunk.buffer.unmap();
        let submission = scope.submit(|encoder| {
            encoder.copy_buffer_to_buffer(&chunk.buffer, 0, target, offset, len);
        });
        let mapped = chunk.mapped.clone();
        chunk.buffer.map_async(MapMode::Write, .., move |result| {
            mapped.store(result.is_ok(), Ordering::Release);
        });
        chunk.submitted = Some(submission);
        taken.chunk = Some(chunk);
        Ok(())
    }

    /// A chunk to fill, perhaps one whose copy is still under way. Who takes one gives it back or says that it is none any more.
    fn take(&self, scope: &Scope<'_>) -> Result<Chunk, GpuError> {
        let mut ring = self.ring();
        loop {
            if ring.chunks.front().is_some_and(|chunk| !chunk.is_mapped()) {
                // Lets those whose copies are done be mapped. What it says of the device is said by whatever waits next.
                let _ = scope.wgpu().poll(PollType::Poll);
            }
            let ready = ring.chunks.front().is_some_and(Chunk::is_mapped);
            if !ready && ring.made < MOST {
                ring.made += 1;
                drop(ring);
                return Chunk::new(scope);
            }
            if let Some(chunk) = ring.chunks.pop_front() {
                return Ok(chunk);
            }
            ring = self.given_back.wait(ring).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    fn new(scope: &Scope<'_>) -> Result<Self, GpuError> {
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        let buffer = scope.buffer("weights", CHUNK as u64, usage)?;
        Ok(Self { buffer, mapped: Arc::new(AtomicBool::new(true)), submitted: None })
    }

    fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Acquire)
    }
}
