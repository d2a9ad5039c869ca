//! CPU kernels that several operators share: vector types, matrix multiplication, sliding windows.
//!
//! The only `unsafe` of this crate is here. Every kernel gives the same bits whatever the number of threads: work is
//! split over output elements, never over the terms of one sum.

pub(crate) mod blocked;
pub(crate) mod direct;
pub mod gemm;
pub(crate) mod im2col;
pub(crate) mod instances;
pub mod nchwc;
pub(crate) mod pooling;
pub(crate) mod simd;
pub(crate) mod transposed;
pub(crate) mod window;

/// Name of the instruction set that kernels use on this machine: `avx512`, `avx2`, `neon` or `portable`.
pub fn instruction_set() -> &'static str {
    instances::kernels().name
}

/// Names of all instruction sets that kernels have on this machine, the one that they use first.
pub fn instruction_sets() -> Vec<&'static str> {
    instances::available().into_iter().map(|kernels| kernels.name).collect()
}
