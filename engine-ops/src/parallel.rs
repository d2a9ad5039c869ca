//! Splitting work over threads without letting the split show in the results.

use engine_format::Element;
use rayon::prelude::*;

/// Elements per task: large enough to hide the task, small enough to spread.
const CHUNK: usize = 16 * 1024;

/// Calls `work` with consecutive pieces of `y` and where each starts. Pieces are multiples of `unit` elements, each of which
/// costs about as much as `cost` additions.
pub(crate) fn pieces<T: Element>(
    y: &mut [T],
    unit: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let unit = unit.max(1);
    let piece = (CHUNK / (unit * cost.max(1))).max(1) * unit;
    let size = size_of::<T>();
    each(bytemuck::cast_slice_mut(y), piece * size, &|at, bytes| {
        work(at / size, bytemuck::cast_slice_mut(bytes));
    });
}

/// Not generic, so that the machinery of parallel iterators is compiled once. What is one piece stays on this thread:
/// waking the pool costs more than the work.
fn each(y: &mut [u8], piece: usize, work: &(dyn Fn(usize, &mut [u8]) + Sync)) {
    if y.len() <= piece {
        return work(0, y);
    }
    y.par_chunks_mut(piece).enumerate().for_each(|(i, y)| work(i * piece, y));
}
