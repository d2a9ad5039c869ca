//! The one door to threads: how kernels split work, without letting the split show in the results.
//!
//! A kernel hands over pieces of work that write to different memory; which thread does which piece, and how many threads
//! there are, follows from nothing but who is free. The threads are those of the [`Pool`] that [`with`] says, or of the rayon pool of
//! the caller where nothing was said.

use engine_format::Element;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Threads that work together.
pub trait Pool: Send + Sync {
    /// How many there are, the one that asks for help included.
    fn threads(&self) -> usize;

    /// Calls `work` on the thread that asks and, as far as others are free, on `most - 1` of them at the same time. Returns when
    /// every call has returned. A call returns when it finds nothing left to do, so that none is waited for that has not begun.
    fn spread(&self, most: usize, work: &(dyn Fn() + Sync));
}

/// Whom kernels on this thread ask for help.
#[derive(Clone)]
enum Helpers {
    /// Nobody said anything.
    Rayon,
    /// Nobody: this is a piece of work of a pool already.
    Nobody,
    /// A pool.
    Pool(Arc<dyn Pool>),
}

thread_local! {
    static HELPERS: RefCell<Helpers> = const { RefCell::new(Helpers::Rayon) };
}

/// Puts back who helped before, also when the work panics.
struct Restore(Option<Helpers>);

impl Restore {
    fn with(helpers: Helpers) -> Self {
        Self(Some(HELPERS.replace(helpers)))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            HELPERS.set(before);
        }
    }
}

/// Does `work` on this thread; kernels in it spread over `pool`.
pub fn with<R>(pool: Arc<dyn Pool>, work: impl FnOnce() -> R) -> R {
    let _restore = Restore::with(Helpers::Pool(pool));
    work()
}

/// How many threads kernels have that are called here.
pub fn threads() -> usize {
    HELPERS.with_borrow(|helpers| match helpers {
        Helpers::Rayon => rayon::current_num_threads(),
        Helpers::Nobody => 1,
        Helpers::Pool(pool) => pool.threads(),
    })
}

/// Calls `work` on up to `most` threads, this one among them.
fn spread(most: usize, work: &(dyn Fn() + Sync)) {
    if most <= 1 {
        return work();
    }
    match HELPERS.with_borrow(Helpers::clone) {
        Helpers::Nobody => work(),
        Helpers::Pool(pool) => pool.spread(most.min(pool.threads()), &|| {
            let _restore = Restore::with(Helpers::Nobody);
            work();
        }),
        Helpers::Rayon => rayon::in_place_scope(|scope| {
            for _ in 1..most.min(rayon::current_num_threads()) {
                scope.spawn(|_| work());
            }
            work();
        }),
    }
}

/// Calls `work` with every item.
pub(crate) fn each<I>(items: I, work: impl Fn(I::Item) + Sync)
where
    I: ExactSizeIterator + Send,
    I::Item: Send,
{
    let most = items.len();
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    spread(most, &|| {
        while let Some(item) = next() {
            work(item);
        }
    });
}

/// As [`each`], up to the first error. Which of several errors is given back is open.
pub(crate) fn try_each<I, E: Send>(
    items: I,
    work: impl Fn(I::Item) -> Result<(), E> + Sync,
) -> Result<(), E>
where
    I: ExactSizeIterator + Send,
    I::Item: Send,
{
    let failed = Mutex::new(None);
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    each(items, |item| {
        if lock().is_none()
            && let Err(error) = work(item)
        {
            lock().get_or_insert(error);
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Elements per piece: large enough to hide what handing it over costs, small enough to spread.
const GRAIN: usize = 16 * 1024;

/// How many rows that cost as much as so many additions make a piece.
pub(crate) fn at_once(cost: usize) -> usize {
    (GRAIN / cost.max(1)).max(1)
}

/// Calls `work` with every row of `len` elements and its number; the last row may be shorter. An element costs about as much as
/// `cost` additions.
pub(crate) fn rows<T: Send>(
    y: &mut [T],
    len: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let at_once = at_once(len.saturating_mul(cost));
    each(y.chunks_mut(len * at_once).enumerate(), |(piece, y)| {
        y.chunks_mut(len).enumerate().for_each(|(i, y)| work(piece * at_once + i, y));
    });
}

/// Calls `work` with consecutive pieces of `y` and where each starts. Pieces are multiples of `unit` elements, each of which
/// costs about as much as `cost` additions.
pub(crate) fn pieces<T: Element>(
    y: &mut [T],
    unit: usize,
    cost: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let unit = unit.max(1);
    let piece = (GRAIN / (unit * cost.max(1))).max(1) * unit;
    let size = size_of::<T>();
    bytes(bytemuck::cast_slice_mut(y), piece * size, &|at, bytes| {
        work(at / size, bytemuck::cast_slice_mut(bytes));
    });
}

/// Not generic, so that it is compiled once. What is one piece stays on this thread: asking for help costs more than the work.
fn bytes(y: &mut [u8], piece: usize, work: &(dyn Fn(usize, &mut [u8]) + Sync)) {
    if y.len() <= piece {
        return work(0, y);
    }
    each(y.chunks_mut(piece).enumerate(), |(i, y)| work(i * piece, y));
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
    if tasks == 1 || (slot > 0 && scratch.len() < 2 * slot) {
        let slot = &mut scratch[..slot];
        return (0..tasks).for_each(|task| work(task, slot));
    }
    let next = AtomicUsize::new(0);
    let drain = |slot: &mut [f32]| {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            work(task, slot);
        }
    };
    if slot == 0 {
        return spread(tasks, &|| drain(&mut []));
    }
    let slots = scratch.chunks_exact_mut(slot).take(tasks);
    each(slots, drain);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every call of work, one after the other.
    struct Calls(usize);

    impl Pool for Calls {
        fn threads(&self) -> usize {
            self.0
        }

        fn spread(&self, most: usize, work: &(dyn Fn() + Sync)) {
            assert!(most <= self.0);
            (0..most).for_each(|_| work());
        }
    }

    fn pools() -> [Helpers; 4] {
        let pool = |n| Helpers::Pool(Arc::new(Calls(n)));
        [Helpers::Rayon, Helpers::Nobody, pool(1), pool(7)]
    }

    #[test]
    fn every_piece_is_done_once() {
        for helpers in pools() {
            let _restore = Restore::with(helpers);
            for len in [0, 1, GRAIN, GRAIN + 1, 5 * GRAIN + 3] {
                let mut y = vec![0u32; len];
                pieces(&mut y, 3, 1, |at, y| {
                    y.iter_mut().enumerate().for_each(|(i, y)| *y += (at + i) as u32 + 1);
                });
                assert!(y.iter().enumerate().all(|(i, y)| *y == i as u32 + 1));
            }
            for (tasks, slot) in [(0, 0), (5, 0), (1, 8), (9, 8), (9, 30)] {
                let done: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                in_slots(tasks, slot, &mut [0.0; 40], |task, scratch| {
                    assert_eq!(scratch.len(), slot);
                    done[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|done| done.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        for helpers in pools() {
            let _restore = Restore::with(helpers);
            let odd = |i: i32| if i == 700 { Err(i) } else { Ok(()) };
            assert_eq!(try_each(0..1000, odd), Err(700));
            assert_eq!(try_each(0..700, odd), Ok(()));
        }
    }

    #[test]
    fn pieces_of_pieces_stay_on_their_thread() {
        let pool: Arc<dyn Pool> = Arc::new(Calls(7));
        with(pool, || {
            assert_eq!(threads(), 7);
            each(0..3, |_| assert_eq!(threads(), 1));
            assert_eq!(threads(), 7);
        });
    }
}
