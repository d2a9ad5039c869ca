//! Memory of versions that nothing goes back to any more, for the next refit.
//!
//! Memory that is fresh from the system costs more to touch first than weights cost to read into it. Refits that follow one
//! another therefore read into that of the version before the last. A module has three sets of weights during a refit anyway:
//! the current one, the one to go back to, and the new one. Between refits it has the third no longer than [`KEPT`].

use engine_format::{Engine, Spare};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// How long memory waits for the next refit.
const KEPT: Duration = Duration::from_secs(10);

/// What a module keeps for its next refit.
#[derive(Debug, Default)]
pub(super) struct Retired {
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    spare: Spare,
    watch: Mutex<Watch>,
}

/// Who frees what nothing took.
#[derive(Debug, Default)]
struct Watch {
    /// Versions kept so far.
    times: u64,
    /// Whether a thread waits for the time to be over.
    waits: bool,
}

impl Retired {
    /// What a refit may read into.
    pub(super) fn spare(&self) -> &Spare {
        &self.kept.spare
    }

    /// Keeps the memory of `engine`'s weights that nothing else shares, for a while.
    pub(super) fn keep(&self, engine: Engine) {
        // What the last refit had no use for does not add up.
        self.clear();
        self.spare().keep(engine);
        let mut watch = self.kept.watch();
        watch.times += 1;
        if watch.waits || self.spare().byte_len() == 0 {
            return;
        }
        let kept = Arc::downgrade(&self.kept);
        let thread = thread::Builder::new().name("refit-memory".to_owned());
        watch.waits = thread.spawn(move || expire(&kept)).is_ok();
        if !watch.waits {
            self.clear();
        }
    }

    /// Frees what is kept.
    pub(super) fn clear(&self) {
        self.kept.spare.clear();
    }
}

impl Kept {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees what is kept once no version was retired for the time of [`KEPT`]; ends with the module.
fn expire(kept: &Weak<Kept>) {
    let mut last = None;
    loop {
        let Some(kept) = kept.upgrade() else { return };
        let mut watch = kept.watch();
        if last == Some(watch.times) {
            watch.waits = false;
            kept.spare.clear();
            return;
        }
        last = Some(watch.times);
        drop(watch);
        drop(kept);
        thread::sleep(KEPT);
    }
}
