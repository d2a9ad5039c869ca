//! The threads of refits.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// The pool of devices that were given none: half as many threads as the machine has, at least one, started when they are
/// first needed. `None` if the system gives no threads.
fn shared<'a>() -> Option<&'a ThreadPool> {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let start = || {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("refit-{i}"))
            .build();
        pool.inspect_err(|error| tracing::warn!(%error, "refits work on the threads of runs")).ok()
    };
    POOL.get_or_init(start).as_ref()
}

/// Has `work` done on those threads after this call, if there are any; else it is dropped.
pub(crate) fn beside(pool: Option<&ThreadPool>, work: impl FnOnce() + Send + 'static) {
    if let Some(pool) = pool.or_else(shared) {
        pool.spawn(work);
    }
}

/// Does `work` on the threads of `pool`, or else on those that all refits of the process share.
pub(crate) fn refitting<R: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    match pool.or_else(shared) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}
