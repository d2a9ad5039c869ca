//! The greatest elements of windows over blocks of channels.

use super::BLOCK;
use super::tile::Greatest;
use crate::kernels::instances::kernels;
use crate::kernels::window::Axis;
use crate::parallel;
use std::ops::Range;

/// Writes the greatest element of every window of images `[…, h, w, 16]`, each lane by itself: NaN if there is one, negative
/// infinity if a window is all padding.
///
/// # Panics
/// If an operand has another size than the axes say.
pub(crate) fn greatest(h: &Axis, w: &Axis, x: &[f32], y: &mut [f32]) {
    let (plane, row) = (h.input * w.input * BLOCK, w.output * BLOCK);
    let planes = x.len().checked_div(plane).unwrap_or(0);
    assert_eq!(x.len(), planes * plane, "whole images of {h:?} and {w:?}");
    assert_eq!(y.len(), planes * h.output * row, "an output for every window of {h:?} and {w:?}");
    if y.is_empty() {
        return;
    }
    let whole = |o: &usize| w.inside(*o) == (0..w.kernel);
    let start = (0..w.output).find(whole).unwrap_or(w.output);
    let end = (start..w.output).find(|o| !whole(o)).unwrap_or(w.output);
    parallel::rows(y, row, h.kernel * w.kernel, |number, y| {
        let image = &x[number / h.output * plane..][..plane];
        let mut row = Row { h, w, image, row: number % h.output, y };
        for col in (0..start).chain(end..w.output) {
            row.fill(col..col + 1);
        }
        row.fill(start..end);
    });
}

/// A row of outputs of one block of channels.
struct Row<'a> {
    h: &'a Axis,
    w: &'a Axis,
    image: &'a [f32],
    row: usize,
    y: &'a mut [f32],
}

impl Row<'_> {
    /// Neighbouring outputs whose windows have the same taps on a line.
    fn fill(&mut self, cols: Range<usize>) {
        let (h, w) = (self.h, self.w);
        let (rows, taps) = (h.inside(self.row), w.inside(cols.start));
        let y = &mut self.y[cols.start * BLOCK..cols.end * BLOCK];
        if y.is_empty() || rows.is_empty() || taps.is_empty() {
            y.fill(f32::NEG_INFINITY);
            return;
        }
        let line = self.row * h.stride + rows.start * h.dilation - h.before;
        let column = cols.start * w.stride + taps.start * w.dilation - w.before;
        let x = &self.image[(line * w.input + column) * BLOCK..];
        let windows = Greatest {
            x: x.as_ptr(),
            step: w.stride * BLOCK,
            rows: (rows.len(), h.dilation * w.input * BLOCK),
            cols: (taps.len(), w.dilation * BLOCK),
            y: y.as_mut_ptr(),
            positions: cols.len(),
        };
        // SAFETY: the taps are on the image at every one of the outputs, which are this slice.
        let numbers = unsafe { (kernels().greatest)(&windows) };
        if !numbers {
            windows.one_by_one(x, y);
        }
    }
}

impl Greatest {
    /// What the kernel does, by its definition: it does not tell where NaN stays.
    fn one_by_one(&self, x: &[f32], y: &mut [f32]) {
        for (i, y) in y.iter_mut().enumerate() {
            let x = &x[i / BLOCK * self.step + i % BLOCK..];
            let taps = (0..self.rows.0).flat_map(|kh| (0..self.cols.0).map(move |kw| (kh, kw)));
            let taps = taps.map(|(kh, kw)| x[kh * self.rows.1 + kw * self.cols.1]);
            *y = taps.fold(f32::NEG_INFINITY, |most, x| {
                match most.is_nan() || !(x > most || x.is_nan()) {
                    true => most,
                    false => x,
                }
            });
        }
    }
}
