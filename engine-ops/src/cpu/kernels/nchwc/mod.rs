//! Convolution of images whose channels lie in blocks: `[n, ⌈c / 16⌉, h, w, 16]`, the layout that the field calls NCHWc.
//!
//! The outputs of a block of filters at neighbouring positions are registers; a term is a weight vector, which is shared by all
//! positions, times one element of each. So nothing is unrolled or packed at a run: filters come in a form ([`Filters`]) that is
//! made once, inputs are read where they are or, where there is padding, from lines that a task copies once for all filters.
//! What the lanes beyond the last channel hold is never read by a convolution.

mod dense;
mod depthwise;
mod filters;
mod greatest;
pub(crate) mod tile;
pub(crate) mod transform;
mod winograd;

pub(crate) use dense::Dense;
pub(crate) use depthwise::Depthwise;
pub use filters::{Channels, Filters, Points};
pub(crate) use greatest::greatest;

pub(crate) use tile::{Activation, BLOCK};
pub(crate) use winograd::Winograd;

use crate::kernels::window::Axis;
use tile::Ending;

/// Most blocks of filters of a tile.
const TILE_BLOCKS: usize = 2;

/// A convolution of concrete shapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) images: usize,
    pub(crate) groups: usize,
    /// Channels of a group.
    pub(crate) channels: usize,
    /// Filters of a group.
    pub(crate) filters: usize,
    pub(crate) h: Axis,
    pub(crate) w: Axis,
    /// Whether the input's channels lie in blocks; else it is row-major.
    pub(crate) blocks: bool,
}

impl Shape {
    pub(crate) fn taps(&self) -> usize {
        self.h.kernel * self.w.kernel
    }

    /// Elements of one output plane of one block.
    fn plane(&self) -> usize {
        self.h.output * self.w.output * BLOCK
    }
}

/// What is done to finished outputs while they are in the cache: called with the number of the first element in the output, and a run of
/// elements, once for every element.
pub(crate) type Epilogue<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// What is done to sums: in registers first, then in the cache.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// What is added first, for every filter.
    pub(crate) bias: Option<&'a [f32]>,
    /// What is multiplied by then, for every lane of every block.
    pub(crate) scale: Option<&'a [f32]>,
    /// What is added then, for every lane of every block.
    pub(crate) shift: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    pub(crate) epilogue: Option<Epilogue<'a>>,
}

impl Finish<'_> {
    /// The biases of some blocks of filters, zeros beyond the last filter; `None` if nothing is added.
    fn bias(&self, blocks: std::ops::Range<usize>) -> Option<[f32; TILE_BLOCKS * BLOCK]> {
        let bias = self.bias?;
        let mut lanes = [0.0; TILE_BLOCKS * BLOCK];
        let there = &bias[blocks.start * BLOCK..bias.len().min(blocks.end * BLOCK)];
        lanes[..there.len()].copy_from_slice(there);
        Some(lanes)
    }

    /// How the sums of some blocks of filters end whose biases are `bias`.
    fn ending(
        &self,
        blocks: std::ops::Range<usize>,
        bias: &Option<[f32; TILE_BLOCKS * BLOCK]>,
    ) -> Ending {
        let lanes = blocks.start * BLOCK..blocks.end * BLOCK;
        let of =
            |all: Option<&[f32]>| all.map_or(std::ptr::null(), |all| all[lanes.clone()].as_ptr());
        Ending {
            bias: bias.as_ref().map_or(std::ptr::null(), |lanes| lanes.as_ptr()),
            scale: of(self.scale),
            shift: of(self.shift),
            activation: self.activation,
        }
    }
}

/// Cuts `len` into pieces of at most `most`, as equal as possible: short ones waste registers.
fn even(len: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let pieces = len.div_ceil(most);
    (0..pieces).map(move |i| i * len / pieces..(i + 1) * len / pieces)
}

#[cfg(test)]
pub(super) mod tests;
