//! An opened GPU.

use super::adapter;
use super::counts::{Counters, GpuCounts};
use super::pipeline::PipelineCache;
use super::ring::Ring;
use crate::gpu::{AdapterSummary, GpuCandidates, GpuChoice, GpuOptions};
use crate::gpu::{GpuError, GpuErrorKind};
use engine_ops::gpu::GpuLimits;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{DeviceDescriptor, ExperimentalFeatures, Features, Limits, MemoryHints, PollType};

/// Features that kernels or measurements make use of where the adapter has them; none is ever required.
const USEFUL: Features = Features::SUBGROUP.union(Features::TIMESTAMP_QUERY);

/// An opened GPU: device, queue and the shaders compiled for it. Cloning shares them.
#[derive(Clone)]
pub struct GpuDevice {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: AdapterSummary,
    limits: Limits,
    kernel_limits: GpuLimits,
    pipelines: PipelineCache,
    counters: Counters,
    ring: Ring,
    candidates: GpuCandidates,
    on_cpu: Vec<String>,
    /// The first error that no scope caught: a lost device, or a bug.
    fault: Arc<Mutex<Option<GpuError>>>,
}

impl fmt::Debug for GpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GpuDevice({})", self.inner.adapter)
    }
}

impl GpuDevice {
    /// Opens the adapter that `choice` names.
    pub fn open(choice: &GpuChoice, options: GpuOptions) -> Result<Self, GpuError> {
        let adapter = adapter::choose(choice)?;
        let summary = AdapterSummary::of(&adapter.get_info());
        let matrix_units = !options.baseline && adapter::has_matrix_units(&adapter);
        let (features, limits) = match options.baseline {
            true => (Features::empty(), Limits::default()),
            false if matrix_units => {
                (adapter.features() & USEFUL | adapter::MATRIX_UNITS, adapter.limits())
            }
            false => (adapter.features() & USEFUL, adapter.limits()),
        };
        let experimental_features = match matrix_units {
            // SAFETY: of what wgpu calls experimental, cooperative matrices alone are asked for. Nothing checks where they read and write, so
            // only shaders of the operator table may have them (`compile`); those read and write tiles of workgroup memory at places that
            // constants of the text decide, all of which lie within.
            true => unsafe { ExperimentalFeatures::enabled() },
            false => ExperimentalFeatures::disabled(),
        };
        let descriptor = DeviceDescriptor {
            label: Some("refit"),
            required_features: features,
            required_limits: limits,
            experimental_features,
            memory_hints: MemoryHints::Performance,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| GpuError::new(GpuErrorKind::Open, summary.to_string(), e.to_string()))?;
        tracing::debug!(adapter = %summary, baseline = options.baseline, "opened a GPU");
        let fault = Arc::new(Mutex::new(None));
        watch(&device, &summary, &fault);
        let limits = device.limits();
        Ok(Self {
            inner: Arc::new(Inner {
                kernel_limits: GpuLimits {
                    max_workgroups: limits.max_compute_workgroups_per_dimension,
                    max_invocations: limits.max_compute_invocations_per_workgroup,
                    workgroup_memory: limits.max_compute_workgroup_storage_size,
                    matrix_units,
                },
                device,
                queue,
                adapter: summary,
                limits,
                pipelines: PipelineCache::default(),
                counters: Counters::default(),
                ring: Ring::default(),
                candidates: options.candidates,
                on_cpu: options.on_cpu,
                fault,
            }),
        })
    }

    /// Whether the two are one opened device.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.inner.adapter
    }

    /// What kernels are made for.
    pub fn limits(&self) -> &GpuLimits {
        &self.inner.kernel_limits
    }

    /// Bytes of the largest tensor that a kernel can bind here.
    pub fn max_binding(&self) -> u64 {
        self.inner.limits.max_storage_buffer_binding_size.min(self.inner.limits.max_buffer_size)
    }

    /// Rounds up to which the adapter makes all loops of an invocation, as [`engine_ops::gpu::Dispatch::rounds`] counts them. Mesa's
    /// software adapter ends them after 65,535 turns and goes on as if they were done; entering and leaving a loop is a turn too.
    pub(crate) fn most_rounds(&self) -> usize {
        if self.inner.adapter.driver.contains("llvmpipe") { 32_767 } else { usize::MAX }
    }

    /// What was made on this device so far.
    pub fn counts(&self) -> GpuCounts {
        self.inner.counters.read()
    }

    /// Whether operator `name` runs on the CPU by [`GpuOptions::on_cpu`].
    pub(crate) fn is_kept_off(&self, name: &str) -> bool {
        self.inner.on_cpu.iter().any(|op| op == name)
    }

    /// Which of several kernels a node gets.
    pub(super) fn candidates(&self) -> &GpuCandidates {
        &self.inner.candidates
    }

    pub(crate) fn wgpu_limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// The device itself. Objects are made in a scope.
    pub(super) fn wgpu(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// What constants go through on their way to the device.
    pub(super) fn ring(&self) -> &Ring {
        &self.inner.ring
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    pub(crate) fn pipeline_cache(&self) -> &PipelineCache {
        &self.inner.pipelines
    }

    /// Waits until everything submitted up to `submission` is done and its callbacks were called.
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let poll = PollType::Wait { submission_index: Some(submission), timeout: None };
        let lost = |e: wgpu::PollError| {
            GpuError::new(GpuErrorKind::Lost, self.inner.adapter.to_string(), e.to_string())
        };
        self.inner.device.poll(poll).map_err(lost)?;
        self.fault().map_or(Ok(()), Err)
    }

    /// Has it that the device is at fault.
    #[cfg(test)]
    pub(crate) fn keep_fault(&self, fault: GpuError) {
        self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    /// What wgpu reported outside all scopes.
    pub(super) fn fault(&self) -> Option<GpuError> {
        self.inner.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps what wgpu reports outside error scopes, instead of its default, a panic.
fn watch(device: &wgpu::Device, adapter: &AdapterSummary, fault: &Arc<Mutex<Option<GpuError>>>) {
    let place = adapter.to_string();
    let keep = {
        let fault = fault.clone();
        move |error: GpuError| {
            tracing::error!(%error, "the GPU reported an error");
            fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    let (keep_lost, place_lost) = (keep.clone(), place.clone());
    device.on_uncaptured_error(Arc::new(move |error| {
        keep(GpuError::from_wgpu(GpuErrorKind::Launch, &place, &error));
    }));
    device.set_device_lost_callback(move |reason, message| {
        // Dropping the last handle reports the device as destroyed, which is no fault.
        if reason != wgpu::DeviceLostReason::Destroyed {
            keep_lost(GpuError::new(GpuErrorKind::Lost, place_lost.clone(), message));
        }
    });
}
