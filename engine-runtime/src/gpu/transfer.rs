//! Buffers, and bytes on their way to and from them.

use super::device::GpuDevice;
use super::error::{GpuError, GpuErrorKind};
use super::words::{gpu_len, narrow, widen};
use engine_format::Tensor;
use engine_ops::cpu::{TensorMeta, TensorRef};
use engine_ops::gpu::words;
use std::sync::mpsc;
use wgpu::{Buffer, BufferDescriptor, BufferUsages, CommandEncoder, MapMode};

impl GpuDevice {
    /// A buffer for a value, a temporary or a weight. Its contents are zero.
    pub(crate) fn storage(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage)
    }

    /// A buffer of `bytes`, rounded up to whole 16-byte rows so that none is empty.
    pub(crate) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Result<Buffer, GpuError> {
        let size = bytes.max(1).next_multiple_of(16);
        self.scoped(GpuErrorKind::TooLarge, label, |gpu| {
            gpu.create_buffer(&BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// Queues the words of `tensor` for `buffer`; they are there before anything that is submitted later runs.
    pub(crate) fn write(&self, buffer: &Buffer, tensor: TensorRef<'_>) {
        if !tensor.is_empty() {
            let words = widen(tensor.dtype, tensor.bytes);
            self.queue().write_buffer(buffer, 0, bytemuck::cast_slice(&words));
        }
    }

    /// Queues as much of the start of `tensor` as takes `bytes` in `buffer`.
    pub(crate) fn write_start(&self, buffer: &Buffer, bytes: u64, tensor: &Tensor) {
        let dtype = tensor.dtype();
        let per =
            words(dtype).expect("kernels bind only types that are kept on the GPU") as u64 * 4;
        let len = tensor.bytes().len().min((bytes / per) as usize * dtype.width());
        let start = TensorRef { dtype, shape: tensor.shape(), bytes: &tensor.bytes()[..len] };
        self.write(buffer, start);
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
    pub(crate) fn new(device: &GpuDevice, metas: &[TensorMeta]) -> Result<Self, GpuError> {
        let mut total = 0;
        let mut parts = Vec::with_capacity(metas.len());
        for meta in metas {
            parts.push((meta.clone(), total));
            total += gpu_len(meta).expect("results of kernels have a word layout");
        }
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging =
            if total == 0 { None } else { Some(device.buffer("read-back", total, usage)?) };
        Ok(Self { staging, parts })
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
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<Tensor>, GpuError> {
        let Some(staging) = &self.staging else {
            return Ok(self.parts.iter().map(|(m, _)| Tensor::zeros(m.dtype, &m.shape)).collect());
        };
        let (sender, receiver) = mpsc::channel();
        staging.map_async(MapMode::Read, .., move |result| {
            // The receiver is gone only if waiting failed, and then nobody asks for the result.
            let _ = sender.send(result);
        });
        device.wait(submission)?;
        let lost = |e: String| GpuError::new(GpuErrorKind::Lost, "read-back", e);
        receiver.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?;
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
