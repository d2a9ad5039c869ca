//! GPUs through wgpu, under the feature `gpu`.
//!
//! [`adapters`] lists what there is, [`GpuDevice::open`] takes one. Kernels are data from the operator table
//! (`engine_ops::gpu`); this module compiles them once per device, binds them to buffers and records them.
//!
//! Invariants: nothing requires an optional feature; a tensor without elements is never read or written; everything
//! wgpu reports becomes a [`GpuError`] that names the shader or the node, never a panic.

mod choice;
mod error;

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(not(feature = "gpu"))]
pub use absent::{GpuDevice, adapters};

#[cfg(feature = "gpu")]
mod adapter;
#[cfg(feature = "gpu")]
mod backend;
#[cfg(feature = "gpu")]
mod context;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod launch;
#[cfg(feature = "gpu")]
mod lower;
#[cfg(feature = "gpu")]
mod notes;
#[cfg(feature = "gpu")]
mod obstacle;
#[cfg(feature = "gpu")]
mod pipeline;
#[cfg(feature = "gpu")]
mod resident;
#[cfg(feature = "gpu")]
mod single;
#[cfg(feature = "gpu")]
mod transfer;
#[cfg(feature = "gpu")]
mod words;
#[cfg(feature = "gpu")]
pub use {adapter::adapters, device::GpuDevice};

pub use choice::{AdapterSummary, GPU_BASELINE, GpuChoice, GpuOptions, SOFTWARE_GPU};
pub use error::{GpuError, GpuErrorKind};
