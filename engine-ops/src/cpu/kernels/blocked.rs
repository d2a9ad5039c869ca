//! Matrix multiplication of the types that have no tuned kernel.

use crate::parallel;
use engine_format::Element;
use half::{bf16, f16};

/// An element type that can be multiplied and summed.
pub(crate) trait Term: Element {
    /// What sums are kept in.
    type Sum: Copy + Send + Sync;
    /// The empty sum.
    const ZERO: Self::Sum;
    /// `sum + a·b`.
    fn add(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;
    /// `alpha·sum + beta·c`, `c` being absent or scaled by the caller's choice of `beta`.
    fn scale(sum: Self::Sum, alpha: f32, beta: f32, c: Option<Self>) -> Self::Sum;
    /// Rounds to the element type.
    fn finish(sum: Self::Sum) -> Self;
}

macro_rules! float_term {
    ($t:ty, $sum:ty, $widen:expr, $narrow:expr) => {
        impl Term for $t {
            type Sum = $sum;
            const ZERO: $sum = 0.0;
            fn add(sum: $sum, a: Self, b: Self) -> $sum {
                sum + $widen(a) * $widen(b)
            }
            fn scale(sum: $sum, alpha: f32, beta: f32, c: Option<Self>) -> $sum {
                <$sum>::from(alpha) * sum + c.map_or(0.0, |c| <$sum>::from(beta) * $widen(c))
            }
            fn finish(sum: $sum) -> Self {
                $narrow(sum)
            }
        }
    };
}
float_term!(f32, f32, |x| x, |x| x);
float_term!(f64, f64, |x| x, |x| x);
float_term!(f16, f32, f16::to_f32, f16::from_f32);
float_term!(bf16, f32, bf16::to_f32, bf16::from_f32);

macro_rules! int_term {
    ($($t:ty),*) => {$(
        impl Term for $t {
            type Sum = $t;
            const ZERO: $t = 0;
            fn add(sum: $t, a: Self, b: Self) -> $t {
                sum.wrapping_add(a.wrapping_mul(b))
            }
            // ONNX gives alpha and beta as floats for integers too; only whole ones mean anything.
            fn scale(sum: $t, alpha: f32, beta: f32, c: Option<Self>) -> $t {
                let c = c.map_or(0, |c| c.wrapping_mul(beta as $t));
                sum.wrapping_mul(alpha as $t).wrapping_add(c)
            }
            fn finish(sum: $t) -> Self {
                sum
            }
        }
    )*};
}
int_term!(i32, i64, u32, u64);

/// A matrix in memory: element `(i, j)` is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row: usize,
    pub(crate) col: usize,
}

/// Columns whose sums are kept at once.
const STRIP: usize = 64;

/// `out[i][j] = finish(Σ a[i][k]·b[k][j], i, j)`, `out` being dense rows of `n`. Terms are added in the order of `k`.
pub(crate) fn multiply<T: Term>(
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    (n, k): (usize, usize),
    out: &mut [T],
    finish: impl Fn(T::Sum, usize, usize) -> T + Sync,
) {
    if out.is_empty() {
        return;
    }
    parallel::rows(out, n, k, |i, out| {
        for (strip, out) in out.chunks_mut(STRIP).enumerate() {
            let mut sums = [T::ZERO; STRIP];
            let first = strip * STRIP;
            for at in 0..k {
                let x = a.data[i * a.row + at * a.col];
                for (j, sum) in sums[..out.len()].iter_mut().enumerate() {
                    *sum = T::add(*sum, x, b.data[at * b.row + (first + j) * b.col]);
                }
            }
            for (j, (out, &sum)) in out.iter_mut().zip(&sums).enumerate() {
                *out = finish(sum, i, first + j);
            }
        }
    });
}
