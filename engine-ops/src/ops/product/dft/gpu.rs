//! Transforms on the GPU, of any length: by its prime factors, one dispatch for each.
//!
//! With `N = L·r·M`, a step takes `A[k, m]` of `k < L` and `m < r·M`, the transforms of length L of every (r·M)-th element from m
//! on, to those of length L·r: `B[k, m] = Σ A[k mod L, q·M + m] · w^(q·k·M)` over `q < r`, w being the N-th root of unity. Roots
//! come from one table, found by whole numbers, so that long transforms are no less exact.

use super::sizes::{other_side, wrong_window};
use crate::AttrsExt;
use crate::OpError;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::axis;

const ROOTS: Bind = Bind::Scratch(0);

/// Transforms of rows, and where their elements lie.
struct Job {
    rows: usize,
    /// Length of a transform.
    n: usize,
    inverse: bool,
    input: Layout,
    output: Layout,
    /// Elements that are there; behind them are zeros, or the mirror image of the others.
    length: usize,
    mirrored: bool,
    /// Numbers of a transform that are wanted.
    bins: usize,
    windowed: bool,
}

/// Where element `t` of row `r` lies: at `(r / inner · outer_step + r % inner · inner_step + t · step) · parts`.
struct Layout {
    inner: usize,
    outer_step: usize,
    inner_step: usize,
    step: usize,
    /// 2 if imaginary parts are there, else 1.
    parts: usize,
}

impl Layout {
    fn params(&self) -> [usize; 5] {
        [self.inner, self.outer_step, self.inner_step, self.step, self.parts]
    }
}

pub(super) fn dft(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let rank = x.shape.len();
    let number = |i: usize| ctx.value(i).and_then(|t| t.to_i64s()?.first().copied());
    let at = axis(number(2).unwrap_or(-2), rank)?;
    let (inverse, onesided) = (ctx.attrs.int("inverse") != 0, ctx.attrs.int("onesided") != 0);
    let length = x.shape[at];
    let (n, bins) = other_side(length as i64, inverse, onesided, number(1));
    let (n, bins) = (n as usize, bins as usize);
    let inner: usize = x.shape[at + 1..rank - 1].iter().product();
    let rows = inner * x.shape[..at].iter().product::<usize>();
    let along = |size: usize, parts: usize| Layout {
        inner,
        outer_step: size * inner,
        inner_step: 1,
        step: inner,
        parts,
    };
    Job {
        rows,
        n,
        inverse,
        input: along(length, x.shape[rank - 1]),
        output: along(bins, y.shape[rank - 1]),
        length: length.min(n),
        mirrored: inverse && onesided,
        bins,
        windowed: false,
    }
    .program(ctx)
}

pub(super) fn stft(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let number = |i: usize| ctx.value(i).and_then(|t| t.to_i64s()?.first().copied());
    let window = ctx.opt_input(2).map(|window| window.len());
    let n = number(3).map_or(window, |n| usize::try_from(n).ok());
    let (Some(n), Some(step)) = (n, number(1)) else { return Ok(None) };
    let (frames, bins) = (y.shape[1], y.shape[2]);
    if window.is_some_and(|window| window != n) {
        return Err(wrong_window(n));
    }
    Job {
        rows: y.shape[0] * frames,
        n,
        inverse: false,
        input: Layout {
            inner: frames,
            outer_step: x.shape[1],
            inner_step: step as usize,
            step: 1,
            parts: x.shape.get(2).copied().unwrap_or(1),
        },
        output: Layout { inner: 1, outer_step: bins, inner_step: 0, step: 1, parts: 2 },
        length: n,
        mirrored: false,
        bins,
        windowed: window.is_some(),
    }
    .program(ctx)
}

/// The factors of `n`, fours before twos.
fn factors(mut n: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut factor = 4;
    while n > 1 {
        if n.is_multiple_of(factor) {
            found.push(factor);
            n /= factor;
            continue;
        }
        factor = match factor {
            4 => 2,
            2 => 3,
            // What is left has no factor below its root.
            odd if odd * odd > n => n,
            odd => odd + 2,
        };
    }
    found
}

impl Job {
    fn program(&self, ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
        let (x, y) = (ctx.input(0), ctx.output());
        let floats = element_type(x.dtype) == Some("f32");
        let words = self.rows.checked_mul(2 * self.n).filter(|&n| i32::try_from(n).is_ok());
        let (Some(words), true) = (words, floats && self.n > 0) else { return Ok(None) };
        if y.is_empty() {
            return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
        }
        if x.is_empty() || i32::try_from(x.len().max(y.len())).is_err() {
            return Ok(None);
        }
        let mut dispatches = vec![self.roots(ctx), self.load(ctx)];
        let mut done = 1;
        for (i, radix) in factors(self.n).into_iter().enumerate() {
            dispatches.push(self.step(ctx, radix, done, i % 2));
            done *= radix;
        }
        let last = factors(self.n).len() % 2;
        dispatches.push(self.store(ctx, last));
        Ok(Some(GpuProgram { dispatches, scratch: vec![2 * self.n, words, words] }))
    }

    /// The table of roots.
    fn roots(&self, ctx: &GpuCtx<'_>) -> Dispatch {
        let functions = [PRELUDE, include_str!("../../elementwise/trigonometry.wgsl")].concat();
        Dispatch {
            rounds: FEW_ROUNDS,
            label: "DFT roots".into(),
            wgsl: render(include_str!("roots.wgsl"), &[("functions", &functions)]).into(),
            binds: vec![ROOTS],
            params: vec![self.n as u32, u32::from(self.inverse)],
            groups: ctx.limits.linear(self.n, 64),
        }
    }

    /// Brings the operand into dense rows of real and imaginary parts.
    fn load(&self, ctx: &GpuCtx<'_>) -> Dispatch {
        let mut binds = vec![Bind::In(0), Bind::Scratch(1)];
        binds.extend(self.windowed.then_some(Bind::In(2)));
        let (window, uniform) = if self.windowed { (WINDOW, "3") } else { (NO_WINDOW, "2") };
        let total = self.rows * self.n;
        let mut params = vec![total, self.n, self.length, usize::from(self.mirrored)];
        params.extend(self.input.params());
        Dispatch {
            rounds: 0,
            label: "DFT load".into(),
            wgsl: render(include_str!("load.wgsl"), &[("window", window), ("uniform", uniform)])
                .into(),
            binds,
            params: params.into_iter().map(|n| n as u32).collect(),
            groups: ctx.limits.linear(total, 64),
        }
    }

    /// From transforms of length `done` to those `radix` times as long, from one buffer to the other.
    fn step(&self, ctx: &GpuCtx<'_>, radix: usize, done: usize, from: usize) -> Dispatch {
        let total = self.rows * self.n;
        let params = [total, self.n, radix, done, self.n / (done * radix)];
        Dispatch {
            rounds: radix,
            label: "DFT".into(),
            wgsl: include_str!("step.wgsl").into(),
            binds: vec![ROOTS, Bind::Scratch(1 + from), Bind::Scratch(2 - from)],
            params: params.map(|n| n as u32).to_vec(),
            groups: ctx.limits.linear(total, 64),
        }
    }

    /// Writes the numbers that are wanted.
    fn store(&self, ctx: &GpuCtx<'_>, from: usize) -> Dispatch {
        let y = ctx.output();
        let total = self.rows * self.bins;
        let scale = if self.inverse { 1.0 / self.n as f32 } else { 1.0 };
        let mut params = vec![total as u32, self.n as u32, self.bins as u32, scale.to_bits()];
        params.extend(self.output.params().map(|n| n as u32));
        Dispatch {
            rounds: 0,
            label: "DFT store".into(),
            wgsl: render(
                include_str!("store.wgsl"),
                &[("functions", PRELUDE), ("y", &rounded(y.dtype, "part"))],
            )
            .into(),
            binds: vec![Bind::Scratch(1 + from), Bind::Out(0)],
            params,
            groups: ctx.limits.linear(total, 64),
        }
    }
}

const NO_WINDOW: &str = "fn weight(t: u32) -> f32 { return 1.0; }";
const WINDOW: &str = "@group(0) @binding(2) var<storage, read> window: array<f32>;
fn weight(t: u32) -> f32 { return window[t]; }";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_to_the_length() {
        for n in 1..2000 {
            assert_eq!(factors(n).iter().product::<usize>(), n);
        }
        assert_eq!(factors(360), [4, 2, 3, 3, 5]);
        assert!(factors(1).is_empty());
        assert_eq!(factors(10_007), [10_007]);
    }
}
