//! Shared, immutable byte ranges and 8-byte aligned buffers, without `unsafe`.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An immutable range of bytes that keeps its owner alive: a mapped file, a
/// buffer, another range. Cloning is a reference count.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl Bytes {
    /// Shares everything `owner` holds.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Arc::new(owner), start: 0, len }
    }

    /// A copy of `bytes` in a fresh buffer aligned for every [`crate::DType`].
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut buf = AlignedBuf::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        buf.into()
    }

    /// Whether this is a part of something larger, all of which it keeps alive.
    pub fn is_part(&self) -> bool {
        (*self.owner).as_ref().len() > self.len
    }

    /// The sub-range `start..start + len`.
    ///
    /// # Panics
    /// If the range is not inside this one.
    pub fn slice(&self, start: usize, len: usize) -> Self {
        let end = start.checked_add(len).expect("slice end overflows");
        assert!(end <= self.len, "slice {start}..{end} of {} bytes", self.len);
        Self { owner: self.owner.clone(), start: self.start + start, len }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.len)
    }
}

impl From<AlignedBuf> for Bytes {
    fn from(buf: AlignedBuf) -> Self {
        Self::from_owner(buf)
    }
}

impl From<Vec<u8>> for Bytes {
    /// Takes over a plain vector; it may be unaligned, see [`crate::Tensor::new`].
    fn from(vec: Vec<u8>) -> Self {
        Self::from_owner(vec)
    }
}

/// A growable-once byte buffer whose start is aligned to 8 bytes, so that it can
/// be viewed as a slice of any element type.
#[derive(Clone, Default)]
pub struct AlignedBuf {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBuf {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(8)], len }
    }

    /// Grows to at least `len` bytes; the old contents are kept, new bytes are zero.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            self.words.resize(len.div_ceil(8), 0);
            self.len = len;
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

impl std::ops::DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
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
