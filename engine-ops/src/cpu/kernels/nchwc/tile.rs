//! The innermost loops of convolutions over blocks of channels, over any [`Simd`].
//!
//! Every sum is one chain over its terms in order, held in a register within one call and in the output between calls, so its
//! bits do not depend on how outputs and terms are cut.

use crate::kernels::simd::{Simd, unrolled};

/// Channels of a block. The same on every machine, so that a plan is too; every instruction set has whole registers of it.
pub const BLOCK: usize = 16;

/// Terms of a sum that are neighbours in memory: channels of one block at one tap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Elements from a position's first one to that of the first channel.
    pub(crate) offset: usize,
    /// Channels.
    pub(crate) channels: usize,
}

/// What is made of a sum once it was scaled and added to, while it is in a register.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// What is less than the first is the first, what is more than the second is the second; NaN stays.
    Clamp(f32, f32),
    /// See the row `HardSwish`.
    HardSwish,
}

/// How complete sums end.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    /// What is added first, for every lane of the blocks of filters; null for nothing.
    pub(crate) bias: *const f32,
    /// What is multiplied by then, likewise.
    pub(crate) scale: *const f32,
    /// What is added then, likewise.
    pub(crate) shift: *const f32,
    pub(crate) activation: Activation,
}

/// Ends the sums of `R` positions in `W` registers each, from lane `lane` on.
///
/// # Safety
/// The CPU has `S`, and what the pointers say is there.
#[inline(always)]
pub(super) unsafe fn end<S: Simd, const R: usize, const W: usize>(
    sums: &mut [[S::V; W]; R],
    ending: &Ending,
    lane: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        if !ending.bias.is_null() {
            unrolled!(w < 4 and W => {
                let bias = S::load(ending.bias.add(lane + w * S::LANES));
                unrolled!(r < R => { sums[r][w] = S::add(sums[r][w], bias); });
            });
        }
        if !ending.scale.is_null() {
            unrolled!(w < 4 and W => {
                let scale = S::load(ending.scale.add(lane + w * S::LANES));
                unrolled!(r < R => { sums[r][w] = S::mul(sums[r][w], scale); });
            });
        }
        if !ending.shift.is_null() {
            unrolled!(w < 4 and W => {
                let shift = S::load(ending.shift.add(lane + w * S::LANES));
                unrolled!(r < R => { sums[r][w] = S::add(sums[r][w], shift); });
            });
        }
        match ending.activation {
            Activation::Identity => {}
            Activation::Clamp(low, high) => {
                let (low, high) = (S::splat(low), S::splat(high));
                unrolled!(r < R => {
                    unrolled!(w < 4 and W => {
                        sums[r][w] = S::lesser(high, S::greater(low, sums[r][w]));
                    });
                });
            }
            Activation::HardSwish => {
                let (zero, one) = (S::splat(0.0), S::splat(1.0));
                let (sixth, half) = (S::splat(1.0 / 6.0), S::splat(0.5));
                unrolled!(r < R => {
                    unrolled!(w < 4 and W => {
                        let x = sums[r][w];
                        let share = S::add(S::mul(x, sixth), half);
                        sums[r][w] = S::mul(x, S::lesser(one, S::greater(zero, share)));
                    });
                });
            }
        }
    }
}

/// A few neighbouring outputs of one or two blocks of filters, over some of the terms.
pub(crate) struct Tile {
    /// The first position's elements.
    pub(crate) x: *const f32,
    /// Elements from one position to the next.
    pub(crate) step: usize,
    /// The terms.
    pub(crate) runs: *const Run,
    /// Number of runs.
    pub(crate) count: usize,
    /// For each term the weights of a block of filters.
    pub(crate) w: *const f32,
    /// Elements from one block of filters to the next.
    pub(crate) w_block: usize,
    /// Blocks of filters: as many as fill a row of a tile, or one.
    pub(crate) blocks: usize,
    /// The first output of the first block.
    pub(crate) y: *mut f32,
    /// Elements from one block's outputs to the next one's.
    pub(crate) y_block: usize,
    /// Positions, at most the table's rows.
    pub(crate) positions: usize,
    /// Whether these are the first terms: the outputs are written, not added to.
    pub(crate) first: bool,
    /// What ends the sums, if these are the last terms.
    pub(crate) ending: Option<Ending>,
}

/// Computes one tile.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses the outputs.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd>(t: &Tile) {
    /// Calls the instance for this number of positions.
    macro_rules! positions {
        ($width:expr, $lane:expr, [$($r:literal)*]) => {
            match (t.positions, t.step) {
                // SAFETY: passed on from the caller.
                $(($r, BLOCK) if $r <= S::ROWS => unsafe { sums::<S, $r, $width, BLOCK>(t, $lane) },)*
                // SAFETY: as above.
                $(($r, _) if $r <= S::ROWS => unsafe { sums::<S, $r, $width, 0>(t, $lane) },)*
                _ => unreachable!("a tile has at most as many positions as the table's rows"),
            }
        };
    }
    if t.blocks > 1 {
        return positions!(2, 0, [1 2 3 4 5 6 7 8 9 10 11 12]);
    }
    match BLOCK / S::LANES {
        1 => positions!(1, 0, [1 2 3 4 5 6 7 8 9 10 11 12]),
        2 => positions!(2, 0, [1 2 3 4 5 6]),
        _ if S::WIDTH * S::LANES == BLOCK => positions!(4, 0, [1 2 3 4 5 6]),
        _ => {
            for lane in (0..BLOCK).step_by(2 * S::LANES) {
                positions!(2, lane, [1 2 3 4]);
            }
        }
    }
}

/// The sums of `R` positions in `W` registers each, from lane `lane` of the first block on. Positions are `STEP` elements apart,
/// or as the tile says where that is 0.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize, const W: usize, const STEP: usize>(t: &Tile, lane: usize) {
    let step = if STEP == 0 { t.step } else { STEP };
    let place = |w: usize| ((lane + w * S::LANES) / BLOCK, (lane + w * S::LANES) % BLOCK);
    // SAFETY: reads and writes stay within what the fields say.
    unsafe {
        let output = |r: usize, w: usize| {
            let (block, within) = place(w);
            t.y.add(block * t.y_block + r * BLOCK + within)
        };
        let mut sums = [[S::splat(0.0); W]; R];
        if !t.first {
            unrolled!(r < R => {
                unrolled!(w < 4 and W => { sums[r][w] = S::load(output(r, w)); });
            });
        }
        let mut weights = t.w;
        for i in 0..t.count {
            let run = *t.runs.add(i);
            let x = t.x.add(run.offset);
            for c in 0..run.channels {
                let mut lanes = [S::splat(0.0); W];
                unrolled!(w < 4 and W => {
                    let (block, within) = place(w);
                    lanes[w] = S::load(weights.add(block * t.w_block + within));
                });
                unrolled!(r < R => {
                    let x = S::splat(*x.add(r * step + c));
                    unrolled!(w < 4 and W => { sums[r][w] = S::fma(x, lanes[w], sums[r][w]); });
                });
                weights = weights.add(BLOCK);
            }
        }
        if let Some(ending) = &t.ending {
            end::<S, R, W>(&mut sums, ending, lane);
        }
        unrolled!(r < R => {
            unrolled!(w < 4 and W => { S::store(output(r, w), sums[r][w]); });
        });
    }
}

/// A few neighbouring outputs of one block of channels that are each convolved by themselves.
pub(crate) struct Lanes {
    /// The elements under the first tap of the first position.
    pub(crate) x: *const f32,
    /// Elements from one position to the next.
    pub(crate) step: usize,
    /// Rows of taps and the elements from one to the next.
    pub(crate) rows: (usize, usize),
    /// Taps of a row and the elements from one to the next.
    pub(crate) cols: (usize, usize),
    /// The weights of the first tap.
    pub(crate) w: *const f32,
    /// Elements from one row of weights to the next; those of a row are neighbours.
    pub(crate) w_row: usize,
    /// The outputs.
    pub(crate) y: *mut f32,
    /// Positions, at most the table's rows.
    pub(crate) positions: usize,
    pub(crate) ending: Ending,
}

/// Computes the outputs.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses the outputs.
#[inline(always)]
pub(crate) unsafe fn lanes<S: Simd>(t: &Lanes) {
    /// Calls the instance for this number of positions.
    macro_rules! positions {
        ($width:expr, $lane:expr, [$($r:literal)*]) => {
            match t.positions {
                // SAFETY: passed on from the caller.
                $($r if $r <= S::ROWS => unsafe { each::<S, $r, $width>(t, $lane) },)*
                _ => unreachable!("there are at most as many positions as the table's rows"),
            }
        };
    }
    match BLOCK / S::LANES {
        1 => positions!(1, 0, [1 2 3 4 5 6 7 8 9 10 11 12]),
        _ => {
            for lane in (0..BLOCK).step_by(2 * S::LANES) {
                positions!(2, lane, [1 2 3 4 5 6]);
            }
        }
    }
}

/// `R` positions in `W` registers each, from lane `lane` on.
///
/// # Safety
/// As [`lanes`].
#[inline(always)]
unsafe fn each<S: Simd, const R: usize, const W: usize>(t: &Lanes, lane: usize) {
    // SAFETY: reads and writes stay within what the fields say.
    unsafe {
        let mut sums = [[S::splat(0.0); W]; R];
        for kh in 0..t.rows.0 {
            for kw in 0..t.cols.0 {
                let weights = t.w.add(kh * t.w_row + kw * BLOCK + lane);
                let x = t.x.add(kh * t.rows.1 + kw * t.cols.1 + lane);
                unrolled!(w < 4 and W => {
                    let weight = S::load(weights.add(w * S::LANES));
                    unrolled!(r < R => {
                        let x = S::load(x.add(r * t.step + w * S::LANES));
                        sums[r][w] = S::fma(x, weight, sums[r][w]);
                    });
                });
            }
        }
        end::<S, R, W>(&mut sums, &t.ending, lane);
        unrolled!(r < R => {
            unrolled!(w < 4 and W => {
                S::store(t.y.add(r * BLOCK + lane + w * S::LANES), sums[r][w]);
            });
        });
    }
}

/// Neighbouring windows over one block of channels.
pub(crate) struct Greatest {
    /// The elements under the first tap of the first window.
    pub(crate) x: *const f32,
    /// Elements from one window to the next.
    pub(crate) step: usize,
    /// Rows of taps, at least one, and the elements from one to the next.
    pub(crate) rows: (usize, usize),
    /// Taps of a row, at least one, and the elements from one to the next.
    pub(crate) cols: (usize, usize),
    /// The outputs.
    pub(crate) y: *mut f32,
    /// Windows.
    pub(crate) positions: usize,
}

/// Writes the greatest element of every window, the first of equal ones. `false` if there may be a NaN: what was written then says
/// nothing.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses the outputs.
#[inline(always)]
pub(crate) unsafe fn greatest<S: Simd>(t: &Greatest) -> bool {
    // SAFETY: reads and writes stay within what the fields say.
    unsafe {
        // The sum of all elements is NaN if one is, or if both infinities are among them.
        let mut sum = S::splat(0.0);
        for position in 0..t.positions {
            for lane in (0..BLOCK).step_by(S::LANES) {
                let x = t.x.add(position * t.step + lane);
                let mut most = S::load(x);
                for kh in 0..t.rows.0 {
                    for kw in 0..t.cols.0 {
                        let x = S::load(x.add(kh * t.rows.1 + kw * t.cols.1));
                        most = S::greater(x, most);
                        sum = S::add(sum, x);
                    }
                }
                S::store(t.y.add(position * BLOCK + lane), most);
            }
        }
        !S::sum(sum).is_nan()
    }
}
