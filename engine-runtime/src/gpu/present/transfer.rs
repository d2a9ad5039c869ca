//! Bytes on their way to buffers and from them, through memory that both sides see and that is kept from run to run.

use super::device::GpuDevice;
use super::scope::Scope;
use super::words::{PIECE, gpu_len, narrow, widen};
use crate::gpu::{GpuError, GpuErrorKind};
use engine_format::Tensor;
use engine_ops::cpu::{TensorMeta, TensorRef};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use wgpu::{
    Buffer, BufferAsyncError, BufferUsages, CommandEncoder, MapMode, MapRangeError, SubmissionIndex,
};

/// The error of memory that the host should see and does not.
pub(super) fn unmapped(why: impl ToString) -> GpuError {
    GpuError::new(GpuErrorKind::Lost, "staging memory", why.to_string())
}

/// Copies `bytes` to memory that both sides see, in several threads if they are many: one alone fills it slower than a bus takes it.
fn fill(staging: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
    let copy = |(i, piece): (usize, &[u8])| {
        let start = (i * PIECE) as u64;
        let range = start..start + piece.len() as u64;
        staging.get_mapped_range_mut(range).map_err(unmapped)?.copy_from_slice(piece);
        Ok(())
    };
    match bytes.len() <= PIECE {
        true => copy((0, bytes)),
        false => bytes.par_chunks(PIECE).enumerate().try_for_each(copy),
    }
}

/// The way of a value from the host to a buffer that kernels read, over a host-visible buffer that is mapped whenever no copy out of it is
/// under way.
pub(crate) struct Upload {
    target: Buffer,
    /// Made by the first write.
    staging: Option<Buffer>,
    mapped: Arc<AtomicBool>,
    /// Bytes that were written and not yet copied.
    written: u64,
    /// Whether a copy was recorded and not yet submitted.
    recorded: bool,
    /// The last copy.
    submitted: Option<SubmissionIndex>,
}

impl Upload {
    /// To this buffer.
    pub(crate) fn new(target: Buffer) -> Self {
        let mapped = Arc::new(AtomicBool::new(true));
        Self { target, staging: None, mapped, written: 0, recorded: false, submitted: None }
    }

    /// Bytes of both sides.
    pub(crate) fn bytes(&self) -> u64 {
        self.target.size() + self.staging.as_ref().map_or(0, Buffer::size)
    }

    /// Where it leads.
    pub(crate) fn target(&self) -> &Buffer {
        &self.target
    }

    /// Writes as much of the start of `tensor` as the buffer holds; it is there for whatever is recorded after [`Self::record`].
    pub(crate) fn write(
        &mut self,
        scope: &Scope<'_>,
        tensor: TensorRef<'_>,
    ) -> Result<(), GpuError> {
        let all = widen(tensor.dtype, tensor.bytes);
        let bytes: &[u8] = bytemuck::cast_slice(&all);
        let bytes = &bytes[..bytes.len().min(self.target.size() as usize)];
        if bytes.is_empty() {
            return Ok(());
        }
        if !self.mapped.load(Ordering::Acquire)
            && let Some(submission) = self.submitted.take()
        {
            scope.wait(submission)?;
        }
        let staging = match &self.staging {
            Some(staging) => staging,
            None => {
                let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
                self.staging.insert(scope.buffer("upload", self.target.size(), usage)?)
            }
        };
        self.written = bytes.len() as u64;
        fill(staging, bytes)
    }

    /// Records the copy of what was written, if anything was.
    pub(crate) fn record(&mut self, encoder: &mut CommandEncoder) {
        if let Some(staging) = self.staging.as_ref().filter(|_| self.written > 0) {
            staging.unmap();
            encoder.copy_buffer_to_buffer(staging, 0, &self.target, 0, self.written);
            self.written = 0;
            self.mapped.store(false, Ordering::Release);
            self.recorded = true;
        }
    }

    /// What was recorded is submitted: the memory is to be had again when the copy is done.
    pub(crate) fn submitted(&mut self, submission: &SubmissionIndex) {
        let Some(staging) = self.staging.as_ref().filter(|_| self.recorded) else { return };
        let mapped = self.mapped.clone();
        staging.map_async(MapMode::Write, .., move |result| {
            mapped.store(result.is_ok(), Ordering::Release);
        });
        self.recorded = false;
        self.submitted = Some(submission.clone());
    }
}

/// A host-visible buffer that results are copied to, all of them in one submission and one wait.
pub(crate) struct Readback {
    staging: Option<Buffer>,
    /// What is read, and where in the staging buffer it starts.
    parts: Vec<(TensorMeta, u64)>,
}

impl Readback {
    /// Room for results of these types.
    ///
    /// # Panics
    /// If one of them is of a type that is not kept on the GPU.
    pub(crate) fn new(scope: &Scope<'_>, metas: &[TensorMeta]) -> Result<Self, GpuError> {
        let mut total = 0;
        let mut parts = Vec::with_capacity(metas.len());
        for meta in metas {
            parts.push((meta.clone(), total));
            total += gpu_len(meta).expect("results of kernels have a word layout");
        }
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = (total > 0).then(|| scope.buffer("read-back", total, usage)).transpose()?;
        Ok(Self { staging, parts })
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.staging.as_ref().map_or(0, Buffer::size)
    }

    /// Whether it has room for results of just these types.
    pub(crate) fn is_for(&self, metas: &[TensorMeta]) -> bool {
        self.parts.iter().map(|(meta, _)| meta).eq(metas)
    }

    /// Records the copy of result `i` out of `source`.
    pub(crate) fn record(&self, encoder: &mut CommandEncoder, i: usize, source: &Buffer) {
        let (meta, offset) = &self.parts[i];
        let bytes = gpu_len(meta).expect("checked when this was made");
        if let (Some(staging), 1..) = (&self.staging, bytes) {
            encoder.copy_buffer_to_buffer(source, 0, staging, *offset, bytes);
        }
    }

    /// Waits for `submission` and gives the results.
    pub(crate) fn read(
        &self,
        device: &GpuDevice,
        submission: SubmissionIndex,
    ) -> Result<Vec<Tensor>, GpuError> {
        let Some(staging) = &self.staging else {
            return Ok(self.parts.iter().map(|(m, _)| Tensor::zeros(m.dtype, &m.shape)).collect());
        };
        let (sender, receiver) = mpsc::channel();
        staging.map_async(MapMode::Read, .., move |result: Result<(), BufferAsyncError>| {
            // The receiver is gone only if waiting failed, and then nobody asks for the result.
            let _ = sender.send(result);
        });
        device.wait(submission)?;
        receiver.recv().map_err(unmapped)?.map_err(unmapped)?;
        let view = staging.get_mapped_range(..).map_err(|why: MapRangeError| unmapped(why))?;
        let tensors = self.parts.iter().map(|(meta, offset)| part(meta, *offset, &view)).collect();
        drop(view);
        staging.unmap();
        Ok(tensors)
    }
}

fn part(meta: &TensorMeta, offset: u64, mapped: &[u8]) -> Tensor {
    let bytes = gpu_len(meta).expect("checked when the read-back was made") as usize;
    let start = offset as usize;
    let host = narrow(meta.dtype, meta.len(), &mapped[start..start + bytes]);
    Tensor::new(meta.dtype, &meta.shape, host.into())
        .expect("the length follows from the shape and bools were made 0 or 1")
}
