//! Folding elements along any set of axes, in an order that depends on shapes alone.

use crate::OpError;
use crate::convert::{Calc, cast};
use crate::cpu::{TensorMut, TensorRef};
use crate::parallel::pieces;
use crate::wide::{Loop, wide};
use engine_format::Element;

/// Runs of kept or of reduced axes that a fold can hold; more than any model has.
const MAX_RUNS: usize = 8;
/// Sums that run side by side through contiguous elements. Fixed, so that the result is the same on every machine.
const LANES: usize = 16;
/// Columns that are folded together where the innermost axis is kept.
const COLUMNS: usize = 64;

/// Adjacent axes that are all kept or all reduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub size: usize,
    pub stride: usize,
}

/// The axes of an operand, merged into runs, innermost first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    runs: [Run; MAX_RUNS],
    used: usize,
    len: usize,
}

impl Runs {
    fn push(&mut self, size: usize, stride: usize) -> Result<(), OpError> {
        self.len *= size;
        if let Some(last) = self.runs[..self.used].last_mut()
            && last.size * last.stride == stride
        {
            last.size *= size;
            return Ok(());
        }
        if self.used == MAX_RUNS {
            return Err(OpError::new(format!("axes alternate more than {MAX_RUNS} times")));
        }
        self.runs[self.used] = Run { size, stride };
        self.used += 1;
        Ok(())
    }

    /// The runs, innermost first; never none.
    pub fn get(&self) -> &[Run] {
        &self.runs[..self.used]
    }

    /// How many positions they have.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where position `index` is in the operand, not counting the innermost `skip` runs.
    #[inline(always)]
    fn offset(&self, mut index: usize, skip: usize) -> usize {
        let mut at = 0;
        for run in &self.get()[skip..] {
            at += index % run.size * run.stride;
            index /= run.size;
        }
        at
    }
}

/// What is folded into what.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    pub kept: Runs,
    pub reduced: Runs,
}

impl Reduction {
    /// The fold of an operand of this shape along the axes for which `reduce` says so.
    pub fn new(shape: &[usize], reduce: impl Fn(usize) -> bool) -> Result<Self, OpError> {
        let mut kept = Runs { len: 1, ..Runs::default() };
        let mut reduced = kept.clone();
        let mut stride = 1;
        for (axis, &size) in shape.iter().enumerate().rev() {
            let runs = if reduce(axis) { &mut reduced } else { &mut kept };
            if size != 1 {
                runs.push(size, stride)?;
            }
            stride *= size;
        }
        for runs in [&mut kept, &mut reduced] {
            if runs.used == 0 {
                runs.runs[0] = Run { size: 1, stride: 0 };
                runs.used = 1;
            }
        }
        Ok(Self { kept, reduced })
    }

    /// Whether neighbours in memory are folded together.
    pub fn contiguous(&self) -> bool {
        self.reduced.get()[0].stride == 1
    }
}

/// One way to fold.
pub(crate) trait Fold<W>: Copy + Sync {
    /// What nothing folds to.
    fn start(self) -> W;
    /// Folds in an element.
    fn step(self, so_far: W, x: W) -> W;
    /// Folds two folds.
    fn merge(self, a: W, b: W) -> W;
}

/// A fold made of its three functions.
#[derive(Clone, Copy)]
pub(crate) struct Folded<W, S, M> {
    pub start: W,
    pub step: S,
    pub merge: M,
}

impl<W, S, M> Fold<W> for Folded<W, S, M>
where
    W: Copy + Sync,
    S: Fn(W, W) -> W + Copy + Sync,
    M: Fn(W, W) -> W + Copy + Sync,
{
    #[inline(always)]
    fn start(self) -> W {
        self.start
    }
    #[inline(always)]
    fn step(self, so_far: W, x: W) -> W {
        (self.step)(so_far, x)
    }
    #[inline(always)]
    fn merge(self, a: W, b: W) -> W {
        (self.merge)(a, b)
    }
}

/// Folds contiguous elements into `LANES` folds side by side, which are then merged pairwise.
struct Lanes<'a, W, F> {
    lanes: &'a mut [W; LANES],
    x: &'a [W],
    fold: F,
}

impl<W: Copy, F: Fold<W>> Loop for Lanes<'_, W, F> {
    #[inline(always)]
    fn run(self) {
        let Self { lanes, x, fold } = self;
        let mut held = *lanes;
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for (lane, &x) in held.iter_mut().zip(block) {
                *lane = fold.step(*lane, x);
            }
        }
        for (lane, &x) in held.iter_mut().zip(rest) {
            *lane = fold.step(*lane, x);
        }
        *lanes = held;
    }
}

/// Folds one contiguous slice.
#[inline]
pub(crate) fn fold_slice<W: Copy>(x: &[W], fold: impl Fold<W>) -> W {
    let mut lanes = [fold.start(); LANES];
    wide(Lanes { lanes: &mut lanes, x, fold });
    merge(lanes, fold)
}

/// The same inside a loop that is compiled for wide vectors.
#[inline(always)]
pub(crate) fn fold_here<W: Copy>(x: &[W], fold: impl Fold<W>) -> W {
    let mut lanes = [fold.start(); LANES];
    Lanes { lanes: &mut lanes, x, fold }.run();
    merge(lanes, fold)
}

#[inline(always)]
fn merge<W: Copy>(mut lanes: [W; LANES], fold: impl Fold<W>) -> W {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = fold.merge(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Folds rows of columns into one row. Columns are taken in numbers that registers hold as long as there are so many.
struct Columns<'a, W, F> {
    sums: &'a mut [W],
    /// From the first row's first column on.
    x: &'a [W],
    rows: &'a Runs,
    fold: F,
}

impl<W: Copy, F: Fold<W>> Loop for Columns<'_, W, F> {
    #[inline(always)]
    fn run(self) {
        let Self { sums, x, rows, fold } = self;
        // Nothing is read where nothing is folded.
        let from = |column: usize| x.get(column..).unwrap_or_default();
        let (many, rest) = sums.as_chunks_mut::<COLUMNS>();
        let at = many.len() * COLUMNS;
        let (some, rest) = rest.as_chunks_mut::<LANES>();
        for (i, many) in many.iter_mut().enumerate() {
            *many = held(from(i * COLUMNS), rows, fold);
        }
        for (i, some) in some.iter_mut().enumerate() {
            *some = held(from(at + i * LANES), rows, fold);
        }
        let at = at + some.len() * LANES;
        for (i, sum) in rest.iter_mut().enumerate() {
            [*sum] = held(from(at + i), rows, fold);
        }
    }
}

/// Folds the first `N` elements of every row.
#[inline(always)]
fn held<W: Copy, const N: usize>(x: &[W], rows: &Runs, fold: impl Fold<W>) -> [W; N] {
    let mut sums = [fold.start(); N];
    let inner = rows.get()[0];
    for outer in 0..rows.len().checked_div(inner.size).unwrap_or(0) {
        let from = rows.offset(outer, 1);
        for i in 0..inner.size {
            let row = &x[from + i * inner.stride..][..N];
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum = fold.step(*sum, x);
            }
        }
    }
    sums
}

/// Folds `x` into `y`, which has as many elements as there are kept positions.
pub(crate) fn reduce<W: Element + Copy>(
    plan: &Reduction,
    x: &[W],
    y: &mut [W],
    fold: impl Fold<W>,
) {
    let count = plan.reduced.len();
    if plan.contiguous() || plan.kept.get()[0].stride != 1 {
        pieces(y, 1, count, |start, y| {
            for (i, y) in y.iter_mut().enumerate() {
                *y = fold_runs(plan, x, plan.kept.offset(start + i, 0), fold);
            }
        });
        return;
    }
    let width = plan.kept.get()[0].size;
    // Pieces of one column would read every line of memory as often as it has columns.
    pieces(y, LANES, count, |start, y| {
        let mut at = 0;
        while at < y.len() {
            let column = (start + at) % width;
            let n = (width - column).min(y.len() - at);
            let base = plan.kept.offset((start + at) / width, 1) + column;
            wide(Columns {
                sums: &mut y[at..at + n],
                x: x.get(base..).unwrap_or_default(),
                rows: &plan.reduced,
                fold,
            });
            at += n;
        }
    });
}

/// Folds what belongs to the kept position `index`.
pub(crate) fn fold_at<W: Copy>(plan: &Reduction, x: &[W], index: usize, fold: impl Fold<W>) -> W {
    fold_runs(plan, x, plan.kept.offset(index, 0), fold)
}

/// Folds everything that belongs to the kept position at `base`.
fn fold_runs<W: Copy>(plan: &Reduction, x: &[W], base: usize, fold: impl Fold<W>) -> W {
    let inner = plan.reduced.get()[0];
    if plan.reduced.len() == 0 {
        return fold.start();
    }
    let mut lanes = [fold.start(); LANES];
    for outer in 0..plan.reduced.len() / inner.size {
        let from = base + plan.reduced.offset(outer, 1);
        if inner.stride <= 1 {
            let x = &x[from..from + inner.size];
            wide(Lanes { lanes: &mut lanes, x, fold });
            continue;
        }
        for i in 0..inner.size {
            let lane = &mut lanes[i % LANES];
            *lane = fold.step(*lane, x[from + i * inner.stride]);
        }
    }
    merge(lanes, fold)
}

/// Bytes of scratch with which [`in_calc`] holds operand and result as `W`.
pub(crate) fn calc_scratch<W>(x: usize, y: usize) -> usize {
    (x + y) * size_of::<W>()
}

/// Calls `work` with the operand and the result as slices of `W`: themselves if that is their type, else converted in scratch.
pub(crate) fn in_calc<W: Calc>(
    x: TensorRef<'_>,
    y: &mut TensorMut<'_>,
    scratch: &mut [u8],
    work: impl FnOnce(&[W], &mut [W]) -> Result<(), OpError>,
) -> Result<(), OpError> {
    if x.dtype == W::DTYPE && y.dtype == W::DTYPE {
        return work(x.slice::<W>(), y.slice::<W>());
    }
    let outputs = y.bytes.len() / y.dtype.width();
    let (xs, ys) =
        scratch[..calc_scratch::<W>(x.len(), outputs)].split_at_mut(x.len() * size_of::<W>());
    cast(x, &mut TensorMut { dtype: W::DTYPE, shape: x.shape, bytes: xs });
    work(bytemuck::cast_slice(xs), bytemuck::cast_slice_mut(ys))?;
    cast(TensorRef { dtype: W::DTYPE, shape: y.shape, bytes: ys }, y);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(shape: &[usize], axes: &[usize]) -> (Vec<Run>, Vec<Run>) {
        let plan = Reduction::new(shape, |a| axes.contains(&a)).unwrap();
        (plan.kept.get().to_vec(), plan.reduced.get().to_vec())
    }

    #[test]
    fn adjacent_axes_merge() {
        let run = |size, stride| Run { size, stride };
        assert_eq!(runs(&[2, 3, 4, 5], &[2, 3]), (vec![run(6, 20)], vec![run(20, 1)]));
        let alternating = (vec![run(5, 1), run(3, 20)], vec![run(4, 5), run(2, 60)]);
        assert_eq!(runs(&[2, 3, 4, 5], &[0, 2]), alternating);
        assert_eq!(runs(&[4], &[0]), (vec![run(1, 0)], vec![run(4, 1)]));
    }

    #[test]
    fn sums_along_every_set_of_axes_are_the_sums_of_the_elements() {
        let shape = [3usize, 5, 70, 4];
        let strides = [1400usize, 280, 4, 1];
        let x: Vec<i64> =
            (0..shape.iter().product::<usize>() as i64).map(|i| i * i % 977).collect();
        for set in 0..16u32 {
            let reduced = |axis: usize| set >> axis & 1 == 1;
            let plan = Reduction::new(&shape, reduced).unwrap();
            let mut expected = vec![0i64; plan.kept.len()];
            for (i, v) in x.iter().enumerate() {
                let index = (0..4).fold(0, |index, axis| {
                    let at = i / strides[axis] % shape[axis];
                    if reduced(axis) { index } else { index * shape[axis] + at }
                });
                expected[index] += v;
            }
            let mut y = vec![0i64; plan.kept.len()];
            let add = |a: i64, b: i64| a + b;
            reduce(&plan, &x, &mut y, Folded { start: 0, step: add, merge: add });
            assert_eq!(y, expected, "axes {set:04b}");
        }
    }
}
