//! Filters as the kernels read them.

use super::BLOCK;
use super::transform::{FAR, INPUTS, NEAR, POINTS};
use crate::parallel::pieces;

/// Filters of a dense convolution: for each group and block of filters, for each block of channels, tap and channel, the weights
/// of the block's filters; zeros where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filters {
    /// Groups of filters.
    pub groups: usize,
    /// Filters of a group.
    pub filters: usize,
    /// Channels that a filter sums over.
    pub channels: usize,
    /// Taps of a channel.
    pub taps: usize,
}

impl Filters {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        let blocks = self.filters.div_ceil(BLOCK).checked_mul(self.groups);
        let sizes = [self.channels, self.taps, BLOCK];
        sizes
            .iter()
            .try_fold(blocks, |len, &size| Some(len?.checked_mul(size)))
            .flatten()
            .unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the form of row-major `[groups · filters, channels, taps]`.
    pub(crate) fn make<T: Copy + Into<f32> + Sync>(&self, w: &[T], out: &mut [f32]) {
        let Self { groups, filters, channels, taps } = *self;
        assert_eq!(w.len(), groups * filters * channels * taps, "{self:?}");
        assert_eq!(out.len(), self.len(), "{self:?}");
        let block = channels * taps * BLOCK;
        let blocks = filters.div_ceil(BLOCK);
        pieces(out, block, 1, |start, out| {
            for (i, out) in out.chunks_exact_mut(block.max(1)).enumerate() {
                let number = start / block + i;
                let (group, first) = (number / blocks, number % blocks * BLOCK);
                let there = BLOCK.min(filters - first);
                let rows =
                    &w[(group * filters + first) * channels * taps..][..there * channels * taps];
                let mut terms = out.as_chunks_mut::<BLOCK>().0.iter_mut();
                for from in (0..channels).step_by(BLOCK) {
                    for tap in 0..taps {
                        for c in from..channels.min(from + BLOCK) {
                            let term = terms.next().expect("there is a place for every term");
                            *term = [0.0; BLOCK];
                            for (f, weight) in term[..there].iter_mut().enumerate() {
                                *weight = rows[(f * channels + c) * taps + tap].into();
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Filters of a depthwise convolution: for each block of channels and tap, the weights of the block's channels; zeros where there
/// is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channels {
    /// Channels, each with one filter.
    pub channels: usize,
    /// Taps of a channel.
    pub taps: usize,
}

impl Channels {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        let padded = self.channels.div_ceil(BLOCK).checked_mul(BLOCK);
        padded.and_then(|padded| padded.checked_mul(self.taps)).unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the form of row-major `[channels, taps]`.
    pub(crate) fn make<T: Copy + Into<f32>>(&self, w: &[T], out: &mut [f32]) {
        let Self { channels, taps } = *self;
        assert_eq!(w.len(), channels * taps, "{self:?}");
        assert_eq!(out.len(), self.len(), "{self:?}");
        for (i, lanes) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let (first, tap) = (i / taps * BLOCK, i % taps);
            for (lane, weight) in lanes.iter_mut().enumerate() {
                let channel = first + lane;
                *weight = if channel < channels { w[channel * taps + tap].into() } else { 0.0 };
            }
        }
    }
}

/// Filters of three by three taps at the points of Winograd's transform: for each block of filters, point and channel, the values of the block's
/// filters; zeros where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Points {
    /// Filters.
    pub filters: usize,
    /// Channels that a filter sums over.
    pub channels: usize,
}

impl Points {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        let Self { filters, channels } = *self;
        Filters { groups: 1, filters, channels, taps: POINTS }.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the form of row-major `[filters, channels, 3, 3]`, calculated in `f64`.
    pub(crate) fn make<T: Copy + Into<f32> + Sync>(&self, w: &[T], out: &mut [f32]) {
        const TAPS: usize = 9;
        let Self { filters, channels } = *self;
        assert_eq!(w.len(), filters * channels * TAPS, "{self:?}");
        assert_eq!(out.len(), self.len(), "{self:?}");
        let block = channels * POINTS * BLOCK;
        pieces(out, block, 4, |start, out| {
            for (i, out) in out.chunks_exact_mut(block.max(1)).enumerate() {
                let first = (start / block + i) * BLOCK;
                let there = BLOCK.min(filters - first);
                let lines = out.as_chunks_mut::<BLOCK>().0;
                for c in 0..channels {
                    let mut taps = [[0.0; BLOCK]; TAPS];
                    for (lane, filter) in (first..first + there).enumerate() {
                        let from = &w[(filter * channels + c) * TAPS..][..TAPS];
                        for (tap, &weight) in taps.iter_mut().zip(from) {
                            tap[lane] = f64::from(weight.into());
                        }
                    }
                    let mut half = [[0.0; BLOCK]; INPUTS * 3];
                    for row in 0..3 {
                        let at = evaluate([&taps[row * 3], &taps[row * 3 + 1], &taps[row * 3 + 2]]);
                        for (col, lanes) in at.into_iter().enumerate() {
                            half[col * 3 + row] = lanes;
                        }
                    }
                    for col in 0..INPUTS {
                        let at = evaluate([&half[col * 3], &half[col * 3 + 1], &half[col * 3 + 2]]);
                        for (row, lanes) in at.into_iter().enumerate() {
                            lines[(row * INPUTS + col) * channels + c] =
                                lanes.map(|value| value as f32);
                        }
                    }
                }
            }
        });
    }
}

/// Three taps at the points, each divided by the product of its distances from the other points.
fn evaluate(taps: [&[f64; BLOCK]; 3]) -> [[f64; BLOCK]; INPUTS] {
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let at = |point: f64, distances: f64| -> [f64; BLOCK] {
        std::array::from_fn(|i| {
            (taps[0][i] + point * (taps[1][i] + point * taps[2][i])) / distances
        })
    };
    let (near2, far2) = (near * near, far * far);
    let (by_near, by_far) = (2.0 * near2 * (near2 - far2), 2.0 * far2 * (far2 - near2));
    [
        at(0.0, near2 * far2),
        at(near, by_near),
        at(-near, by_near),
        at(far, by_far),
        at(-far, by_far),
        *taps[2],
    ]
}
