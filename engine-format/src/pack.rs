//! zstd with caps: fixed level, one thread, one frame; memory grows with what arrives, not with what
//! is claimed.

mod decoder;
#[cfg(any(target_family = "wasm", test))]
mod portable;
#[cfg(not(target_family = "wasm"))]
mod reference;

#[cfg(target_family = "wasm")]
use portable as codec;
#[cfg(not(target_family = "wasm"))]
use reference as codec;

use crate::{AlignedBuf, FormatError, FormatErrorKind};
use decoder::Decoder;
use std::io;

/// Level for the small sections: they are packed once and shipped often.
const SECTION_LEVEL: i32 = 19;
/// Level for weights: they are large and barely compress.
const WEIGHT_LEVEL: i32 = 3;
/// What is allocated at first for a frame of `n` bytes is at most `n` times this, plus [`FIRST`].
const FIRST_RATIO: usize = 16;
const FIRST: usize = 64 << 10;

/// Packs a program or table section.
pub(crate) fn pack_section(raw: &[u8]) -> Result<Vec<u8>, FormatError> {
    pack(raw, SECTION_LEVEL)
}

/// Packs one weight.
pub(crate) fn pack_weight(raw: &[u8]) -> Result<Vec<u8>, FormatError> {
    pack(raw, WEIGHT_LEVEL)
}

fn pack(raw: &[u8], level: i32) -> Result<Vec<u8>, FormatError> {
    codec::compress(raw, level).map_err(|error| {
        FormatError::new(FormatErrorKind::Io, "zstd compression failed").found(error)
    })
}

/// Unpacks exactly `len` bytes from the one frame in `packed`; `place` is named in errors.
pub(crate) fn unpack(packed: &[u8], len: usize, place: &str) -> Result<AlignedBuf, FormatError> {
    unpack_with(codec::decoder(packed), packed, len, place)
}

fn unpack_with(
    decoder: io::Result<impl Decoder>,
    packed: &[u8],
    len: usize,
    place: &str,
) -> Result<AlignedBuf, FormatError> {
    let corrupt = |what: &str| FormatError::new(FormatErrorKind::Corrupt, what).at(place);
    let broken = |error: io::Error| corrupt("broken zstd frame").found(error);
    let mut decoder = decoder.map_err(broken)?;
    let first = packed.len().saturating_mul(FIRST_RATIO).saturating_add(FIRST);
    let mut out =
        AlignedBuf::try_zeroed(len.min(first)).map_err(|e| FormatError::from(e).at(place))?;
    let mut filled = 0;
    while filled < len {
        if filled == out.len() {
            let next = out.len().saturating_mul(2).min(len);
            out.try_grow(next).map_err(|e| FormatError::from(e).at(place))?;
        }
        match decoder.read(&mut out[filled..]).map_err(broken)? {
            0 => {
                return Err(corrupt("zstd frame unpacks to less than it should")
                    .expected(format!("{len} bytes"))
                    .found(filled));
            }
            read => filled += read,
        }
    }
    if decoder.read(&mut [0]).map_err(broken)? != 0 {
        return Err(
            corrupt("zstd frame unpacks to more than it should").expected(format!("{len} bytes"))
        );
    }
    let rest = decoder.behind();
    if rest != 0 {
        return Err(corrupt("bytes after the zstd frame").found(rest));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both decoders make of a frame; they agree on whether it is one.
    fn unpack(packed: &[u8], len: usize, place: &str) -> Result<AlignedBuf, FormatError> {
        let portable = unpack_with(portable::decoder(packed), packed, len, place);
        let unpacked = super::unpack(packed, len, place);
        match (&unpacked, portable) {
            (Ok(reference), Ok(portable)) => assert!(**reference == *portable),
            (Err(reference), Err(portable)) => {
                // What lies between a broken frame and its cause is the decoder's own text.
                let class =
                    |error: &FormatError| error.to_string().split(" at ").next().map(str::to_owned);
                assert_eq!(class(reference), class(&portable));
            }
            (reference, portable) => panic!("{reference:?}, and portably {portable:?}"),
        }
        unpacked
    }

    #[test]
    fn what_is_packed_unpacks() {
        for len in [0, 1, 5000, 3 << 20] {
            let raw: Vec<u8> = (0..len).map(|i| (i / 7 % 251) as u8).collect();
            let portable = portable::compress(&raw, SECTION_LEVEL).unwrap();
            for packed in [pack_section(&raw).unwrap(), pack_weight(&raw).unwrap(), portable] {
                assert_eq!(*unpack(&packed, len, "test").unwrap(), *raw);
            }
        }
    }

    #[test]
    fn a_frame_of_another_size_is_refused() {
        let packed = pack_weight(&[3; 1000]).unwrap();
        let error = |len| unpack(&packed, len, "weight \"w\"").unwrap_err().to_string();
        assert_eq!(
            error(1001),
            "zstd frame unpacks to less than it should at weight \"w\": expected 1001 bytes, found 1000"
        );
        assert_eq!(
            error(999),
            "zstd frame unpacks to more than it should at weight \"w\": expected 999 bytes"
        );
        let mut longer = packed.clone();
        longer.extend_from_slice(&packed);
        let error = unpack(&longer, 1000, "test").unwrap_err();
        assert!(error.to_string().starts_with("bytes after the zstd frame"), "{error}");
    }

    #[test]
    fn a_forged_size_allocates_little() {
        let packed = pack_weight(&[3; 1000]).unwrap();
        // Were the claim believed, this would ask for 2^60 bytes and abort the test.
        let error = unpack(&packed, 1 << 60, "test").unwrap_err();
        assert!(error.to_string().contains("found 1000"), "{error}");
    }

    #[test]
    fn a_frame_with_a_huge_window_is_refused() {
        use std::io::Write as _;
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 100]).unwrap();
        let packed = encoder.finish().unwrap();
        let error = unpack(&packed, 100, "test").unwrap_err();
        assert!(error.to_string().starts_with("broken zstd frame"), "{error}");
    }
}
