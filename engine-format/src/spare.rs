//! Memory of weights that were replaced.

use crate::{AlignedBuf, Engine, OutOfMemory, WeightData};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers of weights that were replaced, for the weights that are read next ([`Engine::fill_into`]): memory that was used
/// before need not be had from the system again, which takes longer than reading weights into it.
#[derive(Default)]
pub struct Spare {
    /// By length.
    buffers: Mutex<BTreeMap<usize, Vec<AlignedBuf>>>,
}

impl Spare {
    /// Takes the buffers of an engine's weights that nothing else shares.
    pub fn keep(&self, engine: Engine) {
        for weight in engine.into_unshared_weights() {
            if let WeightData::Stored(bytes) = weight.data
                && let Some(buf) = bytes.into_buf()
            {
                self.put(buf);
            }
        }
    }

    /// Frees what is kept.
    pub fn clear(&self) {
        let freed = std::mem::take(&mut *self.buffers());
        drop(freed);
    }

    /// Bytes that are kept.
    pub fn byte_len(&self) -> usize {
        self.buffers().iter().map(|(len, buffers)| len * buffers.len()).sum()
    }

    pub(crate) fn put(&self, buf: AlignedBuf) {
        self.buffers().entry(buf.len()).or_default().push(buf);
    }

    /// A buffer of exactly `len` bytes, which hold anything.
    pub(crate) fn take(&self, len: usize) -> Result<AlignedBuf, OutOfMemory> {
        let kept = self.buffers().get_mut(&len).and_then(Vec::pop);
        kept.map_or_else(|| AlignedBuf::try_zeroed(len), Ok)
    }

    fn buffers(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<AlignedBuf>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spare({})", self.byte_len())
    }
}
