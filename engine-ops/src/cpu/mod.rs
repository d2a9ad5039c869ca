//! How operators run on the CPU: what a kernel sees, its door to threads, forms of constants, and the kernels and loops that
//! several rows share.

pub(crate) mod approx;
mod context;
pub(crate) mod convert;
pub(crate) mod float;
pub mod form;
pub mod kernels;
pub mod memory;
mod mersenne;
pub mod parallel;
pub(crate) mod reduction;
pub(crate) mod small_float;
pub(crate) mod wide;
pub(crate) mod widened;

pub use crate::table::ready::Ready;
pub(crate) use context::planned;
pub use context::{Cpu, CpuCtx, CpuShapes, CpuStep, TensorMeta, TensorMut, TensorRef};
pub use mersenne::Draws;
pub(crate) use mersenne::Mersenne;
