//! How operators run on a GPU: a kernel is data ([`GpuProgram`]), and this is the WGSL that several rows share.

pub(crate) mod elementwise;
pub(crate) mod fill;
pub(crate) mod halves;
pub(crate) mod product;
mod program;
pub(crate) mod small_float;

pub use program::*;
