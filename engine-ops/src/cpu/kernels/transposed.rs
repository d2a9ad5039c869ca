//! Transposed convolution of `f32`: one matrix product gives what every input adds at every tap, and each output gathers what reaches it.

use crate::kernels::gemm::{Gemm, MatRef, Output};
use crate::kernels::window::{Axis, volume};
use crate::parallel::{aligned, in_slots};
use std::ops::Range;

/// Elements of the product of a task: half of a second-level cache of a megabyte.
const PRODUCT: usize = 128 * 1024;
/// Elements of a task's product up to which there is a kernel.
const MOST: usize = 8 << 20;
/// Channels from which on a product pays.
const CHANNELS: usize = 4;
/// Tasks wanted per thread, so that an uneven end is short.
const TASKS_PER_THREAD: usize = 3;

/// A transposed convolution of concrete shapes. In `axes`, `input` is Y's size and `output` X's, as in the convolution
/// that this one takes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) groups: usize,
    /// Channels of X in a group.
    pub(crate) channels: usize,
    /// Channels of Y in a group.
    pub(crate) filters: usize,
    pub(crate) axes: [Axis; 3],
}

/// A transposed convolution, chosen once: how outputs are cut into tasks.
#[derive(Clone, Debug)]
pub(crate) struct Transposed {
    shape: Shape,
    /// The axis that is cut into bands: the outermost one that is longer than 1, but never the last one.
    along: usize,
    /// Outputs of a band along that axis.
    band: usize,
    /// Filters of a task.
    block: usize,
}

/// What is done to finished outputs: called with the number of the first one and a run of them.
pub(crate) type Epilogue<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

impl Transposed {
    /// `None` where a product does not pay or is too large. Follows from the shape, and how work is cut from the number of threads too; no
    /// sum depends on that.
    pub(crate) fn new(shape: Shape, threads: usize) -> Option<Self> {
        Self::cut(shape, threads, PRODUCT).filter(|cut| cut.product() <= MOST)
    }

    fn cut(shape: Shape, threads: usize, product: usize) -> Option<Self> {
        let empty = [shape.images, shape.filters].contains(&0)
            || shape.axes.iter().any(|axis| axis.input == 0 || axis.output == 0);
        if shape.channels < CHANNELS || empty {
            return None;
        }
        let [d, h, _] = &shape.axes;
        let along = usize::from(d.input == 1 && d.output == 1);
        let whole = if along == 0 { d.input } else { h.input };
        let mut cut = Self { shape, along, band: whole, block: shape.filters };
        while cut.product() > product && (cut.band > 1 || cut.block > 1) {
            cut.halve();
        }
        let wanted = if threads > 1 { threads * TASKS_PER_THREAD } else { 1 };
        while cut.tasks() < wanted && (cut.band > 1 || cut.block > 1) {
            cut.halve();
        }
        Some(cut)
    }

    /// Bands share inputs at their edges, and blocks of filters share them all.
    fn halve(&mut self) {
        const ROWS: usize = 8;
        match self.band > ROWS || self.block == 1 {
            true => self.band = self.band.div_ceil(2),
            false => self.block = self.block.div_ceil(2),
        }
    }

    fn axis(&self) -> &Axis {
        &self.shape.axes[self.along]
    }

    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let (all, band) = (self.axis().input, self.band);
        (0..all).step_by(band).map(move |from| from..all.min(from + band))
    }

    fn taps(&self) -> usize {
        volume(&self.shape.axes, |a| a.kernel)
    }

    /// Inputs of one step along the axis that is cut.
    fn line(&self) -> usize {
        volume(&self.shape.axes, |a| a.output) / self.axis().output
    }

    /// Elements of the largest product of a task.
    fn product(&self) -> usize {
        let inputs = self.bands().map(|band| sources_of(self.axis(), &band).len()).max();
        [self.taps(), inputs.unwrap_or(0), self.line()]
            .into_iter()
            .fold(self.block, usize::saturating_mul)
    }

    fn tasks(&self) -> usize {
        let Shape { images, groups, filters, .. } = self.shape;
        images * groups * filters.div_ceil(self.block) * self.bands().count()
    }

    fn gemm(&self, filters: usize, inputs: usize) -> Gemm {
        let (m, n) = (filters * self.taps(), inputs * self.line());
        Gemm { batch: 1, m, n, k: self.shape.channels }
    }

    /// Elements of scratch for the products of a task.
    fn slot(&self) -> usize {
        let blocks = [self.block, self.shape.filters % self.block];
        let inputs = self.bands().map(|band| sources_of(self.axis(), &band).len());
        let products = inputs.flat_map(|inputs| blocks.map(|block| self.gemm(block, inputs)));
        let scratch = products.map(|gemm| gemm.scratch_here()).max().unwrap_or(0);
        self.product().next_multiple_of(16) + scratch.div_ceil(size_of::<f32>())
    }

    /// Bytes of scratch that [`Self::run`] wants on so many threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        self.tasks().clamp(1, threads) * self.slot() * size_of::<f32>() + 64
    }

    /// Computes every output: `x` is row-major `[images, groups · channels, …]`, `w` `[groups · channels, filters, …]`.
    ///
    /// # Panics
    /// If an operand or the output has another size, or the scratch has no room for one slot.
    pub(crate) fn run(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut [u8],
        epilogue: Option<Epilogue<'_>>,
    ) {
        let Shape { images, groups, channels, filters, axes } = &self.shape;
        let inputs = channels * volume(axes, |a| a.output);
        let plane = volume(axes, |a| a.input);
        assert_eq!(x.len(), images * groups * inputs, "the input of {:?}", self.shape);
        assert_eq!(w.len(), groups * channels * filters * self.taps(), "W of {:?}", self.shape);
        assert_eq!(out.len(), images * groups * filters * plane, "the output of {:?}", self.shape);
        let (bands, blocks) = (self.bands().count(), filters.div_ceil(self.block));
        let out = Output::new(out);
        in_slots(self.tasks(), self.slot(), aligned(scratch), |task, slot| {
            let (number, rest) = (task / (bands * blocks), task % (bands * blocks));
            let (first, band) = (rest / bands * self.block, rest % bands * self.band);
            let part = Part {
                transposed: self,
                number,
                filters: first..*filters.min(&(first + self.block)),
                band: band..self.axis().input.min(band + self.band),
            };
            let group = number % groups * channels * filters * self.taps();
            let products = part.products(&x[number * inputs..][..inputs], &w[group..], slot);
            part.gather(products, bias, out, epilogue);
        });
    }
}

/// Some outputs of one group of one image.
struct Part<'a> {
    transposed: &'a Transposed,
    /// Number of the group, over all images.
    number: usize,
    filters: Range<usize>,
    /// Outputs along the axis that is cut.
    band: Range<usize>,
}

impl Part<'_> {
    /// What the inputs that reach the outputs add: `[filter, tap, input]`.
    fn products<'s>(&self, x: &[f32], w: &[f32], slot: &'s mut [f32]) -> &'s [f32] {
        let Transposed { shape, .. } = self.transposed;
        let (taps, line) = (self.transposed.taps(), self.transposed.line());
        let inputs = sources_of(self.transposed.axis(), &self.band);
        let gemm = self.transposed.gemm(self.filters.len(), inputs.len());
        let (out, scratch) = slot.split_at_mut(self.transposed.product().next_multiple_of(16));
        let out = &mut out[..gemm.m * gemm.n];
        let left =
            MatRef { data: &w[self.filters.start * taps..], row: 1, col: shape.filters * taps };
        let all = volume(&shape.axes, |a| a.output);
        let right = MatRef { data: &x[(inputs.start * line).min(x.len())..], row: all, col: 1 };
        gemm.run_here(|_| (left, right), out, bytemuck::cast_slice_mut(scratch));
        out
    }

    /// Sums what reaches each output, in the order of the taps.
    fn gather(
        &self,
        products: &[f32],
        bias: Option<&[f32]>,
        out: Output,
        epilogue: Option<Epilogue<'_>>,
    ) {
        let Transposed { shape, along, .. } = self.transposed;
        let [d, h, w] = &shape.axes;
        let (taps, plane) = (self.transposed.taps(), volume(&shape.axes, |a| a.input));
        let inputs = sources_of(self.transposed.axis(), &self.band);
        let read = inputs.len() * self.transposed.line();
        let skipped = inputs.start * if *along == 0 { h.output } else { 1 };
        let rows = match along {
            0 => self.band.start * h.input..self.band.end * h.input,
            _ => self.band.clone(),
        };
        for filter in self.filters.clone() {
            let products = &products[(filter - self.filters.start) * taps * read..][..taps * read];
            let number = self.number * shape.filters + filter;
            let bias = bias.map(|bias| bias[number % (shape.groups * shape.filters)]);
            for row in rows.clone() {
                let start = number * plane + row * w.input;
                // SAFETY: these outputs are this task's own, and there is one such slice at a time.
                let y = unsafe { std::slice::from_raw_parts_mut(out.at(start), w.input) };
                y.fill(0.0);
                for (kd, z) in sources(d, row / h.input) {
                    for (kh, v) in sources(h, row % h.input) {
                        let first = (z * h.output + v - skipped) * w.output;
                        for kw in 0..w.kernel {
                            let tap = (kd * h.kernel + kh) * w.kernel + kw;
                            add(w, kw, &products[tap * read + first..][..w.output], y);
                        }
                    }
                }
                if let Some(bias) = bias {
                    y.iter_mut().for_each(|y| *y += bias);
                }
                if let Some(epilogue) = epilogue {
                    epilogue(start, y);
                }
            }
        }
    }
}

/// The taps by which an output is reached, each with the input it comes from.
pub(crate) fn sources(axis: &Axis, output: usize) -> impl Iterator<Item = (usize, usize)> {
    let Axis { kernel, stride, dilation, before, output: inputs, .. } = *axis;
    (0..kernel).filter_map(move |tap| {
        let steps = (output + before).checked_sub(tap * dilation)?;
        (steps % stride == 0 && steps / stride < inputs).then_some((tap, steps / stride))
    })
}

/// The inputs that reach some neighbouring outputs.
fn sources_of(axis: &Axis, outputs: &Range<usize>) -> Range<usize> {
    let window = (axis.kernel - 1) * axis.dilation;
    let end = ((outputs.end + axis.before).div_ceil(axis.stride)).min(axis.output);
    let start = (outputs.start + axis.before).saturating_sub(window).div_ceil(axis.stride);
    start.min(end)..end
}

/// Adds what a row of inputs adds at a tap to the row of outputs.
fn add(axis: &Axis, tap: usize, products: &[f32], y: &mut [f32]) {
    let (stride, shift) = (axis.stride, tap * axis.dilation);
    // Inputs `i` with `0 ≤ i·stride + shift − before < y`.
    let from = axis.before.saturating_sub(shift).div_ceil(stride);
    let end = (y.len() + axis.before).saturating_sub(shift).div_ceil(stride).min(products.len());
    if from >= end {
        return;
    }
    let (y, products) = (&mut y[from * stride + shift - axis.before..], &products[from..end]);
    match stride {
        1 => y.iter_mut().zip(products).for_each(|(y, p)| *y += p),
        _ => y.iter_mut().step_by(stride).zip(products).for_each(|(y, p)| *y += p),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::nchwc::tests::values;

    /// An axis of `inputs` inputs whose reach loses `cut` outputs on each side.
    fn axis(inputs: usize, kernel: usize, stride: usize, dilation: usize, cut: usize) -> Axis {
        let reach = (inputs - 1) * stride + (kernel - 1) * dilation + 1;
        Axis {
            input: reach - 2 * cut,
            output: inputs,
            kernel,
            stride,
            dilation,
            before: cut,
            after: 0,
        }
    }

    /// Every output by its definition, in `f64`, with the sum of the terms' magnitudes.
    fn expected(shape: &Shape, x: &[f32], w: &[f32]) -> Vec<(f64, f64)> {
        let [d, h, wide] = &shape.axes;
        let (inputs, plane) = (volume(&shape.axes, |a| a.output), volume(&shape.axes, |a| a.input));
        let taps = volume(&shape.axes, |a| a.kernel);
        let mut all = vec![(0.0, 0.0); shape.images * shape.groups * shape.filters * plane];
        for number in 0..shape.images * shape.groups {
            for (c, f, i, t) in (0..shape.channels).flat_map(|c| {
                (0..shape.filters).flat_map(move |f| {
                    (0..inputs).flat_map(move |i| (0..taps).map(move |t| (c, f, i, t)))
                })
            }) {
                let place = |axis: &Axis, i: usize, t: usize| {
                    let at = (i * axis.stride + t * axis.dilation).checked_sub(axis.before)?;
                    (at < axis.input).then_some(at)
                };
                let (kd, kh, kw) =
                    (t / (h.kernel * wide.kernel), t / wide.kernel % h.kernel, t % wide.kernel);
                let (z, v, u) =
                    (i / (h.output * wide.output), i / wide.output % h.output, i % wide.output);
                let (Some(z), Some(v), Some(u)) =
                    (place(d, z, kd), place(h, v, kh), place(wide, u, kw))
                else {
                    continue;
                };
                let x = x[(number * shape.channels + c) * inputs + i];
                let channel = number % shape.groups * shape.channels + c;
                let w = w[(channel * shape.filters + f) * taps + t];
                let out = &mut all
                    [(number * shape.filters + f) * plane + (z * h.input + v) * wide.input + u];
                let term = f64::from(x) * f64::from(w);
                *out = (out.0 + term, out.1 + term.abs());
            }
        }
        all
    }

    #[test]
    fn transposed_convolutions_are_their_definition_however_they_are_cut() {
        let one = axis(1, 1, 1, 1, 0);
        for (groups, channels, filters, axes) in [
            (1, 16, 5, [one, axis(9, 2, 2, 1, 0), axis(11, 2, 2, 1, 0)]),
            (2, 4, 3, [one, axis(7, 4, 2, 1, 1), axis(6, 4, 2, 1, 1)]),
            (1, 5, 2, [one, axis(8, 3, 1, 2, 2), axis(40, 3, 3, 1, 0)]),
            (1, 6, 4, [axis(4, 3, 2, 1, 1), axis(3, 2, 1, 1, 0), axis(5, 3, 2, 1, 1)]),
            (1, 7, 3, [one, one, axis(50, 16, 8, 1, 4)]),
            // Outputs that nothing reaches.
            (1, 4, 2, [one, axis(3, 1, 5, 1, 0), axis(3, 2, 4, 1, 0)]),
        ] {
            let shape = Shape { images: 2, groups, channels, filters, axes };
            let x = values(2 * groups * channels * volume(&axes, |a| a.output), 1);
            let w = values(groups * channels * filters * volume(&axes, |a| a.kernel), 2);
            let bias = values(groups * filters, 3);
            let expected = expected(&shape, &x, &w);
            let run = |threads: usize, product: usize| {
                let made = Transposed::cut(shape, threads, product).expect("a product pays");
                let mut out = vec![f32::NAN; expected.len()];
                let mut scratch = vec![0xFF; made.scratch(threads)];
                made.run(&x, &w, Some(&bias), &mut out, &mut scratch, None);
                out
            };
            let once = run(1, PRODUCT);
            let plane = volume(&axes, |a| a.input);
            for (i, ((sum, size), found)) in expected.iter().zip(&once).enumerate() {
                let bias = f64::from(bias[i / plane % (groups * filters)]);
                let off = (f64::from(*found) - sum - bias).abs();
                assert!(off <= 1e-6 * (size + bias.abs()) + 1e-12, "{shape:?} output {i}: {found}");
            }
            for (threads, product) in [(1, 1), (1, 300), (3, 300), (5, PRODUCT)] {
                assert_eq!(run(threads, product), once, "{shape:?} {threads} {product}");
            }
        }
    }
}
