//! The threads of runs: they wait for the next kernel awake, for a while.
//!
//! The steps of a run follow one another within microseconds, less than it takes to wake a thread. So a thread that has
//! nothing left to do looks for more for up to [`AWAKE`], and only then sleeps. The thread that runs takes part in its own work, and
//! waits for nobody who has not begun: where a neighbour keeps the processors busy, it does the work alone.

use engine_ops::parallel::Pool;
use std::any::Any;
use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread looks for work before it sleeps. Longer than the pauses within a run, shorter than a neighbour would mind.
const AWAKE: Duration = Duration::from_micros(200);

/// Looks between two glances at the clock.
const LOOKS: u32 = 64;

/// Threads that work together on the kernels of runs, one of which is always the one that runs. While they work for one run,
/// others do their work alone.
pub struct SpinPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread whose work is on offer.
    offering: Mutex<()>,
}

impl std::fmt::Debug for SpinPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpinPool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// A piece of work, whose life the type does not say. It is called by workers that are counted in [`Offer`] only.
type Work = *const (dyn Fn() + Sync);

struct Shared {
    /// The offer that stands, packed as [`Offer`] says.
    offer: AtomicU64,
    /// What is on offer. Written while nothing is on offer and nobody is at work, read by workers that are counted as at work.
    work: UnsafeCell<Option<Work>>,
    /// Why a worker's call did not return.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Workers that sleep or are about to.
    sleeping: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    over: AtomicBool,
}

// SAFETY: `work` is the only part that is not `Sync`. The thread that offers writes it while no worker is at work, and workers
// read it only after they have counted themselves among those at work, which `Offer::taken` and `Shared::withdraw` order by
// acquire and release on `offer`. What it points at is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; a pointer may move between threads.
unsafe impl Send for Shared {}

/// What is on offer: how many may still take it up, how many are at work, and which offer it is, so that a worker does not take
/// one up twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Offer {
    number: u32,
    seats: u16,
    working: u16,
}

impl Offer {
    fn packed(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.seats) << 16 | u64::from(self.working)
    }

    fn unpacked(word: u64) -> Self {
        Self { number: (word >> 32) as u32, seats: (word >> 16) as u16, working: word as u16 }
    }

    /// After one more worker has taken it up.
    fn taken(self) -> Self {
        Self { seats: self.seats - 1, working: self.working + 1, ..self }
    }
}

impl SpinPool {
    /// So many threads, the one that runs included. Where the system gives fewer, there are fewer.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            offer: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            panic: Mutex::default(),
            sleeping: AtomicUsize::new(0),
            bed: Mutex::default(),
            bell: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let most = usize::from(u16::MAX);
        let start = |i: usize| {
            let shared = shared.clone();
            let thread = thread::Builder::new().name(format!("refit-run-{i}"));
            let started = thread.spawn(move || shared.serve());
            started.inspect_err(|error| tracing::warn!(%error, "runs have fewer threads")).ok()
        };
        let workers = (1..threads.clamp(1, most)).map_while(start).collect();
        Self { shared, workers, offering: Mutex::default() }
    }
}

impl Drop for SpinPool {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.ring(self.workers.len());
        for worker in self.workers.drain(..) {
            // A worker never panics: it keeps what its work threw.
            let _ = worker.join();
        }
    }
}

impl Pool for SpinPool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn spread(&self, most: usize, work: &(dyn Fn() + Sync)) {
        let seats = most.saturating_sub(1).min(self.workers.len());
        // A panic passed through is no harm: what the lock guards is nothing but the right to offer.
        let _offering = match self.offering.try_lock() {
            Ok(offering) => offering,
            Err(TryLockError::Poisoned(offering)) => offering.into_inner(),
            Err(TryLockError::WouldBlock) => return work(),
        };
        match seats {
            0 => work(),
            seats => self.shared.offer(work, seats as u16, work),
        }
    }
}

impl Shared {
    /// Lets up to `seats` workers call `work` while `own` runs on this thread. The caller is the only one that offers.
    fn offer(&self, work: &(dyn Fn() + Sync), seats: u16, own: impl FnOnce()) {
        // Of an offer whose own caller panicked.
        lock(&self.panic).take();
        let before = Offer::unpacked(self.offer.load(Ordering::Acquire));
        debug_assert_eq!((before.seats, before.working), (0, 0), "one offer at a time");
        // SAFETY: nothing is on offer and nobody is at work, so no worker reads `work` now. The life that is cut off here is
        // given back by `withdraw`, which waits for every worker that may call it, on every way out of this function.
        unsafe {
            let work = std::mem::transmute::<*const (dyn Fn() + Sync + '_), Work>(work);
            *self.work.get() = Some(work);
        }
        let number = before.number.wrapping_add(1);
        self.offer.store(Offer { number, seats, working: 0 }.packed(), Ordering::SeqCst);
        let withdrawn = Withdraw(self);
        if self.sleeping.load(Ordering::SeqCst) > 0 {
            self.ring(usize::from(seats));
        }
        own();
        drop(withdrawn);
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Lets nobody take up the offer any more and waits for those who did.
    fn withdraw(&self) {
        let closed = |word| Some(Offer { seats: 0, ..Offer::unpacked(word) }.packed());
        let _ = self.offer.fetch_update(Ordering::AcqRel, Ordering::Acquire, closed);
        let mut looks = 0u32;
        while Offer::unpacked(self.offer.load(Ordering::Acquire)).working > 0 {
            looks += 1;
            // Who is waited for may have lost its processor.
            if looks.is_multiple_of(1 << 12) { thread::yield_now() } else { spin_loop() }
        }
    }

    /// Wakes up to so many workers.
    fn ring(&self, workers: usize) {
        // Under the lock, so that nobody is between its last look and its sleep.
        let _bed = lock(&self.bed);
        (0..workers.min(self.sleeping.load(Ordering::SeqCst))).for_each(|_| self.bell.notify_one());
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut last = 0;
        while let Some(offer) = self.next(last) {
            last = offer.number;
            // SAFETY: this worker is counted as at work, so the offer stands until it says that it is done: `work` is what
            // was offered, nobody writes it, and what it points at lives.
            let call = unsafe { (*self.work.get()).map(|work| &*work) };
            if let Some(Err(panic)) = call.map(|call| catch_unwind(AssertUnwindSafe(call))) {
                lock(&self.panic).get_or_insert(panic);
            }
            // One less at work.
            self.offer.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for an offer other than `last` and takes it up. `None` when the pool is given up.
    fn next(&self, last: u32) -> Option<Offer> {
        let mut since = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if let Some(offer) = self.take(last) {
                    return Some(offer);
                }
                spin_loop();
            }
            if self.over.load(Ordering::SeqCst) {
                return None;
            }
            if since.elapsed() > AWAKE {
                self.sleep(last);
                since = Instant::now();
            }
        }
    }

    /// Takes up the offer that stands, if there is one with a seat left.
    fn take(&self, last: u32) -> Option<Offer> {
        let word = self.offer.load(Ordering::SeqCst);
        let offer = Offer::unpacked(word);
        if offer.seats == 0 || offer.number == last {
            return None;
        }
        let taken = offer.taken();
        let swap =
            self.offer.compare_exchange(word, taken.packed(), Ordering::AcqRel, Ordering::Relaxed);
        swap.ok().map(|_| taken)
    }

    /// Sleeps until somebody rings, unless there is an offer.
    fn sleep(&self, last: u32) {
        let bed = lock(&self.bed);
        // Said before the last look: who offers after that look sees that somebody sleeps.
        self.sleeping.fetch_add(1, Ordering::SeqCst);
        let offer = Offer::unpacked(self.offer.load(Ordering::SeqCst));
        let waits = offer.seats == 0 || offer.number == last;
        if waits && !self.over.load(Ordering::SeqCst) {
            drop(self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner));
        }
        self.sleeping.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Withdraws the offer, also when the work of the one who offers panics.
struct Withdraw<'a>(&'a Shared);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that count down to nothing, noting the threads they ran on.
    fn drain(pool: &SpinPool, most: usize, pieces: usize) -> usize {
        let left = AtomicUsize::new(pieces);
        let done = AtomicUsize::new(0);
        pool.spread(most, &|| {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        done.load(Ordering::Relaxed)
    }

    #[test]
    fn all_work_is_done_before_it_returns() {
        for threads in [0, 1, 2, 5] {
            let pool = SpinPool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for pieces in 0..if cfg!(miri) { 8 } else { 2000 } {
                assert_eq!(drain(&pool, 1 + pieces % 7, pieces), pieces);
            }
        }
    }

    #[test]
    fn workers_that_sleep_are_woken() {
        let pool = SpinPool::new(2);
        for _ in 0..3 {
            while pool.shared.sleeping.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            // Both calls have to be under way at once for either to return.
            let met = AtomicUsize::new(0);
            pool.spread(2, &|| {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 {
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn runs_at_once_do_not_wait_for_each_other() {
        let pool = SpinPool::new(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..if cfg!(miri) { 3 } else { 300 }).for_each(|n| {
                        assert_eq!(drain(&pool, 3, n), n);
                    })
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_who_asked_and_harms_nobody_else() {
        let pool = SpinPool::new(2);
        for _ in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let met = AtomicUsize::new(0);
                pool.spread(2, &|| {
                    met.fetch_add(1, Ordering::SeqCst);
                    while met.load(Ordering::SeqCst) < 2 {
                        thread::yield_now();
                    }
                    if thread::current().name() == Some("refit-run-1") {
                        panic!("a kernel's bug");
                    }
                });
            }));
            let message = caught.unwrap_err().downcast::<&str>().map(|text| *text);
            assert_eq!(message.ok(), Some("a kernel's bug"));
            assert_eq!(drain(&pool, 2, 100), 100);
        }
        let own = catch_unwind(AssertUnwindSafe(|| pool.spread(2, &|| panic!("everyone's"))));
        assert!(own.is_err());
        assert_eq!(drain(&pool, 2, 100), 100);
    }
}
