//! Memory of outputs that their users let go of, for the outputs of later runs: memory that was used before need not be had from the
//! system again, whose pages take longer to come than most kernels take to write them.

use engine_format::{AlignedBuf, Home, OutOfMemory};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of a buffer from which on it comes back: smaller ones an allocator keeps itself.
const LEAST: usize = 64 << 10;
/// Bytes that are kept altogether; the buffers that came back first go first.
const MOST: usize = 64 << 20;

/// Buffers that came back, the first one first.
#[derive(Debug, Default)]
pub(super) struct Returned(Mutex<VecDeque<AlignedBuf>>);

impl Returned {
    /// A buffer of `len` bytes, which hold anything, and which comes back.
    pub fn lend(self: &Arc<Self>, len: usize) -> Result<AlignedBuf, OutOfMemory> {
        if !(LEAST..=MOST).contains(&len) {
            return AlignedBuf::try_zeroed(len);
        }
        let kept = {
            let mut kept = self.kept();
            let last = kept.iter().rposition(|buf| buf.len() == len);
            last.and_then(|at| kept.remove(at))
        };
        let home: Weak<dyn Home> = Arc::<Self>::downgrade(self);
        Ok(kept.map_or_else(|| AlignedBuf::try_zeroed(len), Ok)?.lent_by(home))
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.kept().iter().map(|buf| buf.len() as u64).sum()
    }

    /// Frees what is kept.
    pub fn clear(&self) {
        let freed = std::mem::take(&mut *self.kept());
        drop(freed);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<AlignedBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home for Returned {
    fn take_back(&self, buf: AlignedBuf) {
        let mut freed = Vec::new();
        let mut kept = self.kept();
        kept.push_back(buf);
        let mut bytes: usize = kept.iter().map(|buf| buf.len()).sum();
        while bytes > MOST
            && let Some(first) = kept.pop_front()
        {
            bytes -= first.len();
            freed.push(first);
        }
        // The system takes its time with memory that goes; nobody should wait for it here.
        drop(kept);
        drop(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_the_same_length_are_used_again() {
        let returned = Arc::new(Returned::default());
        let lend = |len| returned.lend(len).unwrap();
        let (a, b) = (lend(LEAST), lend(LEAST + 1));
        let places = [a.as_ptr(), b.as_ptr()];
        drop((a, b));
        assert_eq!(returned.bytes(), 2 * LEAST as u64 + 1);
        let (b, a, other) = (lend(LEAST + 1), lend(LEAST), lend(LEAST));
        assert_eq!([a.as_ptr(), b.as_ptr()], places);
        assert!(!places.contains(&other.as_ptr()) && returned.bytes() == 0);
        // What is small or large does not come back, and nothing beyond the limit stays.
        drop((lend(LEAST - 1), lend(MOST + 1)));
        assert_eq!(returned.bytes(), 0);
        drop(a);
        let large = lend(MOST);
        let place = large.as_ptr();
        drop(large);
        assert_eq!(returned.bytes(), MOST as u64);
        assert_eq!(lend(MOST).as_ptr(), place);
        returned.clear();
        assert_eq!(returned.bytes(), 0);
    }
}
