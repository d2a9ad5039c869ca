//! Convolution without unrolling: the tiles of a matrix product, whose right operand is read where it is.
//!
//! A tap of a channel, taken over neighbouring outputs of one row, is a run of one input line, if the line is padded and its
//! elements are sorted by their remainder modulo the stride. A task copies the lines that its rows of outputs need into such
//! a form, a block of channels at a time, once for all taps and filters; unrolling would copy them once for each tap. The
//! micro-kernel then takes the terms of a sum from a list of offsets. Every sum is one chain over channels and taps in
//! order, as that of the unrolled product, and has the same bits.

use crate::kernels::gemm::tile::{Panel, WIDE};
use crate::kernels::gemm::{BLOCK_K, Epilogue, MatRef, Output, PARALLEL, Piece, pieces};
use crate::kernels::instances::{Kernels, kernels};
use crate::kernels::window::Axis;
use crate::parallel::{self, aligned, in_slots};
use std::ops::Range;

/// Elements of a task's lines: half of a second-level cache of a megabyte.
const LINES: usize = 128 * 1024;
/// Most columns of a task.
const MOST_COLS: usize = 512;
/// Tasks wanted per thread, so that an uneven end is short.
const TASKS_PER_THREAD: usize = 3;
/// Registers of outputs that may be empty: one part in this of all. Rows that fill less are better unrolled.
const IDLE: usize = 3;

/// A convolution of concrete shapes.
pub(crate) struct Direct<'a> {
    /// Products: a group of an image each.
    pub(crate) products: usize,
    /// Channels that are summed over.
    pub(crate) channels: usize,
    /// Outputs at each position.
    pub(crate) filters: usize,
    /// Depth, height and width.
    pub(crate) axes: &'a [Axis; 3],
}

/// The operands of one product.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// Channels, each `depth × height × width`.
    pub(crate) image: &'a [f32],
    /// For each filter and channel a weight per tap.
    pub(crate) weights: &'a [f32],
}

/// How the output is cut and how a task's memory is laid out.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows of outputs of a task.
    rows: usize,
    /// Columns of outputs of a task.
    cols: usize,
    /// Channels whose lines are there at once.
    channels: usize,
    /// Lines of one channel at one depth.
    lines: usize,
    /// Elements of a line with one remainder.
    run: usize,
    /// Remainders that taps have.
    phases: usize,
}

impl Cut {
    fn line(&self) -> usize {
        self.phases * self.run
    }

    fn channel(&self, axes: &[Axis; 3]) -> usize {
        axes[0].kernel * self.lines * self.line()
    }

    fn tasks(&self, direct: &Direct<'_>) -> usize {
        let [d, h, w] = direct.axes;
        let across = w.output.div_ceil(self.cols);
        direct.products * d.output * h.output.div_ceil(self.rows) * across
    }
}

/// Whether rows of outputs fill the registers well enough.
pub(crate) fn fills_registers(width: &Axis) -> bool {
    let lanes = kernels().lanes;
    let whole = width.output.next_multiple_of(lanes);
    (whole - width.output) * IDLE <= whole
}

impl Direct<'_> {
    fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    /// Follows from the shapes and the number of threads; no sum depends on it.
    fn cut(&self, kernels: &Kernels, threads: usize) -> Cut {
        let [_, h, w] = self.axes;
        let channels = (BLOCK_K / self.taps()).clamp(1, self.channels.max(1));
        let shift = (w.kernel - 1) * w.dilation / w.stride;
        let of_rows = |rows: usize| {
            let cols = w.output.min(MOST_COLS);
            let run = (cols.next_multiple_of(kernels.lanes) + shift).next_multiple_of(16);
            let lines = (rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1;
            Cut { rows, cols, channels, lines, run, phases: self.phases() }
        };
        let mut cut = of_rows(h.output.max(1));
        let too_large = |cut: &Cut| cut.channels * cut.channel(self.axes) > LINES;
        let too_few = |cut: &Cut| threads > 1 && cut.tasks(self) < threads * TASKS_PER_THREAD;
        while cut.rows > 1 && (too_large(&cut) || (too_few(&cut) && cut.rows > 4)) {
            cut = of_rows(cut.rows.div_ceil(2));
        }
        // The more channels are there at once, the longer are the runs in which filters are read.
        let fit = LINES / cut.channel(self.axes).max(1);
        cut.channels = fit.clamp(cut.channels, self.channels.max(cut.channels));
        cut
    }

    /// How many remainders modulo the stride the taps have. Those of neighbouring taps differ until all that there can be
    /// were there, and come again in the same order: that of tap `t` is that of phase `t` modulo the number of phases.
    fn phases(&self) -> usize {
        let Axis { kernel, stride, dilation, .. } = self.axes[2];
        kernel.min(stride / greatest_common_divisor(stride, dilation))
    }

    /// Elements of scratch of one task: its lines, then a few packed rows of filters.
    fn slot(&self, kernels: &Kernels, cut: &Cut) -> usize {
        // The last register of the last line may reach beyond it.
        let lines = cut.channels * cut.channel(self.axes) + kernels.cols;
        lines.next_multiple_of(16) + (kernels.rows * BLOCK_K).next_multiple_of(16)
    }

    /// Elements of scratch of the list of offsets.
    fn list(&self, cut: &Cut) -> usize {
        (cut.channels * self.taps()).next_multiple_of(16)
    }

    /// Bytes of scratch that [`Self::run`] wants: the list, and a slot for each thread that can have work.
    pub(crate) fn scratch(&self) -> usize {
        let (kernels, threads) = (kernels(), parallel::threads());
        let cut = self.cut(kernels, threads);
        let slots = cut.tasks(self).clamp(1, threads);
        (self.list(&cut) + slots * self.slot(kernels, &cut)) * size_of::<f32>() + 64
    }

    /// Computes every product; `operands` gives those of one. `out` is dense. The epilogue is called with product, filter,
    /// first output and a run of outputs.
    ///
    /// # Panics
    /// If an operand or the output has another size, or the scratch has no room for one slot.
    pub(crate) fn run<'o>(
        &self,
        operands: impl Fn(usize) -> Operands<'o> + Sync,
        out: &mut [f32],
        scratch: &mut [u8],
        epilogue: Option<Epilogue<'_>>,
    ) {
        let [d, h, w] = self.axes;
        let plane = d.output * h.output * w.output;
        assert_eq!(out.len(), self.products * self.filters * plane, "the output");
        if out.is_empty() {
            return;
        }
        let kernels = kernels();
        let cut = self.cut(kernels, parallel::threads());
        let (list, slots) = aligned(scratch).split_at_mut(self.list(&cut));
        let offsets: &mut [u32] = bytemuck::cast_slice_mut(list);
        self.fill_offsets(&cut, offsets);
        let output = Output::new(out);
        let call = Call { direct: self, kernels, cut, offsets, out: output, plane, epilogue };
        let slot = self.slot(kernels, &cut);
        let work = out.len() * self.channels * self.taps();
        let slots = if work < PARALLEL { &mut slots[..slot] } else { slots };
        in_slots(cut.tasks(self), slot, slots, |task, slot| {
            let (product, block) = call.block(task);
            let operands = operands(product);
            assert_eq!(operands.image.len(), self.channels * d.input * h.input * w.input);
            assert_eq!(operands.weights.len(), self.filters * self.channels * self.taps());
            call.task(product, &block, &operands, slot);
        });
    }

    /// Where the run of each term begins in a task's lines, counted from that of its row's first line.
    fn fill_offsets(&self, cut: &Cut, offsets: &mut [u32]) {
        let [d, h, w] = self.axes;
        let mut term = 0;
        for c in 0..cut.channels {
            for kd in 0..d.kernel {
                for kh in 0..h.kernel {
                    let line = (c * d.kernel + kd) * cut.lines + kh * h.dilation;
                    for kw in 0..w.kernel {
                        let at = kw * w.dilation;
                        let run = line * cut.phases + kw % cut.phases;
                        let offset = run * cut.run + at / w.stride;
                        offsets[term] = u32::try_from(offset).expect("lines fit a cache");
                        term += 1;
                    }
                }
            }
        }
    }
}

/// The outputs of one task.
struct Block {
    depth: usize,
    rows: Range<usize>,
    cols: Range<usize>,
}

struct Call<'a> {
    direct: &'a Direct<'a>,
    kernels: &'static Kernels,
    cut: Cut,
    offsets: &'a [u32],
    out: Output,
    /// Outputs of a filter.
    plane: usize,
    epilogue: Option<Epilogue<'a>>,
}

impl Call<'_> {
    /// The product of task number `task` and its outputs: no two tasks share one, and together they have all.
    fn block(&self, task: usize) -> (usize, Block) {
        let [d, h, w] = self.direct.axes;
        let (down, across) = (h.output.div_ceil(self.cut.rows), w.output.div_ceil(self.cut.cols));
        let (rest, col) = (task / across, task % across * self.cut.cols);
        let (rest, row) = (rest / down, rest % down * self.cut.rows);
        let rows = row..h.output.min(row + self.cut.rows);
        let cols = col..w.output.min(col + self.cut.cols);
        (rest / d.output, Block { depth: rest % d.output, rows, cols })
    }

    fn task(&self, product: usize, block: &Block, operands: &Operands<'_>, slot: &mut [f32]) {
        let Direct { channels, filters, .. } = *self.direct;
        let taps = self.direct.taps();
        let (lines, left) = slot.split_at_mut(slot.len() - self.kernels.rows * BLOCK_K);
        let weights = MatRef::rows(operands.weights, channels * taps);
        let terms = channels * taps;
        if terms == 0 {
            self.each_row(product, block, |_, _, row| row.fill(0.0));
        }
        for first in (0..channels).step_by(self.cut.channels) {
            let there = self.cut.channels.min(channels - first);
            self.copy_lines(block, operands.image, first..first + there, lines);
            let terms = first * taps..(first + there) * taps;
            for (piece, next) in pieces(0..filters, self.kernels.rows, terms, BLOCK_K) {
                let packed = piece.pack(&weights, next.as_ref(), left);
                self.panels(product, block, &piece, first * taps, (lines, packed));
            }
        }
        if let Some(epilogue) = self.epilogue {
            self.each_row(product, block, |filter, at, row| epilogue(product, filter, at, row));
        }
    }

    /// The terms of a packed piece, whose channels' lines are there from term `from` on: a panel for each row of outputs.
    fn panels(
        &self,
        product: usize,
        block: &Block,
        Piece { rows: filters, k }: &Piece,
        from: usize,
        (lines, packed): (&[f32], &[f32]),
    ) {
        let stride = self.direct.axes[1].stride * self.cut.line();
        // Few filters leave registers for wider tiles, as many as their sums need to overlap.
        let wide = filters.len() * WIDE <= self.kernels.rows * 2;
        let micro_panel = if wide { WIDE * self.kernels.lanes } else { self.kernels.cols };
        for (r, row) in block.rows.clone().enumerate() {
            let panel = Panel {
                a: packed.as_ptr(),
                rows: filters.len(),
                b: lines[r * stride..].as_ptr(),
                micro_panel,
                micro_panel_stride: micro_panel,
                offsets: self.offsets[k.start - from..k.end - from].as_ptr(),
                k: k.len(),
                first: k.start == 0,
                c: self.at(product, filters.start, block, row),
                c_stride: self.plane,
                cols: block.cols.len(),
                ..Panel::EMPTY
            };
            // SAFETY: `copy_lines` wrote a run for every term and row of the block, which is longer than the columns by as
            // much as an offset within it may be, and the slot goes on behind the last one. The block is this task's own.
            unsafe { (self.kernels.panel)(&panel) };
        }
    }

    /// The first output of a row of the block.
    fn at(&self, product: usize, filter: usize, block: &Block, row: usize) -> *mut f32 {
        let first = (product * self.direct.filters + filter) * self.plane;
        self.out.at(first + self.position(block, row))
    }

    /// The number of that output among those of its filter.
    fn position(&self, block: &Block, row: usize) -> usize {
        let [_, h, w] = self.direct.axes;
        (block.depth * h.output + row) * w.output + block.cols.start
    }

    /// Calls `work` with every row of outputs of the block, after its filter and the number of its first output.
    fn each_row(&self, product: usize, block: &Block, work: impl Fn(usize, usize, &mut [f32])) {
        for filter in 0..self.direct.filters {
            for row in block.rows.clone() {
                let from = self.at(product, filter, block, row);
                // SAFETY: these outputs are this task's own, and there is one such row at a time.
                let outputs = unsafe { std::slice::from_raw_parts_mut(from, block.cols.len()) };
                work(filter, self.position(block, row), outputs);
            }
        }
    }

    /// Writes the lines of some channels that the block's outputs need: padded, and for each phase in one run.
    fn copy_lines(&self, block: &Block, image: &[f32], channels: Range<usize>, lines: &mut [f32]) {
        let [d, h, w] = self.direct.axes;
        let there = (block.rows.len() - 1) * h.stride + (h.kernel - 1) * h.dilation + 1;
        for (c, channel) in channels.enumerate() {
            for kd in 0..d.kernel {
                let z = d.at(block.depth, kd);
                let to = (c * d.kernel + kd) * self.cut.lines * self.cut.line();
                let lines = &mut lines[to..][..there * self.cut.line()];
                for (i, line) in lines.chunks_exact_mut(self.cut.line()).enumerate() {
                    let y = (block.rows.start * h.stride + i).checked_sub(h.before);
                    match (z, y.filter(|&y| y < h.input)) {
                        (Some(z), Some(y)) => {
                            let from = ((channel * d.input + z) * h.input + y) * w.input;
                            self.copy_line(block, &image[from..][..w.input], line);
                        }
                        _ => line.fill(0.0),
                    }
                }
            }
        }
    }

    fn copy_line(&self, block: &Block, from: &[f32], to: &mut [f32]) {
        let Axis { input, stride, dilation, before, .. } = self.direct.axes[2];
        for (phase, run) in to.chunks_exact_mut(self.cut.run).enumerate() {
            // Element `i` of the run is that at `first + i · stride` of the padded line.
            let first = block.cols.start * stride + phase * dilation % stride;
            let padding = before.saturating_sub(first).div_ceil(stride).min(run.len());
            let start = first + padding * stride - before.min(first + padding * stride);
            let inside = input.saturating_sub(start).div_ceil(stride).min(run.len() - padding);
            run[..padding].fill(0.0);
            if inside > 0 {
                take(&from[start..], stride, &mut run[padding..padding + inside]);
            }
            run[padding + inside..].fill(0.0);
        }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Copies elements that are `stride` apart.
pub(crate) fn take(row: &[f32], stride: usize, out: &mut [f32]) {
    match (stride, out.split_last_mut()) {
        (1, _) => out.copy_from_slice(&row[..out.len()]),
        // Pairs, so that the compiler has vectors to shuffle; the last one may be half.
        (2, Some((last, rest))) => {
            let pairs = row.as_chunks::<2>().0;
            *last = row[2 * rest.len()];
            rest.iter_mut().zip(pairs).for_each(|(out, pair)| *out = pair[0]);
        }
        _ => out.iter_mut().zip(row.iter().step_by(stride)).for_each(|(out, x)| *out = *x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(input: usize, kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Axis {
        let [before, after] = pads;
        let output = (before + input + after - (kernel - 1) * dilation - 1) / stride + 1;
        Axis { input, output, kernel, stride, dilation, before, after }
    }

    /// Small integers, whose sums of products are exact in any order.
    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 29) as f32 - 14.0).collect()
    }

    /// One output at a time, each sum in the order of channels and taps.
    fn one_by_one(direct: &Direct<'_>, image: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f64> {
        let [d, h, w] = direct.axes;
        let mut out = Vec::new();
        for (filter, bias) in bias.iter().enumerate().take(direct.filters) {
            for (z, y, x) in (0..d.output).flat_map(|z| {
                (0..h.output).flat_map(move |y| (0..w.output).map(move |x| (z, y, x)))
            }) {
                let mut sum = 0.0;
                for c in 0..direct.channels {
                    for (kd, kh, kw) in (0..d.kernel).flat_map(|a| {
                        (0..h.kernel).flat_map(move |b| (0..w.kernel).map(move |c| (a, b, c)))
                    }) {
                        let at = (d.at(z, kd), h.at(y, kh), w.at(x, kw));
                        let (Some(z), Some(y), Some(x)) = at else { continue };
                        let from = ((c * d.input + z) * h.input + y) * w.input + x;
                        let tap = ((filter * direct.channels + c) * d.kernel + kd) * h.kernel + kh;
                        sum += f64::from(image[from]) * f64::from(weights[tap * w.kernel + kw]);
                    }
                }
                out.push(sum + f64::from(*bias));
            }
        }
        out
    }

    fn computed(direct: &Direct<'_>, image: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
        let outputs: usize = direct.axes.iter().map(|axis| axis.output).product();
        let mut out = vec![f32::NAN; direct.products * direct.filters * outputs];
        // What a kernel does not write before it reads shows as NaN.
        let mut scratch = vec![0xFFu8; direct.scratch()];
        let add = |_: usize, filter: usize, _: usize, run: &mut [f32]| {
            run.iter_mut().for_each(|y| *y += bias[filter]);
        };
        direct.run(|_| Operands { image, weights }, &mut out, &mut scratch, Some(&add));
        out
    }

    /// Strides below, at and above the kernel's size; dilation that has remainders in common with the stride; padding wider
    /// than the kernel; more taps than a block of terms; more channels than are there at once; every remainder of filters.
    #[test]
    fn every_window_agrees_with_one_output_at_a_time() {
        let flat = Axis::UNIT;
        let windows = [
            ([flat, axis(9, 3, 1, 1, [1, 1]), axis(40, 3, 1, 1, [1, 1])], 5, 13),
            ([flat, axis(9, 3, 2, 1, [1, 0]), axis(81, 3, 2, 1, [0, 1])], 4, 16),
            ([flat, axis(12, 2, 1, 3, [4, 4]), axis(60, 3, 4, 2, [5, 2])], 3, 5),
            ([flat, flat, axis(2000, 300, 16, 1, [7, 9])], 2, 36),
            ([flat, flat, axis(700, 3, 7, 1, [0, 0])], 1, 4),
            ([axis(5, 2, 2, 1, [1, 0]), axis(6, 3, 1, 2, [2, 2]), axis(50, 5, 3, 3, [6, 0])], 3, 7),
            ([flat, axis(5, 3, 1, 1, [1, 1]), axis(33, 3, 1, 1, [1, 1])], 70, 25),
            ([flat, axis(3, 1, 2, 1, [0, 0]), axis(1300, 1, 2, 1, [0, 0])], 6, 4),
            ([flat, axis(10, 5, 1, 1, [2, 2]), axis(75, 5, 1, 1, [2, 2])], 1, 1),
            ([flat, axis(10, 3, 2, 1, [1, 1]), axis(9, 3, 2, 1, [1, 1])], 1, 2),
        ];
        for (axes, channels, filters) in windows {
            let direct = Direct { products: 1, channels, filters, axes: &axes };
            let inputs: usize = axes.iter().map(|axis| axis.input).product();
            let (image, bias) = (values(channels * inputs, 1), values(filters, 3));
            let weights = values(filters * channels * direct.taps(), 2);
            let found = computed(&direct, &image, &weights, &bias);
            let expected = one_by_one(&direct, &image, &weights, &bias);
            for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
                assert!(f64::from(found) == expected, "{axes:?}: {i} is {found}, not {expected}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let axes = [Axis::UNIT, axis(61, 3, 1, 1, [1, 1]), axis(48, 3, 1, 1, [1, 1])];
        let direct = Direct { products: 2, channels: 40, filters: 19, axes: &axes };
        let sevenths = |values: Vec<f32>| values.into_iter().map(|v| v / 7.0).collect::<Vec<_>>();
        let (image, weights) = (values(40 * 61 * 48, 1), values(19 * 40 * 9, 2));
        let (image, weights) = (sevenths(image), sevenths(weights));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| computed(&direct, &image, &weights, &values(19, 3)))
        };
        let one = run(1);
        assert!(one == run(2) && one == run(7));
    }
}
