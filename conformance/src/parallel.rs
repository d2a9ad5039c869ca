//! Work on all cores.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// What `work` makes of each item, in their order, on as many threads as the machine has cores.
///
/// # Panics
/// If `work` does.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    map_on(thread::available_parallelism().map_or(2, usize::from), items, work)
}

/// As [`map`], on so many threads.
///
/// # Panics
/// If `work` does.
pub fn map_on<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let Some((i, item)) = lock(&next).next() else { break };
                    let made = work(item);
                    lock(&done).push((i, made));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, made)| made).collect()
}

/// What a thread that panicked left is whole: nothing is done under the lock that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_on_any_number_of_threads() {
        let items: Vec<u64> = (0..50).collect();
        let expected: Vec<u64> = items.iter().map(|i| i * i).collect();
        for threads in [0, 1, 3, 80] {
            assert_eq!(map_on(threads, &items, |i| i * i), expected);
        }
        assert_eq!(map(&[0u64; 0], |i| i * i), [0u64; 0]);
    }
}
