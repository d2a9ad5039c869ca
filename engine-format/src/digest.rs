//! Digests, of a whole at once or piece by piece.

use std::fmt;

/// A BLAKE3 digest of a weight's raw (uncompressed, little-endian) bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`. Under the feature `parallel` a long range is spread over the rayon pool of the caller.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Computes a digest piece by piece. The pieces' lengths do not show in it.
#[derive(Default)]
pub(crate) struct Hasher(blake3::Hasher);

impl Hasher {
    #[cfg(not(feature = "parallel"))]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    #[cfg(feature = "parallel")]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        /// Bytes from which on handing work to other threads costs less than it saves.
        const SPREAD: usize = 256 << 10;
        if bytes.len() < SPREAD {
            self.0.update(bytes);
        } else {
            self.0.update_rayon(bytes);
        }
    }

    pub(crate) fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_threads_do_not_show() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let whole = Digest(*blake3::hash(&bytes).as_bytes());
        assert_eq!(Digest::of(&bytes), whole);
        for piece in [1 << 10, (256 << 10) - 1, 256 << 10, 2_999_999] {
            let mut hasher = Hasher::default();
            bytes.chunks(piece).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), whole, "pieces of {piece} bytes");
        }
    }
}
