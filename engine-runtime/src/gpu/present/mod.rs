//! What there is of GPUs in a program that is built with wgpu.
//!
//! Invariants: nothing requires an optional feature; a tensor without elements is never read or written; everything
//! wgpu reports becomes a [`GpuError`](super::GpuError) that names the shader or the node, never a panic. What makes objects of wgpu
//! takes a [`Scope`](scope::Scope), one for each piece of work of a thread: a load, a constant, a run; so that nothing is made outside of one. A run whose shapes and
//! weights were run before makes none.

mod adapter;
mod backend;
mod bindings;
mod compile;
mod context;
mod counts;
mod device;
mod held;
mod launch;
mod lower;
mod notes;
mod obstacle;
mod pipeline;
mod resident;
mod ring;
mod schedule;
mod scope;
mod single;
mod staging;
mod stamps;
mod transfer;
mod words;

pub use adapter::{adapter_details, adapters};
pub use counts::GpuCounts;
pub use device::GpuDevice;
pub(crate) use held::GpuTensor;
