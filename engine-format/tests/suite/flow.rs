//! Strip, fill, freeze, refit, version.

use crate::sample::{self, MODES};
use engine_format::{Bytes, Engine, EngineFlags, FitPolicy, SerializeFlags, Written, fill_to};
use std::io::Cursor;

const FULL: SerializeFlags = SerializeFlags::INCLUDE_REFIT;
const STRIP: SerializeFlags = SerializeFlags::EXCLUDE_WEIGHTS;
const PACK: SerializeFlags = SerializeFlags::COMPRESS;
const EXACT: FitPolicy = FitPolicy { partial: false, allow_extra: false };

fn engine(flags: EngineFlags, seed: u32) -> Engine {
    Engine::new(sample::parts(flags, seed)).unwrap()
}

fn reread(bytes: Vec<u8>) -> Engine {
    Engine::read(Bytes::from(bytes)).unwrap()
}

#[test]
fn strip_then_fill_is_the_full_file_bit_for_bit() {
    for mode in MODES {
        let built = engine(mode, 1);
        let source = sample::source(built.parts());
        for full in [FULL, FULL | PACK, SerializeFlags::empty(), PACK] {
            let expected = built.serialize(full).unwrap();
            for strip in [STRIP, STRIP | PACK, STRIP | FULL] {
                let stripped = reread(built.serialize(strip).unwrap());
                assert!(!stripped.is_full() && stripped.version().is_none());
                let filled = stripped.fill(&source, EXACT).unwrap();
                assert_eq!(filled.version(), built.version());
                assert_eq!(filled.serialize(full).unwrap(), expected, "{mode} {full:?}");

                let mut file = Cursor::new(Vec::new());
                let written = fill_to(&stripped, &source, EXACT, full, &mut file).unwrap();
                assert_eq!(*file.get_ref(), expected, "{mode} {full:?}");
                let flags = engine_format::Header::parse(&expected).unwrap().flags;
                let length = expected.len() as u64;
                assert_eq!(written, Written { flags, length, version: built.version() });
            }
        }
    }
}
