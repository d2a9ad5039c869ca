//! Probes go where the weights go.

use crate::sample::{floats, parts, source};
use engine_format::{
    Bytes, Digest, Engine, EngineFlags, FitPolicy, FormatErrorKind, Header, Probe, SectionKind,
    SerializeFlags, Tensor,
};
use std::collections::BTreeMap;

const FULL: SerializeFlags = SerializeFlags::INCLUDE_REFIT;
const STRIP: SerializeFlags = SerializeFlags::EXCLUDE_WEIGHTS;

fn made_up(engine: &Engine) -> Probe {
    let tensors = |ports: &[engine_format::Port]| -> BTreeMap<String, Tensor> {
        ports.iter().map(|port| (port.name.clone(), Tensor::zeros(port.dtype, &[2]))).collect()
    };
    Probe {
        version: engine.version().unwrap(),
        inputs: tensors(&engine.parts().inputs),
        outputs: tensors(&engine.parts().outputs),
        atol: 1e-5,
        rtol: 1e-4,
    }
}

fn engines(flags: EngineFlags) -> (Engine, Engine) {
    let plain = Engine::new(parts(flags, 1)).unwrap();
    let probe = made_up(&plain);
    let probed = plain.clone().with_probes(vec![probe]).unwrap();
    (plain, probed)
}

fn file(engine: &Engine, options: SerializeFlags) -> Bytes {
    engine.serialize(options).unwrap().into()
}

#[test]
fn a_file_brings_its_probes_back_and_is_of_the_version_that_has_them() {
    let (plain, probed) = engines(EngineFlags::REFIT);
    let with = file(&probed, FULL);
    assert_eq!(Engine::read(with.clone()).unwrap().probes(), probed.probes());
    assert_eq!(Header::parse(&with).unwrap().minor, 1);
    assert_eq!(Header::parse(&file(&plain, FULL)).unwrap().minor, 0, "older readers read this");
    assert_eq!(file(&Engine::read(with.clone()).unwrap(), FULL), with);
    let frozen = file(&probed, SerializeFlags::empty());
    assert_eq!(Engine::read(frozen).unwrap().probes().len(), 1);
}

#[test]
fn a_stripped_refittable_file_holds_nothing_that_tells_of_weights() {
    let (plain, probed) = engines(EngineFlags::REFIT);
    assert_eq!(file(&probed, STRIP), file(&plain, STRIP));
    assert_eq!(probed.strip().unwrap().probes(), []);
    let (plain, probed) = engines(EngineFlags::REFIT_IDENTICAL);
    assert_ne!(file(&probed, STRIP), file(&plain, STRIP));
    let filled = probed.strip().unwrap().fill(&source(plain.parts()), FitPolicy::default());
    assert_eq!(file(&filled.unwrap(), FULL), file(&probed, FULL));
    let error = plain_stripped().with_probes(probed.probes().to_vec()).unwrap_err();
    assert_eq!(error.kind(), FormatErrorKind::InvalidEngine);
}

fn plain_stripped() -> Engine {
    engines(EngineFlags::REFIT).0.strip().unwrap()
}

#[test]
fn a_refit_keeps_the_probes_of_other_versions() {
    let (_, probed) = engines(EngineFlags::REFIT);
    let other = source(&parts(EngineFlags::REFIT, 2));
    let refitted = probed.fill(&other, FitPolicy::default()).unwrap();
    assert_ne!(refitted.version(), probed.version());
    assert_eq!(refitted.probes(), probed.probes());
    let mut streamed = std::io::Cursor::new(Vec::new());
    engine_format::fill_to(&probed, &other, FitPolicy::default(), FULL, &mut streamed).unwrap();
    assert_eq!(Bytes::from(streamed.into_inner()), file(&refitted, FULL));
}

#[test]
fn probes_that_do_not_go_with_the_engine_are_refused() {
    let (plain, _) = engines(EngineFlags::REFIT);
    type Change = fn(&mut Probe);
    let changes: [(Change, &str); 6] = [
        (|p| p.atol = f64::NAN, "tolerance of a probe at probe 0"),
        (|p| p.rtol = -1.0, "tolerance of a probe"),
        (|p| p.outputs.clear(), "a probe without outputs"),
        (|p| drop(p.inputs.pop_first()), "a probe without one of the inputs"),
        (|p| drop(p.inputs.insert("?".into(), floats(&[1], 1))), "a tensor of a probe that is no"),
        (
            |p| {
                let name = p.outputs.keys().next().unwrap().clone();
                p.outputs.insert(name, Tensor::zeros(engine_format::DType::U16, &[1]));
            },
            "a tensor of a probe that is no port's at probe 0: expected",
        ),
    ];
    for (change, message) in changes {
        let mut probe = made_up(&plain);
        change(&mut probe);
        let error = plain.clone().with_probes(vec![probe]).unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::InvalidEngine);
        assert!(error.to_string().starts_with(message), "{message}\n{error}");
    }
}

#[test]
fn every_flipped_bit_of_the_section_is_seen() {
    let (_, probed) = engines(EngineFlags::REFIT);
    let good = file(&probed, FULL).to_vec();
    let section = Header::parse(&good).unwrap().section(SectionKind::Probes).unwrap().clone();
    let range = section.offset as usize..(section.offset + section.length) as usize;
    assert_eq!(range.end, good.len(), "it is the last");
    for at in range {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert_eq!(
            Engine::read(bad.into()).unwrap_err().kind(),
            FormatErrorKind::Corrupt,
            "byte {at}"
        );
    }
    let digest = Digest::of(&good[section.offset as usize..]);
    assert_eq!(digest.0, section.digest);
}
