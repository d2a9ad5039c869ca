//! Shared, immutable byte ranges.

use crate::AlignedBuf;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// What bytes belong to that a file stands behind: somebody else may change it, and memory that is given back is filled from it again.
pub trait Mapped: AsRef<[u8]> + Send + Sync {
    /// Whether the bytes are still those that were there when they were shared. It is asked before they are read, so it should be quick.
    ///
    /// # Errors
    /// What changed.
    fn check(&self) -> Result<(), Changed>;

    /// Says that these bytes will hardly be read again: the system may have their memory back, and reads them from the file if they are.
    fn release(&self, range: Range<usize>);
}

/// Bytes are not what they were when they were shared: reading them might give anything, or end the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin} changed while it was in use: it was {expected}, now it is {found}")]
pub struct Changed {
    /// The file.
    pub origin: String,
    /// What it was: its length, the time of its last change.
    pub expected: String,
    /// What it is.
    pub found: String,
}

/// An immutable range of bytes that keeps its owner alive: a mapped file, a
/// buffer, another range. Cloning is a reference count.
///
/// Bytes of a mapped file are immutable as long as nobody writes to the file; [`Bytes::check`] tells.
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
    Mapped(Arc<dyn Mapped>),
}

impl Owner {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Buf(buf) => buf,
            Self::Other(other) => (**other).as_ref(),
            Self::Mapped(owner) => (**owner).as_ref(),
        }
    }
}

impl Bytes {
    /// Shares everything `owner` holds.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Owner::Other(Arc::new(owner)), start: 0, len }
    }

    /// Shares everything that `owner` holds, which somebody else may change.
    pub fn from_mapped(owner: impl Mapped + 'static) -> Self {
        let len = owner.as_ref().len();
        Self { owner: Owner::Mapped(Arc::new(owner)), start: 0, len }
    }

    /// Says that these bytes will hardly be read again, see [`Mapped::release`]. Nothing happens where no file stands behind them.
    pub fn release(&self) {
        if let Owner::Mapped(owner) = &self.owner {
            owner.release(self.start..self.start + self.len);
        }
    }

    /// Whether the bytes are still those that were shared. Others than those of [`Bytes::from_mapped`] always are.
    ///
    /// # Errors
    /// What changed.
    pub fn check(&self) -> Result<(), Changed> {
        match &self.owner {
            Owner::Mapped(owner) => owner.check(),
            Owner::Buf(_) | Owner::Other(_) => Ok(()),
        }
    }

    /// Whether somebody else may change these bytes, and `other` belongs to the same.
    fn changes_with(&self, other: &Self) -> bool {
        match (&self.owner, &other.owner) {
            (Owner::Mapped(a), Owner::Mapped(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether somebody else may change these bytes.
    fn is_mapped(&self) -> bool {
        matches!(self.owner, Owner::Mapped(_))
    }

    /// One of these bytes for each owner that somebody else may change.
    pub(crate) fn of_mapped<'a>(all: impl Iterator<Item = &'a Self>) -> Vec<Self> {
        let mut distinct = Vec::<Self>::new();
        for bytes in all.filter(|bytes| bytes.is_mapped()) {
            // Neighbours in a table lie in one file.
            if !distinct.iter().rev().any(|known| known.changes_with(bytes)) {
                distinct.push(bytes.clone());
            }
        }
        distinct
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
