//! AVX-512 and AVX2 with FMA.

use crate::kernels::simd::Simd;
use std::arch::x86_64::*;

/// 16 lanes, 32 registers: tiles of 12 × 32 keep 24 sums, two columns and a row value in registers.
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const WIDTH: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the caller checked for AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: as above, and the caller vouches for 16 values.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        // SAFETY: as above; masked-off lanes are not read.
        unsafe { _mm512_maskz_loadu_ps(mask(n), from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: as above, and the caller vouches for 16 values.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: __m512) {
        // SAFETY: as above; masked-off lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, mask(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller checked for AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller checked for AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller checked for AVX-512F. The instruction gives its second operand where the first is not greater.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn lesser(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller checked for AVX-512F. The instruction gives its second operand where the first is not less.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller checked for AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: the caller checked for AVX-512F and vouches for the values that are read and written.
        unsafe {
            let mut v = [_mm512_setzero_ps(); 16];
            for (row, v) in v.iter_mut().enumerate().take(rows) {
                *v = Self::load(from.add(row * stride));
            }
            // Within each quarter of a register, 4 × 4 elements are transposed; then quarters change places.
            let mut w = v;
            for i in (0..16).step_by(4) {
                let (low, high) =
                    (_mm512_unpacklo_ps(v[i], v[i + 1]), _mm512_unpackhi_ps(v[i], v[i + 1]));
                let (low2, high2) = (
                    _mm512_unpacklo_ps(v[i + 2], v[i + 3]),
                    _mm512_unpackhi_ps(v[i + 2], v[i + 3]),
                );
                w[i] = _mm512_shuffle_ps::<0x44>(low, low2);
                w[i + 1] = _mm512_shuffle_ps::<0xee>(low, low2);
                w[i + 2] = _mm512_shuffle_ps::<0x44>(high, high2);
                w[i + 3] = _mm512_shuffle_ps::<0xee>(high, high2);
            }
            for i in 0..4 {
                let (a, b, c, d) = (w[i], w[i + 4], w[i + 8], w[i + 12]);
                let (ab, cd) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                v[i] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                v[i + 8] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
                let (ab, cd) =
                    (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                v[i + 4] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                v[i + 12] = _mm512_shuffle_f32x4::<0xdd>(ab, cd);
            }
            for (lane, &v) in v.iter().enumerate() {
                match rows {
                    16 => Self::store(to.add(lane * to_stride), v),
                    _ => Self::store_first(to.add(lane * to_stride), rows, v),
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: the caller checked for AVX-512F.
        unsafe { _mm512_reduce_add_ps(v) }
    }
}

#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    (1u16 << n) - 1
}

/// 8 lanes, 16 registers: tiles of 6 × 16 keep 12 sums, two columns and a row value in registers.
pub(crate) struct Avx2;

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const WIDTH: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: as above, and the caller vouches for 8 values.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m256 {
        // SAFETY: as above; masked-off lanes are not read.
        unsafe { _mm256_maskload_ps(from, first(n)) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: as above, and the caller vouches for 8 values.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, v: __m256) {
        // SAFETY: as above; masked-off lanes are not written.
        unsafe { _mm256_maskstore_ps(to, first(n), v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA. The instruction gives its second operand where the first is not greater.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn lesser(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA. The instruction gives its second operand where the first is not less.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller checked for AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: the caller checked for AVX2 and vouches for the values that are read and written.
        unsafe {
            let mut v = [_mm256_setzero_ps(); 8];
            for (row, v) in v.iter_mut().enumerate().take(rows) {
                *v = Self::load(from.add(row * stride));
            }
            // Within each half of a register, 4 × 4 elements are transposed; then halves change places.
            let mut w = v;
            for i in [0, 4] {
                let (low, high) =
                    (_mm256_unpacklo_ps(v[i], v[i + 1]), _mm256_unpackhi_ps(v[i], v[i + 1]));
                let (low2, high2) = (
                    _mm256_unpacklo_ps(v[i + 2], v[i + 3]),
                    _mm256_unpackhi_ps(v[i + 2], v[i + 3]),
                );
                w[i] = _mm256_shuffle_ps::<0x44>(low, low2);
                w[i + 1] = _mm256_shuffle_ps::<0xee>(low, low2);
                w[i + 2] = _mm256_shuffle_ps::<0x44>(high, high2);
                w[i + 3] = _mm256_shuffle_ps::<0xee>(high, high2);
            }
            for i in 0..4 {
                v[i] = _mm256_permute2f128_ps::<0x20>(w[i], w[i + 4]);
                v[i + 4] = _mm256_permute2f128_ps::<0x31>(w[i], w[i + 4]);
            }
            for (lane, &v) in v.iter().enumerate() {
                match rows {
                    8 => Self::store(to.add(lane * to_stride), v),
                    _ => Self::store_first(to.add(lane * to_stride), rows, v),
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn sum(v: __m256) -> f32 {
        // SAFETY: the caller checked for AVX2 and FMA.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}

/// All ones in the first `n` lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    // SAFETY: the caller checked for AVX2.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
    }
}
