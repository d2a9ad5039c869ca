//! Shared, immutable byte ranges.

use crate::AlignedBuf;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// An immutable range of bytes that keeps its owner alive: a mapped file, a
/// buffer, another range. Cloning is a reference count.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    start: usize,
    len: usize,
}

/// What the bytes belong to. A buffer can be had back by its last owner, see [`Bytes::into_buf`].
#[derive(Clone)]
enum Owner {
    Buf(Arc<AlignedBuf>),
    Other(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl Owner {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buf(buf) => buf,
            Self::Other(other) => (**other).as_ref(),
        }
    }
}

impl Bytes {
    /// Shares everything `owner` holds.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Owner::Other(Arc::new(owner)), start: 0, len }
    }

    /// A copy of `bytes` in a fresh buffer aligned for every [`crate::DType`].
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut buf = AlignedBuf::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        buf.into()
    }

    /// Whether this is a part of something larger, all of which it keeps alive.
    pub fn is_part(&self) -> bool {
        self.owner.bytes().len() > self.len
    }

    /// The buffer that these bytes are all of, if nothing else shares it.
    pub fn into_buf(self) -> Option<AlignedBuf> {
        self.try_into_buf().ok()
    }

    /// As [`Self::into_buf`]; gives the bytes back if something else shares them.
    pub fn try_into_buf(self) -> Result<AlignedBuf, Self> {
        let Self { owner, start, len } = self;
        match owner {
            Owner::Buf(buf) if buf.len() == len => {
                Arc::try_unwrap(buf).map_err(|buf| Self { owner: Owner::Buf(buf), start, len })
            }
            owner => Err(Self { owner, start, len }),
        }
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
        &self.owner.bytes()[self.start..self.start + self.len]
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
        let len = buf.len();
        Self { owner: Owner::Buf(Arc::new(buf)), start: 0, len }
    }
}

impl From<Vec<u8>> for Bytes {
    /// Takes over a plain vector; it may be unaligned, see [`crate::Tensor::new`].
    fn from(vec: Vec<u8>) -> Self {
        Self::from_owner(vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_had_back_by_its_last_owner_alone() {
        let bytes = Bytes::copy_from(b"abcd");
        let shared = bytes.clone();
        let bytes = bytes.try_into_buf().unwrap_err();
        assert_eq!(&*bytes, b"abcd");
        drop(shared);
        assert_eq!(&*bytes.try_into_buf().unwrap(), b"abcd");
        let part = Bytes::copy_from(b"abcd").slice(1, 2);
        assert_eq!(&*part.try_into_buf().unwrap_err(), b"bc");
        assert_eq!(Bytes::from(b"abcd".to_vec()).into_buf().map(|buf| buf.len()), None);
    }
}
