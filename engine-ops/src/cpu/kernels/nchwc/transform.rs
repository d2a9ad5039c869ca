//! Winograd's transforms of one tile over the lanes of a block, over any [`Simd`].
//!
//! The polynomials of F(4, 3) are evaluated at 0, ±3/4, ±3/2 and infinity, by Toom and Cook. All factors here are exact in `f32`. With the
//! points ±1, ±2 that are usual, sums would be off twice as much.

use super::BLOCK;
use super::tile::{Ending, end};
use crate::kernels::simd::{Simd, unrolled};

/// Outputs of a tile along an axis.
pub(crate) const OUTPUTS: usize = 4;
/// Inputs under a tile along an axis, and points that a line is evaluated at.
pub(crate) const INPUTS: usize = 6;
/// Points of a tile.
pub(crate) const POINTS: usize = INPUTS * INPUTS;

/// The points of either sign.
pub(super) const NEAR: f32 = 0.75;
pub(super) const FAR: f32 = 1.5;

/// The inputs of one tile in one block of channels, on their way to points.
pub(crate) struct Forward {
    /// The first of six by six elements.
    pub(crate) x: *const f32,
    /// Elements from one row of them to the next.
    pub(crate) row: usize,
    /// The first point.
    pub(crate) v: *mut f32,
    /// Elements from one point to the next.
    pub(crate) point: usize,
}

/// The sums of one tile in one block of filters, on their way to outputs.
pub(crate) struct Inverse {
    /// The first point.
    pub(crate) m: *const f32,
    /// Elements from one point to the next.
    pub(crate) point: usize,
    /// The first output.
    pub(crate) y: *mut f32,
    /// Elements from one row of outputs to the next.
    pub(crate) row: usize,
    /// Rows and columns that there are, at most [`OUTPUTS`] of each.
    pub(crate) there: (usize, usize),
    pub(crate) ending: Ending,
    /// The lane that this block begins at in what the ending adds.
    pub(crate) lane: usize,
}

/// `a·x + b`.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn plus<S: Simd>(a: S::V, x: f32, b: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { S::fma(a, S::splat(x), b) }
}

/// A line of inputs at a point and at its negative, where the square of the other one is `other`.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn evaluate_at<S: Simd>(d: &[S::V; INPUTS], point: f32, other: f32) -> [S::V; 2] {
    // SAFETY: passed on from the caller.
    unsafe {
        let even = plus::<S>(d[2], -other, d[4]);
        let odd = plus::<S>(d[1], -point * other, S::mul(d[3], S::splat(point)));
        [S::add(even, odd), plus::<S>(odd, -1.0, even)]
    }
}

/// A line of inputs at the points.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn evaluate<S: Simd>(d: [S::V; INPUTS]) -> [S::V; INPUTS] {
    const NEAR2: f32 = NEAR * NEAR;
    const FAR2: f32 = FAR * FAR;
    // SAFETY: passed on from the caller.
    unsafe {
        let zero = plus::<S>(d[2], -(NEAR2 + FAR2), plus::<S>(d[0], NEAR2 * FAR2, d[4]));
        let infinity = plus::<S>(d[3], -(NEAR2 + FAR2), plus::<S>(d[1], NEAR2 * FAR2, d[5]));
        let [near, minus_near] = evaluate_at::<S>(&d, NEAR, FAR2);
        let [far, minus_far] = evaluate_at::<S>(&d, FAR, NEAR2);
        [zero, near, minus_near, far, minus_far, infinity]
    }
}

/// `near` and `far` times a power of these points.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn powers<S: Simd>(near: S::V, near_power: f32, far: S::V, far_power: f32) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { plus::<S>(far, far_power, S::mul(near, S::splat(near_power))) }
}

/// A line of outputs from sums at the points.
///
/// # Safety
/// The CPU has `S`.
#[inline(always)]
unsafe fn interpolate<S: Simd>(m: [S::V; INPUTS]) -> [S::V; OUTPUTS] {
    // SAFETY: passed on from the caller.
    unsafe {
        let (near, near_odd) = (S::add(m[1], m[2]), plus::<S>(m[2], -1.0, m[1]));
        let (far, far_odd) = (S::add(m[3], m[4]), plus::<S>(m[4], -1.0, m[3]));
        [
            S::add(m[0], S::add(near, far)),
            powers::<S>(near_odd, NEAR, far_odd, FAR),
            powers::<S>(near, NEAR * NEAR, far, FAR * FAR),
            S::add(powers::<S>(near_odd, NEAR * NEAR * NEAR, far_odd, FAR * FAR * FAR), m[5]),
        ]
    }
}

/// Evaluates the inputs of a tile at all points.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses the points.
#[inline(always)]
pub(crate) unsafe fn forward<S: Simd>(t: &Forward) {
    // SAFETY: reads and writes stay within what the fields say.
    unsafe {
        for lane in (0..BLOCK).step_by(S::LANES) {
            let mut half = [[S::splat(0.0); INPUTS]; INPUTS];
            unrolled!(row < INPUTS => {
                let x = t.x.add(row * t.row + lane);
                let mut line = [S::splat(0.0); INPUTS];
                unrolled!(col < INPUTS => { line[col] = S::load(x.add(col * BLOCK)); });
                half[row] = evaluate::<S>(line);
            });
            unrolled!(col < INPUTS => {
                let mut line = [S::splat(0.0); INPUTS];
                unrolled!(row < INPUTS => { line[row] = half[row][col]; });
                let line = evaluate::<S>(line);
                unrolled!(row < INPUTS => {
                    S::store(t.v.add((row * INPUTS + col) * t.point + lane), line[row]);
                });
            });
        }
    }
}

/// Interpolates the outputs of a tile and ends them.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses the outputs.
#[inline(always)]
pub(crate) unsafe fn inverse<S: Simd>(t: &Inverse) {
    // SAFETY: reads and writes stay within what the fields say.
    unsafe {
        for lane in (0..BLOCK).step_by(S::LANES) {
            let mut half = [[S::splat(0.0); OUTPUTS]; INPUTS];
            unrolled!(row < INPUTS => {
                let mut line = [S::splat(0.0); INPUTS];
                unrolled!(col < INPUTS => {
                    line[col] = S::load(t.m.add((row * INPUTS + col) * t.point + lane));
                });
                half[row] = interpolate::<S>(line);
            });
            unrolled!(col < OUTPUTS => {
                let mut line = [S::splat(0.0); INPUTS];
                unrolled!(row < INPUTS => { line[row] = half[row][col]; });
                let mut ends = [[S::splat(0.0)]; OUTPUTS];
                let line = interpolate::<S>(line);
                unrolled!(row < OUTPUTS => { ends[row] = [line[row]]; });
                end::<S, OUTPUTS, 1>(&mut ends, &t.ending, t.lane + lane);
                if col < t.there.1 {
                    let y = t.y.add(col * BLOCK + lane);
                    unrolled!(row < OUTPUTS => {
                        if row < t.there.0 {
                            S::store(y.add(row * t.row), ends[row][0]);
                        }
                    });
                }
            });
        }
    }
}
