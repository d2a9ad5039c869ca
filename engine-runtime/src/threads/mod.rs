//! Threads: those of runs, which kernels spread over, and those of refits.

mod refits;
mod spin;

pub(crate) use refits::{beside, refitting};
pub use spin::SpinPool;

use engine_ops::parallel::Pool;
use std::sync::{Arc, OnceLock};

/// How many threads runs on the CPU have where nobody said: the number in the variable `REFIT_THREADS`, or one for each processor
/// that this process may use.
pub fn default_threads() -> usize {
    let said = std::env::var("REFIT_THREADS").ok().and_then(|text| text.trim().parse().ok());
    said.filter(|&n| n > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// The threads of runs on devices that were given none, started when they are first needed.
pub(crate) fn shared() -> Arc<dyn Pool> {
    static POOL: OnceLock<Arc<SpinPool>> = OnceLock::new();
    POOL.get_or_init(|| Arc::new(SpinPool::new(default_threads()))).clone()
}
