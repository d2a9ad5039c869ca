//! Convolution of each channel by itself.

use super::dense::FINISHED;
use super::tile::{Ending, Lanes};
use super::{BLOCK, Channels, Finish, Shape, even};
use crate::kernels::gemm::Output;
use crate::kernels::instances::kernels;
use crate::parallel::{aligned, in_slots};
use std::ops::Range;

/// Elements of the output that a task writes, about.
const TASK: usize = 32 * 1024;
/// Outputs of a row up to which lines are copied and padded: in short rows, outputs at the edges take longer than the copy.
const SHORT: usize = 32;

/// A convolution with as many groups as channels and filters, over blocks, chosen once.
#[derive(Clone, Debug)]
pub(crate) struct Depthwise {
    shape: Shape,
    /// Whether a task copies the lines that it needs, padded at both ends.
    copies: bool,
    /// Outputs of a row at which every tap of the row is on the line.
    inner: Range<usize>,
    /// Rows of outputs of a task.
    rows: usize,
}

impl Depthwise {
    pub(crate) fn new(shape: Shape) -> Self {
        let w = shape.w;
        let whole = |o: &usize| w.inside(*o) == (0..w.kernel);
        let start = (0..w.output).find(whole).unwrap_or(w.output);
        let end = (start..w.output).find(|o| !whole(o)).unwrap_or(w.output);
        let copies = w.stride == 1 && w.output <= SHORT && (start..end) != (0..w.output);
        let inner = if copies { 0..w.output } else { start..end };
        let rows = (TASK / (w.output * BLOCK).max(1)).clamp(1, shape.h.output.max(1));
        Self { shape, copies, inner, rows }
    }

    pub(crate) fn form(&self) -> Channels {
        Channels { channels: self.shape.groups, taps: self.shape.taps() }
    }

    /// The lines of the input that some rows of outputs need.
    fn lines(&self, rows: &Range<usize>) -> Range<usize> {
        let h = self.shape.h;
        let first = (rows.start * h.stride).saturating_sub(h.before);
        let last = (rows.end.max(1) - 1) * h.stride + (h.kernel - 1) * h.dilation + 1;
        let end = last.saturating_sub(h.before).min(h.input);
        first.min(end)..end
    }

    /// Elements of a line as it is read.
    fn line(&self) -> usize {
        let w = self.shape.w;
        let columns = if self.copies { w.output + (w.kernel - 1) * w.dilation } else { w.input };
        columns * BLOCK
    }

    fn slot(&self) -> usize {
        let h = self.shape.h;
        let lines =
            (self.rows.saturating_sub(1) * h.stride + (h.kernel - 1) * h.dilation + 1).min(h.input);
        if self.copies { lines * self.line() } else { 0 }
    }

    fn tasks(&self) -> usize {
        let Shape { images, groups, h, .. } = self.shape;
        images * groups.div_ceil(BLOCK) * h.output.div_ceil(self.rows)
    }

    /// Bytes of scratch that [`Self::run`] wants on so many threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        match self.slot() {
            0 => 0,
            slot => self.tasks().clamp(1, threads) * slot * size_of::<f32>() + 64,
        }
    }

    /// Computes every output; `w` is in the form [`Self::form`].
    ///
    /// # Panics
    /// If an operand or the output has another size, or the scratch has no room for one slot.
    pub(crate) fn run(
        &self,
        x: &[f32],
        w: &[f32],
        out: &mut [f32],
        scratch: &mut [u8],
        finish: Finish<'_>,
    ) {
        let Shape { images, groups, h, w: width, .. } = self.shape;
        let blocks = groups.div_ceil(BLOCK);
        let (plane, area) = (self.shape.plane(), h.input * width.input * BLOCK);
        assert_eq!(x.len(), images * blocks * area, "the input of {:?}", self.shape);
        assert_eq!(w.len(), self.form().len(), "the filters of {:?}", self.shape);
        assert_eq!(out.len(), images * blocks * plane, "the output of {:?}", self.shape);
        if out.is_empty() {
            return;
        }
        let (bands, output) = (h.output.div_ceil(self.rows), Output::new(out));
        in_slots(self.tasks(), self.slot(), aligned(scratch), |task, slot| {
            let (number, band) = (task / bands, task % bands * self.rows);
            let block = number % blocks;
            let rows = band..h.output.min(band + self.rows);
            let lines = self.lines(&rows);
            let x = &x[number * area..][..area];
            let (x, first_line) = match self.copies {
                true => (self.copy(&lines, x, slot), lines.start),
                false => (x, 0),
            };
            let taps = self.shape.taps() * BLOCK;
            let w = &w[block * taps..][..taps];
            let bias = finish.bias(block..block + 1);
            let (first, ending) = (number * plane, finish.ending(block..block + 1, &bias));
            let call = Call { depthwise: self, x, first_line, w, out: output, first, ending };
            let row = width.output * BLOCK;
            let at_once = FINISHED.div_ceil(row);
            for first in rows.clone().step_by(at_once) {
                let rows = first..rows.end.min(first + at_once);
                rows.clone().for_each(|row| call.row(row));
                if let Some(epilogue) = finish.epilogue {
                    let (start, len) = (number * plane + first * row, rows.len() * row);
                    // SAFETY: these outputs are this task's own, and there is one such slice at a time.
                    let run = unsafe { std::slice::from_raw_parts_mut(output.at(start), len) };
                    epilogue(start, run);
                }
            }
        });
    }

    /// Writes lines of the input, padded.
    fn copy<'s>(&self, lines: &Range<usize>, x: &[f32], slot: &'s mut [f32]) -> &'s [f32] {
        let w = self.shape.w;
        let to = &mut slot[..lines.len() * self.line()];
        let before = (w.before * BLOCK).min(self.line());
        let inside = (w.input * BLOCK).min(self.line() - before);
        for (y, to) in lines.clone().zip(to.chunks_exact_mut(self.line())) {
            to[..before].fill(0.0);
            to[before..][..inside].copy_from_slice(&x[y * w.input * BLOCK..][..inside]);
            to[before + inside..].fill(0.0);
        }
        to
    }
}

/// Some rows of one block of channels of one image.
struct Call<'a> {
    depthwise: &'a Depthwise,
    x: &'a [f32],
    /// The line of the input that `x` begins with.
    first_line: usize,
    w: &'a [f32],
    out: Output,
    /// Number of the block's first output.
    first: usize,
    ending: Ending,
}

impl Call<'_> {
    fn row(&self, row: usize) {
        let (w, inner) = (self.depthwise.shape.w, &self.depthwise.inner);
        for col in (0..inner.start).chain(inner.end..w.output) {
            self.tile(row, col..col + 1, w.inside(col));
        }
        for cols in even(inner.len(), kernels().rows) {
            self.tile(row, inner.start + cols.start..inner.start + cols.end, 0..w.kernel);
        }
    }

    /// Neighbouring outputs of a row, over the taps of a row that are on the line at all of them.
    fn tile(&self, row: usize, cols: Range<usize>, taps: Range<usize>) {
        let Depthwise { shape: Shape { h, w, .. }, copies, .. } = self.depthwise;
        let rows = h.inside(row);
        let line = self.depthwise.line();
        let from = match rows.is_empty() || taps.is_empty() {
            true => 0,
            false => {
                let y = row * h.stride + rows.start * h.dilation - h.before - self.first_line;
                let column = cols.start * w.stride + taps.start * w.dilation;
                y * line + (column - if *copies { 0 } else { w.before }) * BLOCK
            }
        };
        let tap = (rows.start * w.kernel + taps.start).min(h.kernel * w.kernel - 1);
        let lanes = Lanes {
            x: self.x[from..].as_ptr(),
            step: w.stride * BLOCK,
            rows: (if taps.is_empty() { 0 } else { rows.len() }, h.dilation * line),
            cols: (taps.len(), w.dilation * BLOCK),
            w: self.w[tap * BLOCK..].as_ptr(),
            w_row: w.kernel * BLOCK,
            y: self.out.at(self.first + (row * w.output + cols.start) * BLOCK),
            positions: cols.len(),
            ending: self.ending,
        };
        // SAFETY: the taps are on the lines at every one of the outputs, weights and outputs are within their slices, whose sizes
        // were checked, and the outputs are this task's own.
        unsafe { (kernels().lanes_of_taps)(&lanes) };
    }
}
