//! NEON, which every 64-bit Arm processor has.

use crate::kernels::simd::Simd;
use std::arch::aarch64::*;

/// 4 lanes, 32 registers: tiles of 6 × 16 keep 24 sums, four columns and a row value in registers.
pub(crate) struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 6;
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for four values.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> float32x4_t {
        let mut v = [0.0f32; 4];
        // SAFETY: the caller vouches for `n` values, and `n < 4`.
        unsafe {
            std::ptr::copy_nonoverlapping(from, v.as_mut_ptr(), n);
            vld1q_f32(v.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        // SAFETY: the caller vouches for four values.
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: float32x4_t) {
        let mut lanes = [0.0f32; 4];
        // SAFETY: the caller vouches for `n` values, and `n < 4`.
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn lesser(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON is part of the target.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn sum(v: float32x4_t) -> f32 {
        // SAFETY: NEON is part of the target.
        unsafe { vaddvq_f32(v) }
    }
}
