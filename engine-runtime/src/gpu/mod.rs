//! GPUs through wgpu, under the feature `gpu`.
//!
//! [`adapters`] lists what there is, [`GpuDevice::open`] takes one. Kernels are data from the operator table
//! (`engine_ops::gpu`); the module `present` compiles them once per device, binds them to buffers and records them. The module
//! `absent` is what there is of it without the feature, and in WebAssembly, for which no backend of wgpu is asked.

mod choice;
mod error;

#[cfg(any(not(feature = "gpu"), target_family = "wasm"))]
mod absent;
#[cfg(all(feature = "gpu", not(target_family = "wasm")))]
mod present;

#[cfg(any(not(feature = "gpu"), target_family = "wasm"))]
use absent as gpus;
#[cfg(all(feature = "gpu", not(target_family = "wasm")))]
use present as gpus;

pub(crate) use gpus::GpuTensor;
pub use gpus::{GpuDevice, adapter_details, adapters};
#[cfg(all(feature = "gpu", not(target_family = "wasm")))]
pub use present::GpuCounts;

pub use choice::{
    AdapterDetails, AdapterKind, AdapterSummary, GPU_BASELINE, GPU_CANDIDATES, GpuCandidates,
    GpuChoice, GpuOptions, SOFTWARE_GPU,
};
pub use error::{GpuError, GpuErrorKind};
