//! Values on the device that runs hand on.

use super::context::Lease;
use super::device::GpuDevice;
use super::transfer::Readback;
use crate::gpu::{AdapterSummary, GpuError, GpuErrorKind};
use engine_format::Tensor;
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;
use wgpu::Buffer;

/// A buffer and the context it belongs to, which no other run may use before this value is gone.
#[derive(Clone)]
pub(crate) struct OnDevice {
    pub(crate) buffer: Buffer,
    _lease: Arc<Lease>,
}

impl OnDevice {
    /// A buffer of a leased context.
    pub(crate) fn new(buffer: Buffer, lease: Arc<Lease>) -> Self {
        Self { buffer, _lease: lease }
    }
}

/// A value that a run left on the device.
#[derive(Clone)]
pub(crate) struct GpuTensor {
    pub(super) device: GpuDevice,
    pub(super) meta: TensorMeta,
    pub(super) place: OnDevice,
}

/// The same memory, seen as the same type.
impl PartialEq for GpuTensor {
    fn eq(&self, other: &Self) -> bool {
        self.place.buffer == other.place.buffer && self.meta == other.meta
    }
}

impl GpuTensor {
    /// Type and shape.
    pub(crate) fn meta(&self) -> &TensorMeta {
        &self.meta
    }

    /// The GPU that it is on.
    pub(crate) fn adapter(&self) -> &AdapterSummary {
        self.device.adapter()
    }

    /// Whether it is on this GPU, opened at the same time.
    pub(crate) fn is_on(&self, device: &GpuDevice) -> bool {
        self.device.is(device)
    }

    /// Reads it back.
    pub(crate) fn to_host(&self) -> Result<Tensor, GpuError> {
        self.device.scoped(GpuErrorKind::Launch, "a value on the device", |scope| {
            let readback = Readback::new(scope, std::slice::from_ref(&self.meta))?;
            let buffer = &self.place.buffer;
            let submission = scope.submit(|encoder| readback.record(encoder, 0, buffer));
            Ok(readback.read(scope, submission)?.swap_remove(0))
        })
    }
}
