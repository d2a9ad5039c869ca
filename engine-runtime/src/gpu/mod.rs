//! GPUs through wgpu.
//!
//! [`adapters`] lists what there is, [`GpuDevice::open`] takes one. Kernels are data from the operator table
//! (`engine_ops::gpu`); this module compiles them once per device, binds them to buffers and records them.
//!
//! Invariants: nothing requires an optional feature; a tensor without elements is never read or written; everything
//! wgpu reports becomes a [`GpuError`] that names the shader or the node, never a panic.

mod adapter;
mod backend;
mod context;
mod device;
mod error;
mod launch;
mod lower;
mod notes;
mod obstacle;
mod pipeline;
mod resident;
mod single;
mod transfer;
mod words;

pub use adapter::{AdapterSummary, GpuChoice, SOFTWARE_GPU, adapters};
pub use device::{GPU_BASELINE, GpuDevice, GpuOptions};
pub use error::{GpuError, GpuErrorKind};
pub use lower::Placement;
pub use obstacle::Obstacle;
