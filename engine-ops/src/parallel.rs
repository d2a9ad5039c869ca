//! Splitting work over threads without letting the split show in the results.

use engine_format::Element;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Calls `work` with every number below `tasks` and a slot of `scratch` that no other call has meanwhile. There are as many
/// calls at a time as there are slots, so one slot keeps the work on this thread.
pub(crate) fn in_slots(
    tasks: usize,
    slot: usize,
    scratch: &mut [f32],
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let found = scratch.len();
    assert!(found >= slot, "{found} elements of scratch, {tasks} tasks need {slot} each");
    if slot == 0 {
        return (0..tasks).into_par_iter().for_each(|task| work(task, &mut []));
    }
    if tasks == 1 || scratch.len() < 2 * slot {
        let slot = &mut scratch[..slot];
        return (0..tasks).for_each(|task| work(task, slot));
    }
    let next = AtomicUsize::new(0);
    scratch.par_chunks_exact_mut(slot).for_each(|slot| {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            work(task, slot);
        }
    });
}

/// The scratch as elements, from its first 64-byte boundary.
pub(crate) fn aligned(scratch: &mut [u8]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(64).min(scratch.len());
    let len = (scratch.len() - skip) / 4 * 4;
    if len == 0 {
        return &mut [];
    }
    bytemuck::cast_slice_mut(&mut scratch[skip..skip + len])
}
