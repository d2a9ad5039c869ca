//! The input of a convolution as the right operand of a matrix product, a row for each tap of each channel and a column for
//! each output, unrolled only while it is packed.

use crate::kernels::direct::take;
use crate::kernels::gemm::{MicroPanels, PackB};
use crate::kernels::window::Axis;
use std::ops::Range;

/// The channels of one group of one image.
pub(crate) struct Im2col<'a> {
    /// Channels, each `depth × height × width`.
    pub(crate) data: &'a [f32],
    /// The window.
    pub(crate) axes: &'a [Axis; 3],
}

/// Neighbouring columns in one row of the output.
#[derive(Clone, Copy)]
struct Run {
    depth: usize,
    height: usize,
    width: Span,
    /// First column of the micro-panel.
    to: usize,
}

/// A range that is `Copy`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// Runs a micro-panel can have: as many as it has columns, where rows of the output have one element.
const MAX_RUNS: usize = 64;

impl Im2col<'_> {
    /// The columns as runs; their number.
    fn runs(&self, cols: Range<usize>, runs: &mut [Run; MAX_RUNS]) -> usize {
        let [_, h, w] = self.axes.map(|a| a.output);
        let (mut count, mut at) = (0, cols.start);
        while at < cols.end {
            let start = at % w;
            let end = w.min(start + (cols.end - at));
            let width = Span { start, end };
            runs[count] = Run { depth: at / w / h, height: at / w % h, width, to: at - cols.start };
            at += end - start;
            count += 1;
        }
        count
    }

    /// One row of the operand over one run.
    fn copy(&self, row: &[f32], run: &Run, tap: usize, out: &mut [f32]) {
        let axis = &self.axes[2];
        let Span { start, end } = run.width;
        let shift = tap * axis.dilation;
        let whole = start * axis.stride + shift >= axis.before
            && (end - 1) * axis.stride + shift < axis.before + axis.input;
        let (from, to) = match whole {
            true => (start, end),
            false => {
                let inside = axis.outputs(tap);
                (inside.start.clamp(start, end), inside.end.clamp(start, end))
            }
        };
        out[..from - start].fill(0.0);
        out[to.max(from) - start..].fill(0.0);
        if from < to {
            let first = from * axis.stride + shift - axis.before;
            take(&row[first..], axis.stride, &mut out[from - start..to - start]);
        }
    }
}

impl PackB for Im2col<'_> {
    fn pack<const WIDTH: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, WIDTH>) {
        const { assert!(WIDTH <= MAX_RUNS) };
        for (s, rows) in out.rows.chunks_exact_mut(out.height).enumerate() {
            let first = cols.start + s * WIDTH;
            self.micro_panel(k, first..cols.end.min(first + WIDTH), rows);
        }
    }
}

impl Im2col<'_> {
    /// Writes the operand transposed: for each output a row of `terms` elements, those under its window.
    pub(crate) fn rows(&self, terms: usize, out: &mut [f32]) {
        let [d, h, w] = self.axes;
        let plane = d.input * h.input * w.input;
        for (i, row) in out.chunks_exact_mut(terms).enumerate() {
            let (x, rest) = (i % w.output, i / w.output);
            let (y, z) = (rest % h.output, rest / h.output);
            let mut tap = [0; 4];
            for to in row {
                let [kw, kh, kd, c] = tap;
                let at = (d.at(z, kd), h.at(y, kh), w.at(x, kw));
                *to = match at {
                    (Some(z), Some(y), Some(x)) => {
                        self.data[c * plane + (z * h.input + y) * w.input + x]
                    }
                    _ => 0.0,
                };
                next(&mut tap, [w.kernel, h.kernel, d.kernel]);
            }
        }
    }

    /// Packs one micro-panel, a row for each tap from `k` on.
    fn micro_panel<const WIDTH: usize>(
        &self,
        k: usize,
        cols: Range<usize>,
        rows: &mut [[f32; WIDTH]],
    ) {
        let [d, h, w] = self.axes;
        let none = Run { depth: 0, height: 0, width: Span { start: 0, end: 0 }, to: 0 };
        let mut runs = [none; MAX_RUNS];
        let used = cols.len();
        let count = self.runs(cols, &mut runs);
        let plane = d.input * h.input * w.input;
        let (kw, rest) = (k % w.kernel, k / w.kernel);
        let (kh, rest) = (rest % h.kernel, rest / h.kernel);
        let mut tap = [kw, kh, rest % d.kernel, rest / d.kernel];
        for out in rows {
            let [kw, kh, kd, c] = tap;
            let channel = &self.data[c * plane..(c + 1) * plane];
            out[used..].fill(0.0);
            for run in &runs[..count] {
                let out = &mut out[run.to..run.to + run.width.end - run.width.start];
                match (d.at(run.depth, kd), h.at(run.height, kh)) {
                    (Some(z), Some(y)) => {
                        let row = &channel[(z * h.input + y) * w.input..][..w.input];
                        self.copy(row, run, kw, out);
                    }
                    _ => out.fill(0.0),
                }
            }
            next(&mut tap, [w.kernel, h.kernel, d.kernel]);
        }
    }
}

/// Counts on by one, the first digit fastest; the last one has no end.
fn next(digits: &mut [usize; 4], sizes: [usize; 3]) {
    for (i, size) in sizes.into_iter().enumerate() {
        digits[i] += 1;
        if digits[i] < size {
            return;
        }
        digits[i] = 0;
    }
    digits[3] += 1;
}
