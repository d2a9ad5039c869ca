//! How much memory of its own this process takes while something is done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that no file backs; `None` where the system does not say.
pub fn own_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Does `work` and gives back the most memory that was seen meanwhile, looking every millisecond.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let (seen, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let look = || own_bytes().map(|bytes| seen.fetch_max(bytes, Ordering::Relaxed));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && look().is_some() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let result = work();
        let known = look().is_some();
        done.store(true, Ordering::Relaxed);
        (result, known.then(|| seen.load(Ordering::Relaxed)))
    })
}
