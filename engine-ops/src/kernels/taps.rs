//! One row of a convolution that has few channels to sum over: each input row is added tap by tap.

use crate::kernels::simd::Simd;
use crate::kernels::window::Axis;

/// Adds the taps of one input row to one output row.
pub(crate) struct Taps<'a> {
    /// The input row.
    pub(crate) x: &'a [f32],
    /// A weight per tap.
    pub(crate) weights: &'a [f32],
    /// How the rows relate.
    pub(crate) axis: &'a Axis,
    /// The output row.
    pub(crate) y: &'a mut [f32],
}

/// Registers of outputs that are summed at once.
const AT_ONCE: usize = 4;

/// Computes `y[o] += Σₜ weights[t] · x[o·stride + t·dilation − before]`, taps in order.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub(crate) unsafe fn taps<S: Simd>(t: &mut Taps<'_>) {
    let axis = t.axis;
    assert!(t.x.len() == axis.input && t.y.len() == axis.output && t.weights.len() == axis.kernel);
    // Outputs all of whose taps are inside.
    let last = axis.outputs(axis.kernel - 1);
    let (from, to) = (axis.outputs(0).start, last.end.min(axis.outputs(0).end));
    let (from, to) = if from < to && last.start <= from { (from, to) } else { (0, 0) };
    edge(t, 0..from);
    edge(t, to..axis.output);
    let mut at = from;
    // SAFETY: every tap of the outputs `from..to` is inside the input row.
    unsafe {
        while to - at >= AT_ONCE * S::LANES {
            block::<S, AT_ONCE>(t, at);
            at += AT_ONCE * S::LANES;
        }
        while to - at >= S::LANES {
            block::<S, 1>(t, at);
            at += S::LANES;
        }
    }
    edge(t, at..to);
}

/// Outputs one by one, some of whose taps may be on padding.
#[inline(always)]
fn edge(t: &mut Taps<'_>, outputs: std::ops::Range<usize>) {
    for o in outputs {
        let mut sum = t.y[o];
        for (tap, weight) in t.weights.iter().enumerate() {
            if let Some(i) = t.axis.at(o, tap) {
                sum += weight * t.x[i];
            }
        }
        t.y[o] = sum;
    }
}

/// `N` registers of outputs.
///
/// # Safety
/// The CPU has `S`, and every tap of these outputs is inside the input row.
#[inline(always)]
unsafe fn block<S: Simd, const N: usize>(t: &mut Taps<'_>, at: usize) {
    let Axis { stride, dilation, before, .. } = *t.axis;
    // SAFETY: the outputs are within `y`; their taps are within `x`, as the caller vouches.
    unsafe {
        let y = t.y.as_mut_ptr().add(at);
        let mut sums = [S::splat(0.0); N];
        for (n, sum) in sums.iter_mut().enumerate() {
            *sum = S::load(y.add(n * S::LANES));
        }
        for (tap, &weight) in t.weights.iter().enumerate() {
            let x = t.x.as_ptr().add(at * stride + tap * dilation - before);
            let weight = S::splat(weight);
            for (n, sum) in sums.iter_mut().enumerate() {
                let from = x.add(n * S::LANES * stride);
                let column = if stride == 1 { S::load(from) } else { S::load_apart(from, stride) };
                *sum = S::fma(weight, column, *sum);
            }
        }
        for (n, &sum) in sums.iter().enumerate() {
            S::store(y.add(n * S::LANES), sum);
        }
    }
}
