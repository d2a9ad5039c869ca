//! Where objects of wgpu are made, and what becomes of its errors.

use super::device::GpuDevice;
use crate::gpu::{GpuError, GpuErrorKind};
use std::marker::PhantomData;
use std::ops::Deref;
use wgpu::{
    BindGroup, BindGroupDescriptor, Buffer, BufferDescriptor, BufferUsages, CommandEncoder,
    CommandEncoderDescriptor, ErrorFilter, SubmissionIndex,
};

/// A piece of work of one thread with a device: what wgpu reports meanwhile, on this thread, is the error of the work.
pub(crate) struct Scope<'a> {
    device: &'a GpuDevice,
    /// Error scopes belong to the thread that opened them.
    _of_this_thread: PhantomData<*const ()>,
}

impl Deref for Scope<'_> {
    type Target = GpuDevice;
    fn deref(&self) -> &GpuDevice {
        self.device
    }
}

impl GpuError {
    /// What wgpu reported while `place` was worked on; validation errors are of `kind`.
    pub(super) fn from_wgpu(kind: GpuErrorKind, place: &str, error: &wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => {
                Self::new(GpuErrorKind::OutOfMemory, place, "the GPU is out of memory")
            }
            wgpu::Error::Validation { description, .. }
            | wgpu::Error::Internal { description, .. } => Self::new(kind, place, description),
        }
    }
}

impl GpuDevice {
    /// Does `work` and turns whatever wgpu reports in it into an error at `place`; what it refuses is of `kind`.
    ///
    /// wgpu goes on with an object that it could not make and refuses what is done with it, so that one cause has many effects. The
    /// error that is given is the cause: a device that is lost, then memory that there is not, then what was refused, and what `work`
    /// itself says only if wgpu reported nothing.
    pub(crate) fn scoped<T, E: From<GpuError>>(
        &self,
        kind: GpuErrorKind,
        place: &str,
        work: impl FnOnce(&Scope<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.counters().scopes.count();
        let device = self.wgpu();
        let memory = device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(ErrorFilter::Internal);
        let validation = device.push_error_scope(ErrorFilter::Validation);
        let done = work(&Scope { device: self, _of_this_thread: PhantomData });
        // Popped from the innermost outward, each whatever the others say.
        let [validation, internal, memory] =
            [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        let fault = self.fault();
        if let Some(lost) = fault.as_ref().filter(|fault| fault.kind() == GpuErrorKind::Lost) {
            return Err(lost.clone().into());
        }
        if let Some(error) = memory.or(internal).or(validation) {
            return Err(GpuError::from_wgpu(kind, place, &error).into());
        }
        let done = done?;
        fault.map_or(Ok(done), |fault| Err(fault.into()))
    }
}

impl Scope<'_> {
    /// A buffer for a value, a temporary or a weight. Its contents are zero.
    pub(crate) fn storage(&self, label: &str, bytes: u64) -> Result<Buffer, GpuError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage)
    }

    /// A buffer of `bytes`, rounded up to whole 16-byte rows so that none is empty. One that the host is to write is mapped from the
    /// start.
    pub(crate) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: BufferUsages,
    ) -> Result<Buffer, GpuError> {
        let size = bytes.max(1).next_multiple_of(16);
        let most = self.wgpu_limits().max_buffer_size;
        if size > most {
            let message = format!("a buffer of {size} bytes; this device has them up to {most}");
            return Err(GpuError::new(GpuErrorKind::TooLarge, label, message));
        }
        self.counters().buffers.count();
        Ok(self.wgpu().create_buffer(&BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: usage.contains(BufferUsages::MAP_WRITE),
        }))
    }

    /// A bind group.
    pub(crate) fn bind_group(&self, descriptor: &BindGroupDescriptor<'_>) -> BindGroup {
        self.counters().bind_groups.count();
        self.wgpu().create_bind_group(descriptor)
    }

    /// Records commands and submits them.
    pub(crate) fn submit(&self, record: impl FnOnce(&mut CommandEncoder)) -> SubmissionIndex {
        let mut encoder = self.wgpu().create_command_encoder(&CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue().submit([encoder.finish()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::on_gpu::opened;

    #[test]
    fn what_wgpu_reports_comes_before_what_follows_from_it() {
        let Some(gpu) = opened(&[]) else { return };
        let refused = gpu.scoped(GpuErrorKind::Launch, "here", |scope| {
            // Memory that is mapped for reading can hold no bindings.
            let usage = BufferUsages::MAP_READ | BufferUsages::STORAGE | BufferUsages::UNIFORM;
            let buffer = scope.buffer("impossible", 64, usage | BufferUsages::MAP_WRITE)?;
            scope.submit(|encoder| encoder.copy_buffer_to_buffer(&buffer, 0, &buffer, 0, 16));
            Err::<(), _>(GpuError::new(GpuErrorKind::Lost, "there", "an effect"))
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), GpuErrorKind::Launch, "{refused}");
        assert!(refused.to_string().contains("impossible"), "{refused}");
        // Nothing of it is left for the next piece of work.
        let own = |_: &Scope<'_>| Err::<(), _>(GpuError::new(GpuErrorKind::Open, "there", "own"));
        assert_eq!(
            gpu.scoped(GpuErrorKind::Launch, "here", own).unwrap_err().to_string(),
            "there: own"
        );
        let fine = gpu.scoped(GpuErrorKind::Launch, "here", |scope| scope.storage("fine", 64));
        assert_eq!(fine.unwrap().size(), 64);
    }

    #[test]
    fn what_is_larger_than_the_device_takes_is_classed_before_it_is_asked_for() {
        let Some(gpu) = opened(&[]) else { return };
        let most = gpu.wgpu_limits().max_buffer_size;
        let made =
            gpu.scoped(GpuErrorKind::Launch, "here", |scope| scope.storage("huge", most + 1));
        let error = made.unwrap_err();
        assert_eq!(error.kind(), GpuErrorKind::TooLarge);
        assert!(error.to_string().contains("huge"), "{error}");
    }

    /// A device that goes away while it is used is lost, whatever else wgpu reports of it.
    #[test]
    fn a_lost_device_is_classed_as_lost() {
        let Some(gpu) = opened(&[]) else { return };
        let lost = GpuError::new(GpuErrorKind::Lost, "the adapter", "it fell off the bus");
        let found = gpu.scoped(GpuErrorKind::Launch, "here", |scope| {
            scope.keep_fault(lost.clone());
            let usage = BufferUsages::MAP_READ | BufferUsages::MAP_WRITE;
            scope.buffer("impossible", 64, usage)
        });
        assert_eq!(found.unwrap_err(), lost);
        let later = gpu.scoped(GpuErrorKind::Launch, "here", |scope| scope.storage("fine", 64));
        assert_eq!(later.unwrap_err(), lost, "it stays lost");
    }
}
