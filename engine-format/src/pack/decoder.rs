//! What both implementations of zstd are.

use std::io::Read;

/// Unpacks one frame.
pub(super) trait Decoder: Read {
    /// Bytes that stand behind the frame, once it has been read to its end.
    fn behind(self) -> usize;
}
