//! One row of a convolution that has few channels to sum over: every output of the row in registers until all taps are in.

use crate::kernels::simd::Simd;
use crate::kernels::window::Axis;
use std::ops::Range;

/// One row of outputs.
pub(crate) struct Taps<'a> {
    /// Channels of the input, each `depth × height × width`.
    pub(crate) image: &'a [f32],
    /// For each channel a weight per tap.
    pub(crate) weights: &'a [f32],
    /// The window.
    pub(crate) axes: &'a [Axis; 3],
    /// Depth and height of the row.
    pub(crate) at: [usize; 2],
    /// What every sum begins with.
    pub(crate) bias: f32,
    /// Channels that are summed over.
    pub(crate) channels: usize,
    /// What [`whole`] gives for the last axis.
    pub(crate) whole: Range<usize>,
    /// The row.
    pub(crate) y: &'a mut [f32],
}

/// The outputs all of whose taps are inside.
pub(crate) fn whole(axis: &Axis) -> Range<usize> {
    let (first, last) = (axis.outputs(0), axis.outputs(axis.kernel - 1));
    let (from, to) = (first.start.max(last.start), first.end.min(last.end));
    if from < to { from..to } else { 0..0 }
}

/// Registers of outputs that are summed at once.
const AT_ONCE: usize = 4;

/// Computes the row: `bias + Σ weight · input`, channels and taps in order.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
pub(crate) unsafe fn taps<S: Simd>(t: &mut Taps<'_>) {
    let [d, h, w] = t.axes;
    let (plane, taps) = (d.input * h.input * w.input, d.kernel * h.kernel * w.kernel);
    let (from, to) = (t.whole.start, t.whole.end);
    assert!(t.y.len() == w.output && from <= to && to <= w.output);
    assert!(t.image.len() == t.channels * plane && t.weights.len() == t.channels * taps);
    let rows = [d.inside(t.at[0]), h.inside(t.at[1])];
    for o in (0..from).chain(to..w.output) {
        t.y[o] = edge(t, &rows, o);
    }
    let mut at = from;
    // SAFETY: every tap of the outputs `from..to` in the lines `rows` is inside the image.
    unsafe {
        debug_assert!(t.whole == whole(&t.axes[2]));
        while to - at >= AT_ONCE * S::LANES {
            block::<S, AT_ONCE>(t, &rows, at, S::LANES);
            at += AT_ONCE * S::LANES;
        }
        if to - at >= 2 * S::LANES {
            block::<S, 2>(t, &rows, at, S::LANES);
            at += 2 * S::LANES;
        }
        if to - at >= S::LANES {
            block::<S, 1>(t, &rows, at, S::LANES);
            at += S::LANES;
        }
        if w.stride == 1 && at < to {
            block::<S, 1>(t, &rows, at, to - at);
            at = to;
        }
    }
    for o in at..to {
        t.y[o] = edge(t, &rows, o);
    }
}

/// Where a line of the image begins, and its weights.
#[inline(always)]
fn line(t: &Taps<'_>, c: usize, kd: usize, kh: usize) -> (usize, usize) {
    let [d, h, w] = t.axes;
    let z = t.at[0] * d.stride + kd * d.dilation - d.before;
    let v = t.at[1] * h.stride + kh * h.dilation - h.before;
    let x = ((c * d.input + z) * h.input + v) * w.input;
    (x, ((c * d.kernel + kd) * h.kernel + kh) * w.kernel)
}

/// One output, some of whose taps may be on padding.
fn edge(t: &Taps<'_>, rows: &[Range<usize>; 2], output: usize) -> f32 {
    let axis = &t.axes[2];
    let inside = axis.inside(output);
    let mut sum = t.bias;
    for c in 0..t.channels {
        for kd in rows[0].clone() {
            for kh in rows[1].clone() {
                let (x, weights) = line(t, c, kd, kh);
                for tap in inside.clone() {
                    let i = output * axis.stride + tap * axis.dilation - axis.before;
                    sum += t.weights[weights + tap] * t.image[x + i];
                }
            }
        }
    }
    sum
}

/// `N` registers of outputs, `used` lanes of each.
///
/// Plain loops, no closures: a closure would not be inlined into the function that enables the instruction set, and every
/// operation in it would become a call.
///
/// # Safety
/// The CPU has `S`; every tap of these outputs is inside the image; all lanes are used unless the stride is 1.
#[inline(always)]
unsafe fn block<S: Simd, const N: usize>(
    t: &mut Taps<'_>,
    rows: &[Range<usize>; 2],
    at: usize,
    used: usize,
) {
    let Axis { stride, dilation, before, kernel, .. } = t.axes[2];
    // SAFETY: the outputs are within `y`; their taps are within the image, as the caller vouches.
    unsafe {
        let mut sums = [S::splat(t.bias); N];
        for c in 0..t.channels {
            for kd in rows[0].clone() {
                for kh in rows[1].clone() {
                    let (x, weights) = line(t, c, kd, kh);
                    for tap in 0..kernel {
                        let x = t.image.as_ptr().add(x + at * stride + tap * dilation - before);
                        let weight = S::splat(*t.weights.as_ptr().add(weights + tap));
                        for (n, sum) in sums.iter_mut().enumerate() {
                            let column = column::<S>(x.add(n * S::LANES * stride), stride, used);
                            *sum = S::fma(weight, column, *sum);
                        }
                    }
                }
            }
        }
        let y = t.y.as_mut_ptr().add(at);
        for (n, &sum) in sums.iter().enumerate() {
            match used < S::LANES {
                true => S::store_first(y, used, sum),
                false => S::store(y.add(n * S::LANES), sum),
            }
        }
    }
}

/// The inputs of one register of outputs.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn column<S: Simd>(from: *const f32, stride: usize, used: usize) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        match stride {
            1 if used < S::LANES => S::load_first(from, used),
            1 => S::load(from),
            2 => S::load_alternate(from),
            _ => S::load_apart(from, stride),
        }
    }
}
