//! Strip, fill, freeze, refit, version.

use crate::sample::{self, MODES};
use engine_format::{
    Bytes, Engine, EngineFlags, FitPolicy, FormatErrorKind, Misfit, SerializeFlags, Tensor,
    Written, check_fit, fill_to,
};
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
                let written = fill_to(&stripped, &source, EXACT, full, &mut file).unwrap().made;
                assert_eq!(*file.get_ref(), expected, "{mode} {full:?}");
                let flags = engine_format::Header::parse(&expected).unwrap().flags;
                let length = expected.len() as u64;
                assert_eq!(written, Written { flags, length, version: built.version() });
            }
        }
    }
}

#[test]
fn engines_that_differ_only_in_weights_strip_to_the_same_bytes() {
    for mode in [EngineFlags::REFIT, EngineFlags::REFIT_INDIVIDUAL] {
        let (a, b) = (engine(mode, 1), engine(mode, 99));
        assert_ne!(a.version(), b.version());
        assert_ne!(a.serialize(FULL).unwrap(), b.serialize(FULL).unwrap());
        assert_eq!(a.serialize(STRIP).unwrap(), b.serialize(STRIP).unwrap());
        assert_eq!(a.strip().unwrap().parts().weights, b.strip().unwrap().parts().weights);
    }
    // Here the digests are what a fill is checked against.
    let identical = EngineFlags::REFIT_IDENTICAL;
    let strip = |seed| engine(identical, seed).serialize(STRIP).unwrap();
    assert_ne!(strip(1), strip(99));
}

#[test]
fn a_stripped_file_stays_the_same_file() {
    for mode in MODES {
        let built = engine(mode, 1);
        for options in [STRIP, STRIP | PACK] {
            let stripped = built.serialize(options).unwrap();
            assert_eq!(reread(stripped.clone()).serialize(options).unwrap(), stripped);
            assert_eq!(built.strip().unwrap().serialize(options).unwrap(), stripped);
        }
        let error = built.strip().unwrap().serialize(FULL).unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::MissingWeights);
        assert_eq!(error.weight_names(), ["encoder.bias", "encoder.weight"]);
        let message = "the engine's weights are missing: encoder.bias, encoder.weight";
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn only_what_may_be_replaced_is_stripped() {
    let mut parts = sample::parts(EngineFlags::REFIT_INDIVIDUAL, 1);
    parts.weights[0].refittable = false;
    let stripped = reread(Engine::new(parts).unwrap().serialize(STRIP).unwrap());
    assert_eq!(stripped.missing(), ["encoder.weight"]);
    for name in ["encoder.bias", "epsilon", "table"] {
        assert!(stripped.weight(name).unwrap().tensor().is_some(), "{name}");
    }
}

#[test]
fn a_frozen_engine_keeps_its_weights() {
    for built in [engine(EngineFlags::empty(), 1), engine(EngineFlags::REFIT, 1)] {
        let frozen = reread(built.serialize(SerializeFlags::empty()).unwrap());
        assert!(frozen.flags().is_frozen() && frozen.is_full());
        assert_eq!(frozen.version(), built.version());
        let with_options = frozen.serialize(FULL).unwrap();
        assert_eq!(with_options, frozen.serialize(SerializeFlags::empty()).unwrap());
        assert_eq!(frozen.strip().unwrap_err().kind(), FormatErrorKind::NotRefittable);
        let source = sample::source(built.parts());
        let report = check_fit(&frozen, &source, EXACT).unwrap();
        assert_eq!(report.misfits, [Misfit::Frozen]);
        let error = frozen.fill(&source, EXACT).unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::NotRefittable);
    }
}

#[test]
fn the_version_depends_on_weights_alone() {
    let (a, b) = (engine(EngineFlags::REFIT, 1), engine(EngineFlags::REFIT, 2));
    let to_b = a.fill(&sample::source(b.parts()), EXACT).unwrap();
    assert_eq!(to_b.version(), b.version());
    assert_ne!(to_b.version(), a.version());
    let back = to_b.fill(&sample::source(a.parts()), EXACT).unwrap();
    assert_eq!(back.version(), a.version());
    assert_eq!(back.serialize(FULL | PACK).unwrap(), a.serialize(FULL | PACK).unwrap());
    let frozen = reread(a.serialize(SerializeFlags::empty()).unwrap());
    assert_eq!(frozen.version(), a.version());
}

#[test]
fn compression_changes_the_file_and_not_the_engine() {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let zeros = Tensor::zeros(engine_format::DType::F32, &[500, 3]);
    parts.weights[1] = sample::weight("encoder.weight", 4, &zeros, parts.flags);
    let built = Engine::new(parts).unwrap();
    let (raw, packed) = (built.serialize(FULL).unwrap(), built.serialize(FULL | PACK).unwrap());
    assert!(packed.len() + 5000 < raw.len(), "{} and {}", packed.len(), raw.len());
    let unpacked = reread(packed);
    assert_eq!(unpacked.flags(), EngineFlags::REFIT | EngineFlags::COMPRESSED);
    assert_eq!(unpacked.parts().weights, built.parts().weights);
    assert_eq!(unpacked.serialize(FULL).unwrap(), raw);
}

#[test]
fn raw_weights_are_ranges_of_the_file() {
    let built = engine(EngineFlags::REFIT, 1);
    let file = Bytes::copy_from(&built.serialize(FULL).unwrap());
    let read = Engine::read(file.clone()).unwrap();
    let inside = file.as_ptr_range();
    for name in ["encoder.bias", "encoder.weight"] {
        let tensor = read.weight(name).unwrap().tensor().unwrap();
        assert!(inside.contains(&tensor.bytes().as_ptr()), "{name} was copied");
        let offset = tensor.bytes().as_ptr().addr() - inside.start.addr();
        assert_eq!(offset % 64, 0, "{name}");
    }
    let header = engine_format::Header::parse(&file).unwrap();
    let weights = header.section(engine_format::SectionKind::Weights).unwrap();
    assert_eq!(weights.offset % 4096, 0);
}

#[test]
fn a_badly_aligned_buffer_is_read_all_the_same() {
    let built = engine(EngineFlags::REFIT, 1);
    let mut shifted = vec![0];
    shifted.extend(built.serialize(FULL).unwrap());
    let len = shifted.len() - 1;
    let read = Engine::read(Bytes::copy_from(&shifted).slice(1, len)).unwrap();
    assert_eq!(read.serialize(FULL).unwrap(), built.serialize(FULL).unwrap());
    let tensor = read.weight("encoder.bias").unwrap().tensor().unwrap();
    assert_eq!(tensor.as_slice::<f32>().unwrap().len(), 3);
}

#[test]
fn a_file_is_written_where_the_stream_stands() {
    let built = engine(EngineFlags::REFIT, 1);
    let mut out = Cursor::new(b"before".to_vec());
    out.set_position(6);
    let written = built.write(FULL, &mut out).unwrap();
    assert_eq!(out.position(), 6 + written.length);
    assert_eq!(out.get_ref()[..6], *b"before");
    assert_eq!(out.get_ref()[6..], built.serialize(FULL).unwrap());
}

#[test]
fn ports_keep_numbers_and_symbols() {
    use engine_format::Dim;
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let half = Dim::symbol("seq").floor_div(&Dim::from(2));
    parts.outputs[0].shape = Some(vec![half, Dim::from(4)]);
    let built = Engine::new(parts).unwrap();
    let shape = built.parts().outputs[0].shape.clone().unwrap();
    assert_eq!(shape, [Dim::symbol("floor(seq, 2)"), Dim::from(4)]);
    assert_eq!(reread(built.serialize(FULL).unwrap()).parts().outputs, built.parts().outputs);
}
