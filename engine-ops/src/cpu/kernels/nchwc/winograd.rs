//! Convolution under windows of three by three with stride 1 by minimal filtering, Winograd's F(4×4, 3×3): Lavin and Gray, Fast Algorithms
//! for Convolutional Neural Networks, 2016.
//!
//! Sixteen outputs take 36 products a channel in place of 144. A task evaluates the inputs of some tiles at the points of
//! [`super::transform`], multiplies points by filters that were evaluated there once ([`Points`]), and interpolates the outputs.
//!
//! **Error.** Beside sums over taps the root of the mean square error is twice as large where terms have either sign, and half as large where
//! they have one, because chains are nine times shorter. The windows of a tile share their errors: where one sees large elements, and another
//! nothing but zeros, that one's sum is not quite zero. An infinity or NaN in the input makes NaN of the whole tiles whose windows see it,
//! and inputs above a tenth of the largest float may overflow.

use super::dense::{TASKS_PER_THREAD, chunks};
use super::tile::{Run, Tile};
use super::transform::{Forward, INPUTS, Inverse, OUTPUTS, POINTS};
use super::{BLOCK, Finish, Points, Shape, even};
use crate::kernels::gemm::Output;
use crate::kernels::instances::{Kernels, kernels};
use crate::parallel::{aligned, in_slots};
use std::ops::Range;

/// Elements of evaluated inputs that a task goes over again and again: half of a second-level cache of a megabyte.
const EVALUATED: usize = 128 * 1024;

/// A convolution over tiles, chosen once.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    shape: Shape,
    /// Tiles of an image, down and across.
    grid: (usize, usize),
    /// Tiles of a task.
    band: usize,
    /// Tiles of the micro-kernel along filters, of a task.
    part: usize,
    runs: Vec<Run>,
    /// See [`chunks`].
    chunks: Vec<(Range<usize>, usize)>,
}

/// Cycles of sums of so many products of registers, over `weights` registers that are read in `turns`.
fn cycles(products: usize, weights: usize, turns: usize) -> usize {
    /// Registers of weights that stay in a second-level cache.
    const NEAR: usize = 8 * 1024;
    let each = if weights <= NEAR { 2 } else { 12 };
    products.max(weights.saturating_mul(turns).saturating_mul(each))
}

impl Winograd {
    /// `None` where the shape is another, or sums over taps are faster. That follows from the shape; how work is cut follows from the
    /// number of threads too, but no sum depends on that.
    pub(crate) fn new(shape: Shape, threads: usize) -> Option<Self> {
        let Shape { images, groups, channels, filters, h, w, blocks } = shape;
        let plain = [h, w].iter().all(|a| (a.kernel, a.stride, a.dilation) == (3, 1, 1));
        if !plain || groups != 1 || !blocks || channels == 0 {
            return None;
        }
        let grid = (h.output.div_ceil(OUTPUTS), w.output.div_ceil(OUTPUTS));
        let tiles = images.checked_mul(grid.0.checked_mul(grid.1)?)?;
        let kernels = kernels();
        let most = (EVALUATED / (POINTS * channels)).max(kernels.rows);
        let pieces = tiles.div_ceil(most);
        let band = tiles.div_ceil(pieces.max(1)).max(1);
        let (blocks, from) = (filters.div_ceil(BLOCK), channels.div_ceil(BLOCK));
        let terms = blocks.checked_mul(channels)?;
        // Measured: a tile takes about 200 cycles to evaluate in a block of channels, and 170 to interpolate.
        let tiled = cycles(tiles.checked_mul(POINTS * terms)?, POINTS * terms, pieces)
            + tiles.checked_mul(200 * from + 170 * blocks)?;
        let direct = cycles((images * h.output * w.output).checked_mul(9 * terms)?, 9 * terms, 1);
        if tiled >= direct / 8 * 7 {
            return None;
        }
        let parts = blocks.div_ceil(Self::tile_blocks(kernels));
        let mut made =
            Self { shape, grid, band, part: parts, runs: Vec::new(), chunks: Vec::new() };
        let wanted = if threads > 1 { threads * TASKS_PER_THREAD } else { 1 };
        while made.tasks() < wanted {
            match () {
                () if made.band >= 2 * kernels.rows => made.band = made.band.div_ceil(2),
                () if made.part > 1 => made.part = made.part.div_ceil(2),
                () => break,
            }
        }
        let first = |block: usize| block * made.band * BLOCK;
        let run =
            |block| Run { offset: first(block), channels: BLOCK.min(channels - block * BLOCK) };
        made.runs = (0..from).map(run).collect();
        made.chunks = chunks(&made.runs, kernels);
        Some(made)
    }

    pub(crate) fn form(&self) -> Points {
        Points { filters: self.shape.filters, channels: self.shape.channels }
    }

    /// Blocks of filters of one tile of the micro-kernel.
    fn tile_blocks(kernels: &Kernels) -> usize {
        (kernels.cols / BLOCK).max(1)
    }

    fn filter_blocks(&self) -> usize {
        self.shape.filters.div_ceil(BLOCK)
    }

    fn tiles(&self) -> usize {
        self.shape.images * self.grid.0 * self.grid.1
    }

    fn parts(&self) -> usize {
        self.filter_blocks().div_ceil(Self::tile_blocks(kernels())).div_ceil(self.part)
    }

    fn tasks(&self) -> usize {
        self.tiles().div_ceil(self.band) * self.parts()
    }

    /// Elements from one point of the evaluated inputs to the next. Points are an odd number of lines of a cache apart, or they would fall on
    /// one another there.
    fn input_point(&self) -> usize {
        (self.shape.channels.div_ceil(BLOCK) * self.band / 2 * 2 + 1) * BLOCK
    }

    /// Elements from one point of sums to the next.
    fn output_point(&self) -> usize {
        (Self::tile_blocks(kernels()) * self.band / 2 * 2 + 1) * BLOCK
    }

    fn slot(&self) -> usize {
        POINTS * (self.input_point() + self.output_point())
    }

    /// Bytes of scratch that [`Self::run`] wants on so many threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        self.tasks().clamp(1, threads) * self.slot() * size_of::<f32>() + 64
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
        let Shape { images, channels, h, w: width, .. } = self.shape;
        let image = channels.div_ceil(BLOCK) * BLOCK * h.input * width.input;
        assert_eq!(x.len(), images * image, "the input of {:?}", self.shape);
        assert_eq!(w.len(), self.form().len(), "the filters of {:?}", self.shape);
        let size = images * self.filter_blocks() * self.shape.plane();
        assert_eq!(out.len(), size, "the output of {:?}", self.shape);
        if out.is_empty() {
            return;
        }
        let call = Call { of: self, kernels: kernels(), x, w, out: Output::new(out), finish };
        in_slots(self.tasks(), self.slot(), aligned(scratch), |task, slot| call.task(task, slot));
    }
}

/// A tile of an image.
struct At {
    image: usize,
    row: usize,
    col: usize,
}

struct Call<'a> {
    of: &'a Winograd,
    kernels: &'static Kernels,
    x: &'a [f32],
    w: &'a [f32],
    out: Output,
    finish: Finish<'a>,
}

impl Call<'_> {
    /// Computes the outputs of task number `task`: no two tasks share one, and together they have all.
    fn task(&self, task: usize, slot: &mut [f32]) {
        let of = self.of;
        let (band, part) = (task / of.parts(), task % of.parts());
        let tiles = band * of.band..of.tiles().min((band + 1) * of.band);
        let (points, sums) = slot.split_at_mut(POINTS * of.input_point());
        self.evaluate(&tiles, points);
        let tile = Winograd::tile_blocks(self.kernels);
        let mut start = part * of.part * tile;
        let end = of.filter_blocks().min(start + of.part * tile);
        while start < end {
            // A row of a tile is filled, or is of one block.
            let filters = start..start + if end - start >= tile { tile } else { 1 };
            start = filters.end;
            self.multiply(tiles.len(), &filters, points, sums);
            self.interpolate(&tiles, &filters, sums);
        }
    }

    fn at(&self, tile: usize) -> At {
        let (down, across) = self.of.grid;
        At { image: tile / across / down, row: tile / across % down, col: tile % across }
    }

    /// Evaluates the inputs of some tiles: points, blocks of channels, tiles.
    fn evaluate(&self, tiles: &Range<usize>, points: &mut [f32]) {
        let Shape { h, w, channels, .. } = self.of.shape;
        let blocks = channels.div_ceil(BLOCK);
        let mut padded = [0.0; POINTS * BLOCK];
        for block in 0..blocks {
            for (i, tile) in tiles.clone().enumerate() {
                let At { image, row, col } = self.at(tile);
                let plane = &self.x[(image * blocks + block) * h.input * w.input * BLOCK..]
                    [..h.input * w.input * BLOCK];
                let under = |first: usize, axis: &crate::kernels::window::Axis| {
                    let at = first as isize - axis.before as isize;
                    (at, at >= 0 && at as usize + INPUTS <= axis.input)
                };
                let ((top, whole), (left, wide)) =
                    (under(row * OUTPUTS, &h), under(col * OUTPUTS, &w));
                let (x, row) = if whole && wide {
                    let first = top as usize * w.input + left as usize;
                    (&plane[first * BLOCK..], w.input * BLOCK)
                } else {
                    for (i, to) in padded.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                        let (y, x) = (top + (i / INPUTS) as isize, left + (i % INPUTS) as isize);
                        let inside = (0..h.input as isize).contains(&y)
                            && (0..w.input as isize).contains(&x);
                        *to = [0.0; BLOCK];
                        if inside {
                            let from = (y as usize * w.input + x as usize) * BLOCK;
                            to.copy_from_slice(&plane[from..from + BLOCK]);
                        }
                    }
                    (&padded[..], INPUTS * BLOCK)
                };
                let tile = Forward {
                    x: x.as_ptr(),
                    row,
                    v: points[(block * self.of.band + i) * BLOCK..].as_mut_ptr(),
                    point: self.of.input_point(),
                };
                // SAFETY: six by six elements are within the plane, or were copied; the slot has a place for every point.
                unsafe { (self.kernels.forward)(&tile) };
            }
        }
    }

    /// Sums products at every point for some filters: points, blocks of filters, tiles.
    fn multiply(&self, tiles: usize, filters: &Range<usize>, points: &[f32], sums: &mut [f32]) {
        let of = self.of;
        let terms = of.shape.channels * BLOCK;
        for point in 0..POINTS {
            let w = &self.w[filters.start * POINTS * terms..filters.end * POINTS * terms];
            let x = &points[point * of.input_point()..][..of.input_point()];
            let to = &mut sums[point * of.output_point()..][..of.output_point()];
            for (chunk, term) in &of.chunks {
                let runs = &of.runs[chunk.clone()];
                for cols in even(tiles, self.kernels.rows) {
                    let tile = Tile {
                        x: x[cols.start * BLOCK..].as_ptr(),
                        step: BLOCK,
                        runs: runs.as_ptr(),
                        count: runs.len(),
                        w: w[point * terms + term * BLOCK..].as_ptr(),
                        w_block: POINTS * terms,
                        blocks: filters.len(),
                        y: to[cols.start * BLOCK..].as_mut_ptr(),
                        y_block: of.band * BLOCK,
                        positions: cols.len(),
                        first: *term == 0,
                        ending: None,
                    };
                    // SAFETY: runs are blocks of channels of this point, which the slot has for every tile; weights and sums are within
                    // their slices, whose sizes were checked or follow from the shape.
                    unsafe { (self.kernels.tile)(&tile) };
                }
            }
        }
    }

    /// Makes outputs of sums.
    fn interpolate(&self, tiles: &Range<usize>, filters: &Range<usize>, sums: &[f32]) {
        let of = self.of;
        let Shape { h, w, .. } = of.shape;
        let bias = self.finish.bias(filters.clone());
        let ending = self.finish.ending(filters.clone(), &bias);
        for (number, filter) in filters.clone().enumerate() {
            let first = |at: &At| {
                (at.image * of.filter_blocks() + filter) * of.shape.plane()
                    + (at.row * OUTPUTS * w.output + at.col * OUTPUTS) * BLOCK
            };
            for (i, tile) in tiles.clone().enumerate() {
                let at = self.at(tile);
                let there = (h.output - at.row * OUTPUTS, w.output - at.col * OUTPUTS);
                let tile = Inverse {
                    m: sums[(number * of.band + i) * BLOCK..].as_ptr(),
                    point: of.output_point(),
                    y: self.out.at(first(&at)),
                    row: w.output * BLOCK,
                    there: (there.0.min(OUTPUTS), there.1.min(OUTPUTS)),
                    ending,
                    lane: number * BLOCK,
                };
                // SAFETY: the slot has sums for every point of the tile; its outputs that are there are this task's own.
                unsafe { (self.kernels.inverse)(&tile) };
            }
            let Some(epilogue) = self.finish.epilogue else { continue };
            let mut tile = tiles.start;
            while tile < tiles.end {
                // Tiles that are neighbours in a row of the grid have neighbouring outputs.
                let at = self.at(tile);
                let many = (of.grid.1 - at.col).min(tiles.end - tile);
                let wide = (many * OUTPUTS).min(w.output - at.col * OUTPUTS);
                for row in 0..OUTPUTS.min(h.output - at.row * OUTPUTS) {
                    let start = first(&at) + row * w.output * BLOCK;
                    // SAFETY: these outputs are this task's own, and there is one such slice at a time.
                    let run =
                        unsafe { std::slice::from_raw_parts_mut(self.out.at(start), wide * BLOCK) };
                    epilogue(start, run);
                }
                tile += many;
            }
        }
    }
}
