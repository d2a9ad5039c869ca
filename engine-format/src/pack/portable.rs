//! zstd where no C is compiled. What it packs is larger, and unpacks everywhere.

use super::decoder::Decoder;
use crate::limits;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io;

/// There is one level.
pub(super) fn compress(raw: &[u8], _level: i32) -> io::Result<Vec<u8>> {
    Ok(compress_to_vec(raw, CompressionLevel::Fastest))
}

pub(super) fn decoder(packed: &[u8]) -> io::Result<impl Decoder> {
    let window = 1 << limits::WINDOW_LOG;
    StreamingDecoder::new_with_max_window_size(packed, window).map_err(io::Error::other)
}

impl Decoder for StreamingDecoder<&[u8], FrameDecoder> {
    fn behind(self) -> usize {
        self.into_inner().len()
    }
}
