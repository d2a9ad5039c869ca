//! NumPy broadcasting over dense row-major operands, with adjacent axes merged where all operands allow it.

use crate::OpError;
use crate::parallel::pieces;
use crate::wide::{Loop, wide};
use engine_format::Element;

/// Axes left after merging that a walk can hold; models stay below it by far.
const MAX_AXES: usize = 16;

/// One axis of the result and how far each operand moves along it, in elements; 0 where the operand is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis<const N: usize> {
    pub size: usize,
    pub strides: [usize; N],
}

/// How `N` operands are walked to make one result.
#[derive(Clone, Debug)]
pub(crate) struct Broadcast<const N: usize> {
    axes: [Axis<N>; MAX_AXES],
    used: usize,
}

impl<const N: usize> Broadcast<N> {
    /// The walk for operands of these shapes to a result of shape `out`, to which they must broadcast.
    pub fn new(out: &[usize], operands: [&[usize]; N]) -> Result<Self, OpError> {
        if let Some(k) = operands.iter().position(|shape| {
            // Axes in front of the result's own may be there where they are of one element.
            let more = shape.len().saturating_sub(out.len());
            shape[..more].iter().any(|&size| size != 1)
        }) {
            let shape = operands[k];
            return Err(OpError::new(format!(
                "operand {k} has shape {shape:?}, which has more axes than {out:?}"
            )));
        }
        let one = Axis { size: 1, strides: [0; N] };
        let mut walk = Self { axes: [one; MAX_AXES], used: 0 };
        let mut strides = [1usize; N];
        // Built from the innermost axis outwards, merging each axis into the one before it.
        for (back, &size) in out.iter().rev().enumerate() {
            let mut axis = Axis { size, strides: [0; N] };
            for (k, shape) in operands.iter().enumerate() {
                let dim = shape.len().checked_sub(back + 1).map_or(1, |i| shape[i]);
                if dim != size && dim != 1 {
                    return Err(OpError::new(format!(
                        "operand {k} has shape {shape:?}, which does not broadcast to {out:?}"
                    )));
                }
                if dim != 1 {
                    axis.strides[k] = strides[k];
                    strides[k] *= dim;
                }
            }
            if size != 1 {
                walk.push(axis)?;
            }
        }
        walk.used = walk.used.max(1);
        Ok(walk)
    }

    fn push(&mut self, axis: Axis<N>) -> Result<(), OpError> {
        if let Some(inner) = self.axes[..self.used].last_mut() {
            let follows = |k: usize| axis.strides[k] == inner.strides[k] * inner.size;
            if (0..N).all(follows) {
                inner.size *= axis.size;
                return Ok(());
            }
        }
        if self.used == MAX_AXES {
            return Err(OpError::new(format!("broadcasting over more than {MAX_AXES} axes")));
        }
        self.axes[self.used] = axis;
        self.used += 1;
        Ok(())
    }

    /// The merged axes, innermost first; never none.
    pub fn axes(&self) -> &[Axis<N>] {
        &self.axes[..self.used]
    }

    /// Calls `f(start, len, offsets)` for each run along the innermost axis within elements `from..to` of the result.
    #[inline(always)]
    pub fn runs(&self, from: usize, to: usize, mut f: impl FnMut(usize, usize, [usize; N])) {
        if from >= to {
            return;
        }
        let ([inner, outer @ ..], mut at) = (&self.axes, from);
        let outer = &outer[..self.used - 1];
        let mut within = at % inner.size;
        // Where the run's first element is: on each of the outer axes, and in each operand.
        let (mut places, mut starts) = ([0; MAX_AXES], [0; N]);
        let mut rest = at / inner.size;
        for (place, axis) in places.iter_mut().zip(outer) {
            *place = rest % axis.size;
            rest /= axis.size;
            for (start, stride) in starts.iter_mut().zip(axis.strides) {
                *start += *place * stride;
            }
        }
        loop {
            let len = (inner.size - within).min(to - at);
            let mut offsets = starts;
            for (offset, stride) in offsets.iter_mut().zip(inner.strides) {
                *offset += stride * within;
            }
            f(at, len, offsets);
            at += len;
            if at >= to {
                return;
            }
            within = 0;
            for (place, axis) in places.iter_mut().zip(outer) {
                *place += 1;
                let wraps = *place == axis.size;
                let back = if wraps { std::mem::take(place) - 1 } else { 0 };
                for (start, stride) in starts.iter_mut().zip(axis.strides) {
                    *start = if wraps { *start - back * stride } else { *start + stride };
                }
                if !wraps {
                    break;
                }
            }
        }
    }
}

/// Elements that [`cycle2`] handles at once.
const CYCLES: usize = 512;

impl Broadcast<1> {
    /// Where the operand starts over along the second axis, as a factor for each channel does over an image in blocks of channels: the
    /// walk with both axes as one, whose runs all begin where the operand does, and the length of the first.
    pub(crate) fn cycled(&self) -> Option<(Self, usize)> {
        let [inner, next, outer @ ..] = self.axes() else { return None };
        if inner.size > CYCLES / 8 || inner.strides != [1] || next.strides != [0] {
            return None;
        }
        let mut walk = self.clone();
        walk.used -= 1;
        walk.axes[0] = Axis { size: inner.size * next.size, strides: [0] };
        walk.axes[1..walk.used].copy_from_slice(outer);
        Some((walk, inner.size))
    }
}

impl Broadcast<2> {
    /// Where operand `k`, and it alone, starts over along the second axis, as a factor for each channel does over an image in
    /// blocks of channels: the walk with both axes as one, along which the operand is repeated, and the length of the first.
    /// The operand that starts over is the second one of that walk. Only for short first axes; others are runs by themselves.
    fn cycled(&self, k: usize) -> Option<(Self, usize)> {
        let [inner, next, outer @ ..] = self.axes() else { return None };
        let starts_over = next.strides[k] == 0 && next.strides[1 - k] == inner.size;
        if inner.size > CYCLES / 8 || inner.strides != [1, 1] || !starts_over {
            return None;
        }
        let mut walk = self.clone();
        walk.used -= 1;
        walk.axes[0] = Axis { size: inner.size * next.size, strides: [1, 0] };
        for (to, axis) in walk.axes[1..].iter_mut().zip(outer) {
            *to = Axis { size: axis.size, strides: [axis.strides[1 - k], axis.strides[k]] };
        }
        Some((walk, inner.size))
    }
}

/// An operand and its shape.
#[derive(Clone, Copy)]
pub(crate) struct Shaped<'a, T> {
    pub shape: &'a [usize],
    pub data: &'a [T],
}

/// The part of an operand that a run reads: `len` elements, or the one that is repeated.
#[inline(always)]
fn part<T>(data: &[T], offset: usize, stride: usize, len: usize) -> &[T] {
    &data[offset..offset + if stride == 0 { 1 } else { len }]
}

/// A kernel over one run: each operand has as many elements as the result, or one that is repeated.
type Run2<'a, A, B, Y> = &'a (dyn Fn(&[A], &[B], &mut [Y]) + Sync);

/// `y = f(a, b)` with broadcasting.
pub(crate) fn zip2<A: Element, B: Element, Y: Element>(
    shape: &[usize],
    y: &mut [Y],
    a: Shaped<'_, A>,
    b: Shaped<'_, B>,
    f: impl Fn(A, B) -> Y + Sync,
) -> Result<(), OpError> {
    walk2(shape, y, a, b, &|a, b, y| wide(Zip2 { y, a, b, f: &f }))
}

fn walk2<A: Element, B: Element, Y: Element>(
    shape: &[usize],
    y: &mut [Y],
    a: Shaped<'_, A>,
    b: Shaped<'_, B>,
    kernel: Run2<'_, A, B, Y>,
) -> Result<(), OpError> {
    let walk = Broadcast::new(shape, [a.shape, b.shape])?;
    if let Some((walk, period)) = walk.cycled(0) {
        let flipped = |b: &[B], a: &[A], y: &mut [Y]| kernel(a, b, y);
        cycle2(y, &walk, period, (b.data, a.data), &flipped);
        return Ok(());
    }
    if let Some((walk, period)) = walk.cycled(1) {
        cycle2(y, &walk, period, (a.data, b.data), kernel);
        return Ok(());
    }
    let [sa, sb] = walk.axes[0].strides;
    pieces(y, 1, 1, |start, y| {
        walk.runs(start, start + y.len(), |at, len, [oa, ob]| {
            let y = &mut y[at - start..at - start + len];
            kernel(part(a.data, oa, sa, len), part(b.data, ob, sb, len), y);
        });
    });
    Ok(())
}

/// [`walk2`] where the second operand starts over after every `period` elements; the walk is that of [`Broadcast::cycled`].
fn cycle2<A: Element, B: Element, Y: Element>(
    y: &mut [Y],
    walk: &Broadcast<2>,
    period: usize,
    (a, b): (&[A], &[B]),
    kernel: Run2<'_, A, B, Y>,
) {
    let whole = CYCLES / period * period;
    // Pieces of whole periods, so that every run begins with one.
    pieces(y, period, 1, |start, y| {
        walk.runs(start, start + y.len(), |at, len, [oa, ob]| {
            let mut cycles = [b[ob]; CYCLES];
            for cycle in cycles[..whole.min(len)].chunks_exact_mut(period) {
                cycle.copy_from_slice(&b[ob..ob + period]);
            }
            let y = y[at - start..at - start + len].chunks_mut(whole);
            for (a, y) in a[oa..oa + len].chunks(whole).zip(y) {
                kernel(a, &cycles[..a.len()], y);
            }
        });
    });
}

struct Zip2<'a, A, B, Y, F> {
    y: &'a mut [Y],
    a: &'a [A],
    b: &'a [B],
    f: &'a F,
}

impl<A: Copy, B: Copy, Y, F: Fn(A, B) -> Y> Loop for Zip2<'_, A, B, Y, F> {
    #[inline(always)]
    fn run(self) {
        let Self { y, a, b, f } = self;
        match (a, b) {
            (a, &[b]) => a.iter().zip(y).for_each(|(&a, y)| *y = f(a, b)),
            (&[a], b) => b.iter().zip(y).for_each(|(&b, y)| *y = f(a, b)),
            (a, b) => a.iter().zip(b).zip(y).for_each(|((&a, &b), y)| *y = f(a, b)),
        }
    }
}

/// `y = c ? a : b` with broadcasting.
pub(crate) fn choose<T: Element>(
    shape: &[usize],
    y: &mut [T],
    c: Shaped<'_, u8>,
    a: Shaped<'_, T>,
    b: Shaped<'_, T>,
) -> Result<(), OpError> {
    let walk = Broadcast::new(shape, [c.shape, a.shape, b.shape])?;
    let [sc, sa, sb] = walk.axes[0].strides;
    pieces(y, 1, 1, |start, y| {
        walk.runs(start, start + y.len(), |at, len, [oc, oa, ob]| {
            let y = &mut y[at - start..at - start + len];
            let (a, b) = (part(a.data, oa, sa, len), part(b.data, ob, sb, len));
            choose_run(y, part(c.data, oc, sc, len), a, b);
        });
    });
    Ok(())
}

fn choose_run<T: Copy>(y: &mut [T], c: &[u8], a: &[T], b: &[T]) {
    let pick = |c: u8, a: T, b: T| if c != 0 { a } else { b };
    match (c, a, b) {
        (&[c], a, b) => match if c != 0 { a } else { b } {
            &[one] => y.fill(one),
            all => y.copy_from_slice(all),
        },
        (c, &[a], &[b]) => c.iter().zip(y).for_each(|(&c, y)| *y = pick(c, a, b)),
        (c, a, &[b]) => c.iter().zip(a).zip(y).for_each(|((&c, &a), y)| *y = pick(c, a, b)),
        (c, &[a], b) => c.iter().zip(b).zip(y).for_each(|((&c, &b), y)| *y = pick(c, a, b)),
        (c, a, b) => {
            let rows = c.iter().zip(a).zip(b).zip(y);
            rows.for_each(|(((&c, &a), &b), y)| *y = pick(c, a, b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes<const N: usize>(out: &[usize], shapes: [&[usize]; N]) -> Vec<(usize, [usize; N])> {
        let walk = Broadcast::new(out, shapes).expect("shapes broadcast");
        walk.axes().iter().map(|a| (a.size, a.strides)).collect()
    }

    #[test]
    fn equal_shapes_become_one_axis() {
        assert_eq!(sizes(&[2, 3, 4], [&[2, 3, 4], &[2, 3, 4]]), [(24, [1, 1])]);
    }

    #[test]
    fn a_channel_bias_keeps_three_axes() {
        let found = sizes(&[2, 3, 4, 5], [&[2, 3, 4, 5], &[3, 1, 1]]);
        assert_eq!(found, [(20, [1, 0]), (3, [20, 1]), (2, [60, 0])]);
    }

    /// By the definition, one element after the other.
    fn plain(shape: [usize; 3], [a, b]: [(&[usize], &[f32]); 2]) -> Vec<f32> {
        let at = |(dims, data): (&[usize], &[f32]), place: [usize; 3]| {
            let steps = dims.iter().zip(place);
            data[steps.fold(0, |at, (&dim, place)| at * dim + if dim == 1 { 0 } else { place })]
        };
        let [d, h, w] = shape;
        let places = (0..d * h * w).map(|i| [i / (h * w), i / w % h, i % w]);
        places.map(|place| at(a, place) - 2.0 * at(b, place)).collect()
    }

    #[test]
    fn an_operand_that_starts_over_reads_the_right_elements() {
        let data: Vec<f32> = (0..200_000).map(|i| (i % 10_007) as f32).collect();
        for shape in [[5, 700, 16], [3, 41, 7], [2, 3, 64], [2, 900, 65], [1, 2, 2], [4, 1, 16]] {
            let [d, h, w] = shape;
            for once in [[d, 1, w], [1, 1, w], [1, h, w]] {
                let (all, once) = ((&shape[..], &data[..d * h * w]), (&once[..], &data[..]));
                let once = (once.0, &once.1[..once.0.iter().product()]);
                for [a, b] in [[all, once], [once, all]] {
                    let mut y = vec![f32::NAN; d * h * w];
                    let [x, z] = [a, b].map(|(shape, data)| Shaped { shape, data });
                    zip2(&shape, &mut y, x, z, |a: f32, b: f32| a - 2.0 * b).unwrap();
                    assert!(y == plain(shape, [a, b]), "{shape:?}: {:?} and {:?}", a.0, b.0);
                }
            }
        }
    }

    #[test]
    fn both_operands_may_be_repeated() {
        assert_eq!(sizes(&[3, 2], [&[3, 1], &[1, 2]]), [(2, [0, 1]), (3, [1, 0])]);
        assert_eq!(sizes(&[], [&[], &[1]]), [(1, [0, 0])]);
    }

    #[test]
    fn shapes_that_do_not_broadcast_are_refused() {
        assert!(Broadcast::new(&[2, 3], [&[2, 2]]).is_err());
        assert!(Broadcast::new(&[1], [&[0, 1]]).is_err());
    }

    #[test]
    fn pieces_that_begin_within_a_run_read_the_right_elements() {
        let (rows, columns) = (7usize, 5003usize);
        let a: Vec<i32> = (0..rows as i32).collect();
        let b: Vec<i32> = (0..columns as i32).collect();
        let mut y = vec![0; rows * columns];
        let (sa, sb) = ([rows, 1], [columns]);
        let (a, b) = (Shaped { shape: &sa, data: &a }, Shaped { shape: &sb, data: &b });
        zip2(&[rows, columns], &mut y, a, b, |a, b| a * 10_000 + b).expect("shapes broadcast");
        for (i, &y) in y.iter().enumerate() {
            assert_eq!(y as usize, i / columns * 10_000 + i % columns);
        }
    }
}
