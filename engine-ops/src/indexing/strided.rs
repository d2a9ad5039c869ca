//! Copies between strided layouts: the one mover behind Transpose, Slice, Expand, Tile, Concat, Split and their kin.
//! An operator says which loops its copy has; this file simplifies them and runs them on both devices.

use crate::cpu::{CpuStep, planned};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuLimits, GpuProgram, render, words};
use crate::{OpError, for_size, parallel};
use engine_format::DType;

/// One loop of a copy: how many steps, and how far a step goes on either side, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loop {
    /// Steps.
    pub size: usize,
    /// Distance in the source: 0 repeats, a negative one reverses.
    pub from: isize,
    /// Distance in the destination.
    pub to: usize,
}

/// A copy. Loops go from the outermost to the innermost, as the destination lies in memory: an inner loop stays inside one
/// step of the loop around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StridedCopy {
    from: isize,
    to: usize,
    loops: Vec<Loop>,
}

/// Copies of a step: from an operand, to a result.
pub(crate) type Copies = Vec<(usize, usize, StridedCopy)>;

/// The step that makes copies.
pub(crate) fn copies(copies: Copies) -> Result<Box<dyn CpuStep>, OpError> {
    planned(copies, 0, |copies, ctx| {
        for (from, to, copy) in copies {
            let (Some(x), Some(y)) = (ctx.opt_input(*from), &mut ctx.outputs[*to]) else {
                continue;
            };
            for_size!(x.dtype, T => copy.run(x.raw::<T>(), y.raw::<T>()));
        }
        Ok(())
    })
}

/// The step that makes one, from the first operand to the first result.
pub(crate) fn one(copy: StridedCopy) -> Result<Box<dyn CpuStep>, OpError> {
    copies(vec![(0, 0, copy)])
}

/// Elements that are worth a task of their own.
const GRAIN: usize = 32 * 1024;
/// Side of the square that a transposition moves at a time, so that both sides stay in the first-level cache.
const TILE: usize = 32;
/// Loops that the shader has room for.
const GPU_LOOPS: usize = 12;

/// Distances between neighbours along each axis of a dense row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// Where each element of a tensor of shape `shape`, in row-major order, lies under these distances.
pub(crate) fn offsets<'a>(
    shape: &'a [usize],
    distances: &'a [usize],
) -> impl Iterator<Item = usize> + 'a {
    let mut at = vec![0; shape.len()];
    let mut offset = 0;
    (0..shape.iter().product()).map(move |_| {
        let here = offset;
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            offset += distances[axis];
            if at[axis] < shape[axis] {
                break;
            }
            offset -= distances[axis] * at[axis];
            at[axis] = 0;
        }
        here
    })
}

impl StridedCopy {
    /// The copy with these loops that starts at these elements.
    pub fn new(from: isize, to: usize, loops: impl IntoIterator<Item = Loop>) -> Self {
        let mut merged: Vec<Loop> = Vec::new();
        for inner in loops {
            if inner.size == 1 {
                continue;
            }
            match merged.last_mut() {
                Some(outer)
                    if outer.from == inner.from * inner.size as isize
                        && outer.to == inner.to * inner.size =>
                {
                    *outer = Loop { size: outer.size * inner.size, ..inner };
                }
                _ => merged.push(inner),
            }
        }
        Self { from, to, loops: merged }
    }

    /// The copy that fills a dense tensor of shape `shape`, reading the source with these distances.
    pub fn gather(shape: &[usize], from: isize, distances: &[isize]) -> Self {
        let loops = shape
            .iter()
            .zip(distances)
            .zip(strides(shape))
            .map(|((&size, &from), to)| Loop { size, from, to });
        Self::new(from, 0, loops)
    }

    fn len(&self) -> usize {
        self.loops.iter().map(|l| l.size).product()
    }

    /// Runs it on the CPU.
    pub fn run<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T]) {
        if self.len() > 0 {
            copy(from, self.from, &mut to[self.to..], &self.loops);
        }
    }

    /// Adds its dispatch to a program; false if this copy is not for the GPU (an element type that is not kept there, more
    /// loops or elements than the shader counts).
    #[must_use]
    pub fn record(
        &self,
        program: &mut GpuProgram,
        label: &'static str,
        dtype: DType,
        (from, to): (Bind, Bind),
        limits: &GpuLimits,
    ) -> bool {
        let Some(width) = words(dtype) else { return false };
        if self.len() == 0 {
            return true;
        }
        let words = self.wide(width);
        let quads = words.quads();
        let (element, copied) = match &quads {
            Some(quads) => ("vec4<u32>", quads),
            None => ("u32", &words),
        };
        let Some(params) = copied.params() else { return false };
        // What the same program writes is bound for writing wherever it is read.
        let access = if matches!(from, Bind::Scratch(_)) { "read_write" } else { "read" };
        let values = [("access", access), ("element", element)];
        program.dispatches.push(Dispatch {
            rounds: FEW_ROUNDS,
            label: label.into(),
            wgsl: render(include_str!("strided.wgsl"), &values).into(),
            binds: vec![from, to],
            groups: limits.linear(copied.len(), 256),
            params,
        });
        true
    }

    /// The program that does this copy alone, from the first operand to the first result.
    pub fn program(
        &self,
        label: &'static str,
        dtype: DType,
        limits: &GpuLimits,
    ) -> Option<GpuProgram> {
        let mut program = GpuProgram { dispatches: Vec::new(), scratch: Vec::new() };
        self.record(&mut program, label, dtype, (Bind::In(0), Bind::Out(0)), limits)
            .then_some(program)
    }

    /// The same copy counted in words of which an element has `width`.
    fn wide(&self, width: usize) -> Self {
        let scale =
            |l: &Loop| Loop { size: l.size, from: l.from * width as isize, to: l.to * width };
        let element = Loop { size: width, from: 1, to: 1 };
        Self::new(
            self.from * width as isize,
            self.to * width,
            self.loops.iter().map(scale).chain([element]),
        )
    }

    /// The same copy counted in vectors of four, where four neighbours always stay together and begin at a multiple of four.
    fn quads(&self) -> Option<Self> {
        let whole = |n: isize| n % 4 == 0;
        let (line, outer) = self.loops.split_last()?;
        let apart = |l: &Loop| whole(l.from) && l.to.is_multiple_of(4);
        let together = line.from == 1 && line.to == 1 && line.size.is_multiple_of(4);
        if !together || !whole(self.from) || !self.to.is_multiple_of(4) || !outer.iter().all(apart)
        {
            return None;
        }
        let fewer = |l: &Loop| Loop { size: l.size, from: l.from / 4, to: l.to / 4 };
        let line = Loop { size: line.size / 4, ..*line };
        let loops = outer.iter().map(fewer).chain([line]).collect();
        Some(Self { from: self.from / 4, to: self.to / 4, loops })
    }

    /// What `strided.wgsl` takes. Distances wrap: negative ones are added as 2^32 − d.
    fn params(&self) -> Option<Vec<u32>> {
        if self.loops.len() > GPU_LOOPS {
            return None;
        }
        let distance = |d: isize| i32::try_from(d).ok().map(|d| d as u32);
        let number = |n: usize| u32::try_from(n).ok();
        let mut out = vec![
            number(self.len())?,
            self.loops.len() as u32,
            distance(self.from)?,
            number(self.to)?,
        ];
        for l in self.loops.iter().rev() {
            out.extend([number(l.size)?, distance(l.from)?, number(l.to)?, 0]);
        }
        out.resize(4 + 4 * GPU_LOOPS, 0);
        Some(out)
    }
}

fn copy<T: Copy + Send + Sync>(from: &[T], at: isize, to: &mut [T], loops: &[Loop]) {
    match loops {
        [] => to[0] = from[at as usize],
        [line] => copy_line(from, at, to, *line),
        [rows, columns] if rows.from == 1 && columns.to == 1 && columns.from != 1 => {
            transpose(from, at, to, *rows, *columns);
        }
        [outer, inner @ ..] => {
            let each: usize = inner.iter().map(|l| l.size).product();
            let step = |(i, to): (usize, &mut [T])| {
                copy(from, at + i as isize * outer.from, to, inner);
            };
            let at_once = parallel::at_once(each);
            let pieces = to.chunks_mut(outer.to * at_once).take(outer.size.div_ceil(at_once));
            parallel::each(pieces.enumerate(), |(piece, to)| {
                let first = piece * at_once;
                let steps = to.chunks_mut(outer.to).take(outer.size - first).enumerate();
                steps.for_each(|(i, to)| step((first + i, to)));
            });
        }
    }
}

fn copy_line<T: Copy + Send + Sync>(from: &[T], at: isize, to: &mut [T], line: Loop) {
    let part = |at: isize, to: &mut [T]| match (line.from, line.to) {
        (1, 1) => to.copy_from_slice(&from[at as usize..][..to.len()]),
        (0, 1) => to.fill(from[at as usize]),
        (step, every) => {
            for (i, to) in to.iter_mut().step_by(every).enumerate() {
                *to = from[(at + i as isize * step) as usize];
            }
        }
    };
    let to = &mut to[..(line.size - 1) * line.to + 1];
    if line.size <= GRAIN {
        part(at, to);
    } else {
        parallel::each(to.chunks_mut(GRAIN * line.to).enumerate(), |(i, to)| {
            part(at + (i * GRAIN) as isize * line.from, to);
        });
    }
}

/// Neighbours of the source lie along the rows of the destination: moved square by square.
fn transpose<T: Copy + Send + Sync>(
    from: &[T],
    at: isize,
    to: &mut [T],
    rows: Loop,
    columns: Loop,
) {
    let to = &mut to[..(rows.size - 1) * rows.to + columns.size];
    let band = |(band, to): (usize, &mut [T])| {
        let at = at + (band * TILE) as isize;
        for first in (0..columns.size).step_by(TILE) {
            let last = (first + TILE).min(columns.size);
            for (i, row) in to.chunks_mut(rows.to).enumerate() {
                let at = at + i as isize;
                for (j, to) in row[first..last].iter_mut().enumerate() {
                    *to = from[(at + (first + j) as isize * columns.from) as usize];
                }
            }
        }
    };
    if rows.size * columns.size <= GRAIN {
        to.chunks_mut(TILE * rows.to).enumerate().for_each(band);
    } else {
        parallel::each(to.chunks_mut(TILE * rows.to).enumerate(), band);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The copy done element by element, by the definition.
    fn naive(c: &StridedCopy, from: &[u32], to: &mut [u32]) {
        for n in 0..c.len() {
            let (mut rest, mut f, mut t) = (n, c.from, c.to);
            for l in c.loops.iter().rev() {
                f += (rest % l.size) as isize * l.from;
                t += rest % l.size * l.to;
                rest /= l.size;
            }
            to[t] = from[f as usize];
        }
    }

    fn check(c: &StridedCopy, from_len: usize, to_len: usize) {
        let from: Vec<u32> = (0..from_len as u32).collect();
        let (mut a, mut b) = (vec![u32::MAX; to_len], vec![u32::MAX; to_len]);
        naive(c, &from, &mut a);
        c.run(&from, &mut b);
        assert!(a == b, "{c:?}");
    }

    #[test]
    fn adjacent_loops_merge() {
        let whole = StridedCopy::gather(&[2, 3, 4], 0, &[12, 4, 1]);
        assert_eq!(whole.loops, [Loop { size: 24, from: 1, to: 1 }]);
        let swapped = StridedCopy::gather(&[4, 1, 2, 3], 0, &[1, 0, 12, 4]);
        assert_eq!(
            swapped.loops,
            [Loop { size: 4, from: 1, to: 6 }, Loop { size: 6, from: 4, to: 1 }]
        );
    }

    #[test]
    fn every_path_equals_the_definition() {
        for rows in [3, 70, 300] {
            for columns in [5, 33, 400] {
                let n = rows * columns;
                let by = columns as isize;
                check(&StridedCopy::gather(&[columns, rows], 0, &[1, by]), n, n);
                check(&StridedCopy::gather(&[rows, columns], n as isize - 1, &[-by, -1]), n, n);
                check(&StridedCopy::gather(&[rows, columns], 0, &[0, 1]), columns, n);
                check(&StridedCopy::gather(&[rows, columns], 0, &[1, 0]), rows, n);
                let column = [Loop { size: rows, from: 1, to: columns }];
                check(&StridedCopy::new(0, columns - 1, column), rows, n);
            }
        }
        check(&StridedCopy::gather(&[100_000], 0, &[2]), 200_000, 100_000);
        check(&StridedCopy::gather(&[3, 40, 50, 7], 0, &[1, 3, 840, 120]), 42_000, 42_000);
    }

    #[test]
    fn offsets_follow_the_distances() {
        let found: Vec<usize> = offsets(&[2, 3], &[1, 10]).collect();
        assert_eq!(found, [0, 10, 20, 1, 11, 21]);
        assert_eq!(offsets(&[], &[]).collect::<Vec<_>>(), [0]);
        assert_eq!(offsets(&[2, 0], &[1, 1]).count(), 0);
    }

    #[test]
    fn a_wide_element_is_one_more_loop() {
        let c = StridedCopy::gather(&[2, 3], 0, &[1, 2]).wide(2);
        assert_eq!(c.loops.len(), 3);
        assert_eq!(c.loops[2], Loop { size: 2, from: 1, to: 1 });
        assert_eq!(StridedCopy::gather(&[6], 0, &[1]).wide(2).loops.len(), 1);
    }
}
