//! GPUs through wgpu, under the feature `gpu`.
//!
//! [`adapters`] lists what there is, [`GpuDevice::open`] takes one. Kernels are data from the operator table
//! (`engine_ops::gpu`); the module `present` compiles them once per device, binds them to buffers and records them. The module
//! `absent` is what there is of it without the feature.

mod choice;
mod error;

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod present;

#[cfg(not(feature = "gpu"))]
pub(crate) use absent::GpuTensor;
#[cfg(not(feature = "gpu"))]
pub use absent::{GpuDevice, adapter_details, adapters};
#[cfg(feature = "gpu")]
pub(crate) use present::GpuTensor;
#[cfg(feature = "gpu")]
pub use present::{GpuCounts, GpuDevice, adapter_details, adapters};

pub use choice::{
    AdapterDetails, AdapterKind, AdapterSummary, GPU_BASELINE, GPU_CANDIDATES, GpuCandidates,
    GpuChoice, GpuOptions, SOFTWARE_GPU,
};
pub use error::{GpuError, GpuErrorKind};
