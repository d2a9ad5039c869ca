//! Convolution over all channels of a group.

use super::tile::{Run, Tile};
use super::{BLOCK, Filters, Finish, Shape, even};
use crate::kernels::gemm::{Output, transpose};
use crate::kernels::instances::{Kernels, kernels};
use crate::kernels::window::Axis;
use crate::parallel::{aligned, in_slots};
use std::ops::Range;

/// Elements of the input that a task goes over again and again: half of a second-level cache of a megabyte.
const INPUT: usize = 128 * 1024;
/// Elements of weights that are used at all positions before the next ones are looked at: they stay in the first-level cache.
const WEIGHTS: usize = 6 * 1024;
/// Tasks wanted per thread, so that an uneven end is short.
pub(super) const TASKS_PER_THREAD: usize = 3;
/// Outputs of a block of filters that are finished together: they are still in the first-level cache.
pub(super) const FINISHED: usize = 1024;
/// Tiles of a row where positions are no grid but one long line.
const TILES: usize = 4;

/// A dense convolution, chosen once: how outputs are cut into tasks, and where the terms of a sum are.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    shape: Shape,
    /// Whether a task copies the lines that it needs; else the input is read in place.
    copies: bool,
    /// Rows of outputs: those of the image, or parts of one line of all positions.
    rows: Rows,
    /// Rows of a task.
    band: usize,
    /// Tiles of filters of a task.
    part: usize,
    /// Elements from one position to the next.
    step: usize,
    runs: Vec<Run>,
    /// See [`chunks`].
    chunks: Vec<(Range<usize>, usize)>,
}

/// Rows of positions.
#[derive(Clone, Copy, Debug)]
struct Rows {
    count: usize,
    /// Positions of a row; the last row may have fewer.
    len: usize,
    /// All positions.
    positions: usize,
}

impl Rows {
    fn len(&self, row: usize) -> usize {
        self.len.min(self.positions - row * self.len)
    }
}

/// Runs whose weights are used together, with the number of their first term.
pub(super) fn chunks(runs: &[Run], kernels: &Kernels) -> Vec<(Range<usize>, usize)> {
    let most = WEIGHTS / kernels.cols.max(BLOCK);
    let (mut chunks, mut chunk, mut first, mut term) = (Vec::new(), 0..0, 0, 0);
    for run in runs {
        if term + run.channels > first + most && term > first {
            chunks.push((chunk.clone(), first));
            (chunk.start, first) = (chunk.end, term);
        }
        chunk.end += 1;
        term += run.channels;
    }
    chunks.push((chunk, first));
    chunks
}

impl Dense {
    /// Follows from the shape, and how work is cut from the number of threads too; no sum depends on that.
    pub(crate) fn new(shape: Shape, threads: usize) -> Self {
        let kernels = kernels();
        let still = |a: &Axis| a.before == 0 && a.after == 0;
        let copies = !(shape.blocks && still(&shape.h) && still(&shape.w));
        let positions = shape.h.output * shape.w.output;
        let rows = match !copies && shape.h.is_still() && shape.w.is_still() {
            true => {
                let count = positions.div_ceil(TILES * kernels.rows).max(1);
                let len = positions.div_ceil(count).max(1);
                Rows { count: positions.div_ceil(len), len, positions }
            }
            false => Rows { count: shape.h.output, len: shape.w.output, positions },
        };
        let mut dense = Self {
            shape,
            copies,
            rows,
            band: rows.count.max(1),
            part: 1,
            step: 0,
            runs: Vec::new(),
            chunks: Vec::new(),
        };
        dense.cut(kernels, threads);
        dense.step = shape.w.stride * dense.channel_step();
        dense.list(kernels);
        dense
    }

    pub(crate) fn form(&self) -> Filters {
        let Shape { groups, filters, channels, .. } = self.shape;
        Filters { groups, filters, channels, taps: self.shape.taps() }
    }

    /// Blocks of filters of one tile.
    fn tile_blocks(kernels: &Kernels) -> usize {
        (kernels.cols / BLOCK).max(1)
    }

    fn filter_blocks(&self) -> usize {
        self.shape.filters.div_ceil(BLOCK)
    }

    fn channel_blocks(&self) -> usize {
        self.shape.channels.div_ceil(BLOCK)
    }

    /// Channels whose elements are neighbours in the input as it is read, and elements from one column of it to the next. The few
    /// channels of an image lie in lines of their own: transposing them would take as long as convolving them.
    fn channel_step(&self) -> usize {
        const FEW: usize = 4;
        match self.shape.channels {
            _ if self.shape.blocks => BLOCK,
            0..=FEW => 1,
            channels => BLOCK.min(channels),
        }
    }

    /// Planes of the input as it is read.
    fn planes(&self) -> usize {
        self.shape.channels.div_ceil(self.channel_step())
    }

    fn cut(&mut self, kernels: &Kernels, threads: usize) {
        let tiles = self.filter_blocks().div_ceil(Self::tile_blocks(kernels)).max(1);
        self.part = tiles;
        while self.band > 1 && self.input(self.band) > INPUT {
            self.band = self.band.div_ceil(2);
        }
        let weights = |part: usize| part * kernels.cols * self.shape.channels * self.shape.taps();
        let wanted = if threads > 1 { threads * TASKS_PER_THREAD } else { 1 };
        let (mut band, mut part) = (self.band, self.part);
        while self.tasks(band, part) < wanted {
            // What is shared by the halves is read by both: the weights, if a band is halved, or the input.
            let by_filters = part > 1 && weights(part) > self.input(band);
            match by_filters {
                true => part = part.div_ceil(2),
                false if band > 1 => band = band.div_ceil(2),
                false if part > 1 => part = part.div_ceil(2),
                false => break,
            }
        }
        (self.band, self.part) = (band, part);
    }

    /// Tasks of one run: images, groups, bands, parts.
    fn tasks(&self, band: usize, part: usize) -> usize {
        let tiles = self.filter_blocks().div_ceil(Self::tile_blocks(kernels()));
        self.shape.images
            * self.shape.groups
            * self.rows.count.div_ceil(band)
            * tiles.div_ceil(part)
    }

    /// Elements of the input that so many rows of outputs need.
    fn input(&self, rows: usize) -> usize {
        match self.copies {
            true => self.planes() * self.lines(rows) * self.line(),
            false if self.rows.count == self.shape.h.output => {
                self.channel_blocks() * rows * self.shape.h.stride * self.shape.w.input * BLOCK
            }
            false => self.channel_blocks() * rows * self.rows.len * BLOCK,
        }
    }

    /// Lines of the input that so many rows of outputs need.
    fn lines(&self, rows: usize) -> usize {
        let h = self.shape.h;
        (rows.max(1) - 1) * h.stride + (h.kernel - 1) * h.dilation + 1
    }

    /// Columns of a copied line.
    fn width(&self) -> usize {
        let w = self.shape.w;
        (w.output.max(1) - 1) * w.stride + (w.kernel - 1) * w.dilation + 1
    }

    /// Elements of a copied line.
    fn line(&self) -> usize {
        self.width() * self.channel_step()
    }

    /// Lists the terms of a sum.
    fn list(&mut self, kernels: &Kernels) {
        let Shape { h, w, channels, .. } = self.shape;
        let step = self.channel_step();
        let (line, plane) = match self.copies {
            true => (self.line(), self.lines(self.band) * self.line()),
            false => (w.input * BLOCK, h.input * w.input * BLOCK),
        };
        let taps = self.shape.taps();
        let blocks = (0..channels).step_by(BLOCK).map(|first| first..channels.min(first + BLOCK));
        for (block, tap) in blocks.flat_map(|block| (0..taps).map(move |tap| (block.clone(), tap)))
        {
            let (kh, kw) = (tap / w.kernel, tap % w.kernel);
            for first in block.clone().step_by(step) {
                let offset = first / step * plane + kh * h.dilation * line + kw * w.dilation * step;
                self.runs.push(Run { offset, channels: step.min(block.end - first) });
            }
        }
        self.chunks = chunks(&self.runs, kernels);
    }

    /// Elements of a task's slot.
    fn slot(&self) -> usize {
        match self.copies {
            true => (self.planes() * self.lines(self.band) * self.line()).next_multiple_of(BLOCK),
            false => 0,
        }
    }

    /// Bytes of scratch that [`Self::run`] wants on so many threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        match self.slot() {
            0 => 0,
            slot => {
                self.tasks(self.band, self.part).clamp(1, threads) * slot * size_of::<f32>() + 64
            }
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
        let Shape { images, groups, channels, h, w: width, blocks, .. } = self.shape;
        let group =
            if blocks { self.channel_blocks() * BLOCK } else { channels } * h.input * width.input;
        assert_eq!(x.len(), images * groups * group, "the input of {:?}", self.shape);
        assert_eq!(w.len(), self.form().len(), "the filters of {:?}", self.shape);
        let size = images * groups * self.filter_blocks() * self.shape.plane();
        assert_eq!(out.len(), size, "the output of {:?}", self.shape);
        if out.is_empty() {
            return;
        }
        let call = Call { dense: self, kernels: kernels(), w, out: Output::new(out), finish };
        in_slots(self.tasks(self.band, self.part), self.slot(), aligned(scratch), |task, slot| {
            let (number, block) = call.block(task);
            call.task(number, &block, &x[number * group..][..group], slot);
        });
    }
}

/// The outputs of one task.
struct Block {
    rows: Range<usize>,
    /// Blocks of filters.
    filters: Range<usize>,
}

struct Call<'a> {
    dense: &'a Dense,
    kernels: &'static Kernels,
    w: &'a [f32],
    out: Output,
    finish: Finish<'a>,
}

impl Call<'_> {
    /// The group of an image of task number `task`, and its outputs: no two tasks share one, and together they have all.
    fn block(&self, task: usize) -> (usize, Block) {
        let Dense { band, part, rows, .. } = *self.dense;
        let (blocks, tile) = (self.dense.filter_blocks(), Dense::tile_blocks(self.kernels));
        let (bands, parts) = (rows.count.div_ceil(band), blocks.div_ceil(tile).div_ceil(part));
        let (rest, part_at) = (task / parts, task % parts * part * tile);
        let (number, row) = (rest / bands, rest % bands * band);
        let filters = part_at..blocks.min(part_at + part * tile);
        (number, Block { rows: row..rows.count.min(row + band), filters })
    }

    fn task(&self, number: usize, block: &Block, x: &[f32], slot: &mut [f32]) {
        let dense = self.dense;
        let from = match dense.copies {
            true => {
                self.copy(&block.rows, x, slot);
                &*slot
            }
            false => x,
        };
        let tile = Dense::tile_blocks(self.kernels);
        let Range { mut start, end } = block.filters;
        while start < end {
            // A row of a tile is filled, or is of one block.
            let filters = start..start + if end - start >= tile { tile } else { 1 };
            start = filters.end;
            self.sums(number, &block.rows, filters, from);
        }
    }

    fn sums(&self, number: usize, rows: &Range<usize>, filters: Range<usize>, x: &[f32]) {
        let dense = self.dense;
        let terms = dense.shape.channels * dense.shape.taps() * BLOCK;
        let group = number % dense.shape.groups;
        let w = &self.w[(group * dense.filter_blocks() + filters.start) * terms..]
            [..filters.len() * terms];
        let first = group * dense.filter_blocks() + filters.start;
        let blocks = first..first + filters.len();
        let bias = self.finish.bias(blocks.clone());
        let ending = self.finish.ending(blocks, &bias);
        let mut unfinished = rows.start;
        for (i, (chunk, term)) in dense.chunks.iter().enumerate() {
            let runs = &dense.runs[chunk.clone()];
            let last = i + 1 == dense.chunks.len();
            for row in rows.clone() {
                let base = self.base(rows.start, row);
                for cols in even(dense.rows.len(row), self.kernels.rows) {
                    let tile = Tile {
                        x: x[(base + cols.start * dense.step).min(x.len())..].as_ptr(),
                        step: dense.step,
                        runs: runs.as_ptr(),
                        count: runs.len(),
                        w: w[term * BLOCK..].as_ptr(),
                        w_block: terms,
                        blocks: filters.len(),
                        y: self.at(number, filters.start, row, cols.start),
                        y_block: dense.shape.plane(),
                        positions: cols.len(),
                        first: *term == 0,
                        ending: last.then_some(ending),
                    };
                    // SAFETY: every run is within the input (or the copied lines) at each of the positions, because windows that
                    // are read in place have no padding; weights and outputs are within their slices, whose sizes were checked;
                    // the outputs are this task's own.
                    unsafe { (self.kernels.tile)(&tile) };
                }
                let enough = (row + 1 - unfinished) * dense.rows.len * BLOCK >= FINISHED;
                if last && (enough || row + 1 == rows.end) {
                    self.finish(number, &(unfinished..row + 1), filters.clone());
                    unfinished = row + 1;
                }
            }
        }
    }

    /// Where the first position of a row reads, in what a task whose rows begin at `first` reads from.
    fn base(&self, first: usize, row: usize) -> usize {
        let dense = self.dense;
        match dense.copies {
            true => (row - first) * dense.shape.h.stride * dense.line(),
            false
                if dense.rows.count == dense.shape.h.output
                    && dense.rows.len == dense.shape.w.output =>
            {
                row * dense.shape.h.stride * dense.shape.w.input * BLOCK
            }
            false => row * dense.rows.len * BLOCK,
        }
    }

    /// The output at a position of a row.
    fn at(&self, number: usize, filter: usize, row: usize, col: usize) -> *mut f32 {
        self.out.at(self.start(number, filter, row) + col * BLOCK)
    }

    /// The number of the first output of a row of a block of filters.
    fn start(&self, number: usize, filter: usize, row: usize) -> usize {
        let dense = self.dense;
        (number * dense.filter_blocks() + filter) * dense.shape.plane()
            + row * dense.rows.len * BLOCK
    }

    fn finish(&self, number: usize, rows: &Range<usize>, filters: Range<usize>) {
        let Some(epilogue) = self.finish.epilogue else { return };
        let dense = self.dense;
        let positions: usize = rows.clone().map(|row| dense.rows.len(row)).sum();
        for filter in filters {
            let start = self.start(number, filter, rows.start);
            // SAFETY: these outputs are this task's own, and there is one such slice at a time.
            let run =
                unsafe { std::slice::from_raw_parts_mut(self.out.at(start), positions * BLOCK) };
            epilogue(start, run);
        }
    }

    /// Writes the lines that some rows of outputs need, padded.
    fn copy(&self, rows: &Range<usize>, x: &[f32], lines: &mut [f32]) {
        let dense = self.dense;
        let Shape { h, w, channels, .. } = dense.shape;
        let (line, step, plane) = (dense.line(), dense.channel_step(), h.input * w.input);
        let (there, all) = (dense.lines(rows.len()), dense.lines(dense.band));
        for first in (0..channels).step_by(step) {
            let to = first / step * all * line;
            for (i, to) in lines[to..][..there * line].chunks_exact_mut(line).enumerate() {
                let y = (rows.start * h.stride + i).checked_sub(h.before).filter(|&y| y < h.input);
                let Some(y) = y else {
                    to.fill(0.0);
                    continue;
                };
                let before = w.before.min(dense.width());
                let inside = w.input.min(dense.width() - before);
                to[..before * step].fill(0.0);
                to[(before + inside) * step..].fill(0.0);
                let to = &mut to[before * step..][..inside * step];
                if dense.shape.blocks {
                    to.copy_from_slice(&x[first * plane + y * w.input * BLOCK..][..inside * BLOCK]);
                } else if step == 1 {
                    to.copy_from_slice(&x[first * plane + y * w.input..][..inside]);
                } else if inside > 0 {
                    let lines = step.min(channels - first);
                    transpose(&x[first * plane + y * w.input..], plane, (lines, inside), to, step);
                }
            }
        }
    }
}
