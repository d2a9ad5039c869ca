//! The specification says what the code does: caps and bytes are held against it.

use engine_format::{DType, EngineFlags, Header, limits};

fn specification() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMAT.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_cap_is_in_the_specification() {
    let caps = [
        ("unpacked program section, bytes", limits::PROGRAM_BYTES as u64),
        ("unpacked table section, bytes", limits::TABLE_BYTES as u64),
        ("unpacked probes section, bytes", limits::PROBE_BYTES as u64),
        ("window of a zstd frame, base-2 logarithm", limits::WINDOW_LOG.into()),
        ("nesting of MessagePack", limits::MESSAGE_DEPTH as u64),
        ("string, bytes", limits::STRING_BYTES as u64),
        (
            "name (weight, alias, port, node, operator, attribute, symbol), bytes",
            limits::NAME_BYTES as u64,
        ),
        ("values", limits::VALUES as u64),
        ("weights", limits::WEIGHTS as u64),
        ("blocks inside blocks", limits::BLOCK_DEPTH as u64),
        ("dimensions of a tensor or port", limits::RANK as u64),
        ("always-stored weight in the table, bytes", limits::INLINE_BYTES as u64),
        ("parameter in the table, bytes", limits::PARAMETER_BYTES as u64),
        ("all weights unpacked; a section; bytes", limits::TOTAL_BYTES),
    ];
    let table: String = caps.map(|(name, value)| format!("| {name} | {value} |\n")).concat();
    let specification = specification();
    assert!(specification.contains(&table), "section 9 of docs/FORMAT.md should have\n{table}");
}

#[test]
fn every_flag_and_dtype_is_in_the_specification() {
    let specification = specification();
    for (name, flag) in EngineFlags::all().iter_names() {
        let row = format!("| {} | `{name}` |", flag.bits().trailing_zeros());
        assert!(specification.contains(&row), "{row}");
    }
    let words: Vec<&str> = specification.split([' ', '`', '\n']).collect();
    for dtype in DType::ALL {
        assert!(words.contains(&dtype.name()), "{dtype}");
    }
}

#[test]
fn the_prefix_is_as_specified() {
    let file = include_bytes!("../files/v1.0-full.engine");
    let header = Header::parse(file).unwrap();
    let u64_at = |at: usize| u64::from_le_bytes(*file[at..].first_chunk().unwrap());
    assert_eq!(file[..8], [0x93, 0x52, 0x45, 0x46, 0x49, 0x54, 0x0d, 0x0a]);
    assert_eq!(file[8..16], [1, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(u64_at(16), header.flags.bits());
    assert_eq!(u64_at(24), file.len() as u64);
    for (entry, section) in header.sections.iter().enumerate() {
        let at = 32 + 64 * entry;
        let fields = [section.offset, section.length, section.unpacked];
        assert_eq!([u64_at(at + 8), u64_at(at + 16), u64_at(at + 24)], fields);
        assert_eq!(file[at + 32..at + 64], section.digest);
    }
    assert_eq!(file[480..512], engine_format::Digest::of(&file[..480]).0);
}
