//! Constants on their way to the device, through memory that many threads fill.
//!
//! Memory that the device copies from is dear to make, and one thread fills it slower than a bus takes it. So a device keeps a few chunks
//! of it: whoever moves a constant takes one, fills it, has it copied, and gives it back, while the copies of others are under way.

use super::device::GpuDevice;
use super::ring::Chunk;
use super::scope::Scope;
use super::transfer::unmapped;
use super::words::widen;
use crate::gpu::{GpuError, GpuErrorKind};
use engine_ops::cpu::TensorRef;
use engine_ops::gpu::words;
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use wgpu::{Buffer, BufferUsages, MapMode, PollType};

/// Bytes of a chunk: a copy of so many takes much longer than to submit it.
const CHUNK: usize = 4 << 20;

/// What is not larger than this is handed to the queue, which collects what is small.
const SMALL: usize = 64 << 10;

/// Moves the words of `tensor` to the start of `target`: they are there for whatever is submitted after this call.
pub(super) fn send(
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
        return copy(scope, bytemuck::cast_slice(&all), target, 0);
    }
    let device: &GpuDevice = scope;
    let pieces = tensor.bytes.par_chunks(piece).with_max_len(1);
    pieces.enumerate().try_for_each(|(i, piece)| {
        // A thread of its own has error scopes of its own.
        device.scoped(GpuErrorKind::Launch, "a part of a constant", |scope| {
            let all = widen(tensor.dtype, piece);
            copy(scope, bytemuck::cast_slice(&all), target, (i * CHUNK) as u64)
        })
    })
}

/// Copies `bytes`, no more than a chunk of them, to `offset` of `target`.
fn copy(scope: &Scope<'_>, bytes: &[u8], target: &Buffer, offset: u64) -> Result<(), GpuError> {
    // What polling says of the device is said by whatever waits next.
    let look = || drop(scope.wgpu().poll(PollType::Poll));
    let (taken, mut chunk) = scope.ring().take(look, || {
        let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
        Ok(Chunk::new(scope.buffer("weights", CHUNK as u64, usage)?))
    })?;
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
    taken.give_back(chunk);
    Ok(())
}
