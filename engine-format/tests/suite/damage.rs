//! A damaged file is an error, wherever the damage is.

use crate::sample::{self, MODES};
use engine_format::{
    Bytes, Engine, EngineFlags, FormatError, FormatErrorKind, Header, SerializeFlags,
};

/// Every form of the sample: full, stripped, packed, frozen.
fn files() -> Vec<Vec<u8>> {
    let mut all_options: Vec<SerializeFlags> =
        (0..8).map(SerializeFlags::from_bits_truncate).collect();
    all_options.retain(|options| {
        *options != SerializeFlags::EXCLUDE_WEIGHTS | SerializeFlags::INCLUDE_REFIT
    });
    let engine = Engine::new(sample::parts(EngineFlags::REFIT, 1)).unwrap();
    all_options.iter().map(|&options| engine.serialize(options).unwrap()).collect()
}

fn error(file: &[u8]) -> FormatError {
    Engine::read(Bytes::copy_from(file)).expect_err("a damaged file is refused")
}

#[test]
fn every_truncation_is_refused() {
    for file in files() {
        for len in 0..file.len() {
            let error = error(&file[..len]);
            assert_eq!(error.kind(), FormatErrorKind::Corrupt, "{len}: {error}");
            assert!(error.to_string().contains("offset"), "{len}: {error}");
        }
    }
}

#[test]
fn every_single_bit_counts() {
    for mut file in files() {
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            let error = error(&file);
            assert!(error.to_string().contains("offset"), "bit {bit}: {error}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
        Engine::read(file.into()).unwrap();
    }
}

#[test]
fn trailing_bytes_are_refused() {
    for mut file in files() {
        let len = file.len();
        file.push(0);
        let message = error(&file).to_string();
        let expected = format!(
            "bytes after the end of the file at offset {len}: expected {len} bytes, found {}",
            len + 1
        );
        assert_eq!(message, expected);
    }
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    // Bytes of another file behind a valid prefix: every digest that could be wrong is.
    let (a, b) = (&files()[2], &files()[1]);
    let mut mixed = a.clone();
    for (i, byte) in mixed.iter_mut().enumerate().skip(Header::BYTES) {
        *byte = b[i % b.len()];
    }
    assert_eq!(error(&mixed).kind(), FormatErrorKind::Corrupt);
}

/// Changes eight bytes of the prefix and makes its digest right again.
fn forged(file: &[u8], at: usize, value: u64) -> FormatError {
    let mut file = file.to_vec();
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let digest = engine_format::Digest::of(&file[..480]);
    file[480..512].copy_from_slice(&digest.0);
    error(&file)
}

#[test]
fn a_forged_prefix_is_refused_without_its_sizes_being_believed() {
    let file = &files()[2];
    for length in [1, 1 << 20, 1 << 40, u64::MAX / 2, u64::MAX] {
        // File length; then offset, length and unpacked length of the three sections.
        let fields =
            [24].into_iter().chain((0..3).flat_map(|i| (0..3).map(move |f| 40 + 64 * i + 8 * f)));
        for at in fields {
            forged(file, at, length);
        }
    }
    let unknown = forged(file, 16, 1 | 1 << 33);
    assert_eq!(unknown.kind(), FormatErrorKind::InvalidFlags);
    assert!(unknown.to_string().contains("REFIT | bit 33"), "{unknown}");
    let two_modes = forged(file, 16, 0b11);
    assert_eq!(two_modes.kind(), FormatErrorKind::InvalidFlags);
}

#[test]
fn flags_that_contradict_the_weights_are_refused() {
    for mode in MODES {
        let engine = Engine::new(sample::parts(mode, 1)).unwrap();
        let full = engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap();
        let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
        forged(&full, 16, (mode | EngineFlags::EXCLUDE_WEIGHTS).bits());
        forged(&full, 16, (mode | EngineFlags::COMPRESSED).bits());
        forged(&stripped, 16, mode.bits());
        forged(&stripped, 16, EngineFlags::empty().bits());
    }
}
