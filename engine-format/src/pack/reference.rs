//! zstd's own library.

use super::decoder::Decoder;
use crate::limits;
use std::io;

pub(super) fn compress(raw: &[u8], level: i32) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, level)
}

pub(super) fn decoder(packed: &[u8]) -> io::Result<impl Decoder> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?.single_frame();
    decoder.window_log_max(limits::WINDOW_LOG)?;
    Ok(decoder)
}

impl Decoder for zstd::stream::read::Decoder<'_, &[u8]> {
    fn behind(self) -> usize {
        self.finish().len()
    }
}
