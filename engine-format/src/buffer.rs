//! Byte buffers that can be viewed as a slice of any element type, and those kept for use again; without `unsafe`.

use crate::OutOfMemory;
use memmap2::{MmapMut, MmapOptions};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Weak;

/// A growable-once byte buffer whose start is aligned to [`ALIGNMENT`](Self::ALIGNMENT), so that it can be viewed as a slice of any element
/// type, and no vector register's worth of it lies in two lines of a cache.
#[derive(Default)]
pub struct AlignedBuf {
    memory: Memory,
    len: usize,
    /// Who has the memory when it is no longer used.
    home: Option<Weak<dyn Home>>,
}

/// Where memory comes back to that was lent ([`AlignedBuf::lent_by`]).
pub trait Home: Send + Sync {
    /// Takes a buffer that nobody uses any more. Called by whichever thread let go of it.
    fn take_back(&self, buf: AlignedBuf);
}

/// Bytes from which on a buffer is made of pages of its own. The system then may use huge ones, which makes fresh memory
/// several times cheaper to touch first.
const OWN_PAGES: usize = 2 << 20;

enum Memory {
    Words(Words),
    Pages(MmapMut),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Words(Words::default())
    }
}

/// Memory of the allocator, from the first aligned word on: an allocator aligns to less.
#[derive(Default)]
struct Words {
    words: Vec<u64>,
    start: usize,
}

impl Words {
    /// Words more than asked for, so that there is an aligned one to begin with.
    const SPARE: usize = AlignedBuf::ALIGNMENT / size_of::<u64>() - 1;

    /// At least `len` bytes, all zero; no memory for none.
    fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        if len == 0 {
            return Ok(Self::default());
        }
        let all = len.div_ceil(size_of::<u64>()) + Self::SPARE;
        let mut words = Vec::new();
        words.try_reserve_exact(all).map_err(|_| OutOfMemory { bytes: len })?;
        words.resize(all, 0);
        let start = words.as_ptr().align_offset(AlignedBuf::ALIGNMENT).min(Self::SPARE);
        Ok(Self { words, start })
    }
}

impl Memory {
    /// At least `len` bytes, all zero.
    fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        if len >= OWN_PAGES
            && let Some(pages) = pages(len)
        {
            return Ok(Self::Pages(pages));
        }
        Ok(Self::Words(Words::zeroed(len)?))
    }
}

/// Anonymous memory; `None` where the system has none to give in this way.
fn pages(len: usize) -> Option<MmapMut> {
    let pages = MmapOptions::new().len(len).map_anon().ok()?;
    // A hint: without it the memory is the same.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
}

impl AlignedBuf {
    /// Bytes to a multiple of which the start is aligned: a line of most caches, and the widest vector register.
    pub const ALIGNMENT: usize = 64;

    /// `len` zero bytes.
    ///
    /// # Panics
    /// If there is no memory for them; [`Self::try_zeroed`] says so instead.
    pub fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `len` zero bytes, as many as somebody else decides.
    pub fn try_zeroed(len: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { memory: Memory::zeroed(len)?, len, home: None })
    }

    /// The same memory, which comes back to `home` where it would be freed, as long as there is that.
    pub fn lent_by(mut self, home: Weak<dyn Home>) -> Self {
        self.home = Some(home);
        self
    }

    /// Grows to at least `len` bytes; the old contents are kept, new bytes are zero. Without memory for them it stays as it is.
    pub fn try_grow(&mut self, len: usize) -> Result<(), OutOfMemory> {
        if len <= self.len {
            return Ok(());
        }
        let mut grown = Self::try_zeroed(len)?;
        grown[..self.len].copy_from_slice(self);
        *self = grown;
        Ok(())
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take().and_then(|home| home.upgrade()) {
            let memory = std::mem::take(&mut self.memory);
            home.take_back(Self { memory, len: self.len, home: None });
        }
    }
}

impl Clone for AlignedBuf {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Words(Words { words, start }) => {
                &bytemuck::cast_slice(&words[*start..])[..self.len]
            }
            Memory::Pages(pages) => &pages[..self.len],
        }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Words(Words { words, start }) => {
                &mut bytemuck::cast_slice_mut(&mut words[*start..])[..self.len]
            }
            Memory::Pages(pages) => &mut pages[..self.len],
        }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn buffers_are_zero_and_grow_with_their_contents() {
        for (len, longer) in
            [(0, 3), (5, 100), (100, OWN_PAGES + 9), (OWN_PAGES, 2 * OWN_PAGES + 1)]
        {
            let mut buf = AlignedBuf::zeroed(len);
            let aligned =
                |buf: &AlignedBuf| buf.as_ptr().addr().is_multiple_of(AlignedBuf::ALIGNMENT);
            assert!(buf.len() == len && buf.iter().all(|&b| b == 0));
            assert!(len == 0 || aligned(&buf));
            buf.fill(7);
            buf.try_grow(longer).unwrap();
            assert_eq!(buf.len(), longer);
            assert!(aligned(&buf) && aligned(&buf.clone()));
            assert!(buf[..len].iter().all(|&b| b == 7) && buf[len..].iter().all(|&b| b == 0));
            buf.try_grow(1).unwrap();
            assert!(buf.len() == longer && buf.clone()[..] == buf[..]);
            assert_eq!(bytemuck::cast_slice::<u8, u64>(&buf[..longer / 8 * 8]).len(), longer / 8);
        }
    }

    /// However a buffer goes, its memory comes back once, as long as somebody waits for it.
    #[test]
    fn lent_memory_comes_back() {
        #[derive(Default)]
        struct Lengths(Mutex<Vec<usize>>);
        impl Home for Lengths {
            fn take_back(&self, buf: AlignedBuf) {
                self.0.lock().unwrap().push(buf.len());
            }
        }
        let home = Arc::new(Lengths::default());
        let lend = |len| {
            let weak: Weak<dyn Home> = Arc::<Lengths>::downgrade(&home);
            AlignedBuf::zeroed(len).lent_by(weak)
        };
        let bytes: crate::Bytes = lend(9).into();
        let part = bytes.slice(3, 2);
        drop((bytes, lend(7).clone()));
        assert_eq!(*home.0.lock().unwrap(), [7]);
        drop(part);
        let mut grown = lend(5);
        grown.try_grow(6).unwrap();
        drop(grown);
        drop(crate::Bytes::from(lend(4)).into_buf().unwrap());
        assert_eq!(*home.0.lock().unwrap(), [7, 9, 5, 4]);
        let last = lend(3);
        drop(home);
        drop(last);
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let bytes = isize::MAX as usize;
        assert_eq!(AlignedBuf::try_zeroed(bytes).unwrap_err(), OutOfMemory { bytes });
        let mut buf = AlignedBuf::zeroed(3);
        assert_eq!(buf.try_grow(bytes), Err(OutOfMemory { bytes }));
        assert_eq!(buf.len(), 3);
    }
}
