//! Files of earlier versions are read for ever. `tests/files/README.md` says how each was made.

use crate::sample;
use engine_format::{
    Alias, Bytes, DType, Digest, Engine, EngineFlags, FitPolicy, Form, Header, Literal, MapSource,
    Port, Probe, SerializeFlags, SourceLiteral, Tensor, TensorInfo, ValueId, View, ViewPart,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// File name, refit mode, options.
const FILES: [(&str, EngineFlags, SerializeFlags); 7] = [
    ("v1.0-full.engine", EngineFlags::REFIT, SerializeFlags::INCLUDE_REFIT),
    ("v1.0-stripped.engine", EngineFlags::REFIT, SerializeFlags::EXCLUDE_WEIGHTS),
    (
        "v1.0-identical-stripped.engine",
        EngineFlags::REFIT_IDENTICAL,
        SerializeFlags::EXCLUDE_WEIGHTS,
    ),
    (
        "v1.0-individual-packed.engine",
        EngineFlags::REFIT_INDIVIDUAL,
        SerializeFlags::INCLUDE_REFIT.union(SerializeFlags::COMPRESS),
    ),
    ("v1.0-frozen.engine", EngineFlags::REFIT, SerializeFlags::empty()),
    ("v1.1-full.engine", EngineFlags::REFIT, SerializeFlags::INCLUDE_REFIT),
    ("v1.1-stripped.engine", EngineFlags::REFIT, SerializeFlags::EXCLUDE_WEIGHTS),
];

/// The files of one version.
fn of_version(version: &str) -> Vec<(&'static str, EngineFlags, SerializeFlags)> {
    FILES.into_iter().filter(|(name, ..)| name.starts_with(&format!("v{version}-"))).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn read(name: &str) -> Engine {
    Engine::read(Bytes::from(file(name))).unwrap()
}

/// Everything an engine is, as text.
fn describe(engine: &Engine) -> String {
    let parts = engine.parts();
    let mut text =
        format!("{}\nversion {:?}\n{:#?}\n", parts.flags, engine.version(), parts.metadata);
    for weight in &parts.weights {
        let bytes = weight.tensor().map_or("missing".to_owned(), |tensor| tensor.to_string());
        let digest = weight.digest.map(|digest| digest.to_string());
        writeln!(text, "{:?} = {bytes}\n  {:?} {:?}", weight.name, weight.class, digest).unwrap();
        let (value, aliases, refittable) = (weight.value, &weight.aliases, weight.refittable);
        writeln!(text, "  {value:?} {aliases:?} {:?} refittable: {refittable}", weight.pinned)
            .unwrap();
    }
    for literal in &parts.literals {
        writeln!(text, "{:?} = {}", literal.value, literal.tensor).unwrap();
    }
    for literal in &parts.source_literals {
        writeln!(text, "{:?} = {}", literal.name, literal.tensor).unwrap();
    }
    writeln!(text, "{} values, ignored {:?}", parts.values, parts.ignored).unwrap();
    writeln!(text, "inputs {:#?}\noutputs {:#?}", parts.inputs, parts.outputs).unwrap();
    writeln!(text, "prepare {:#?}\nexecute {:#?}", parts.prepare, parts.execute).unwrap();
    text
}

#[test]
fn version_1_0() {
    insta::assert_snapshot!("full", describe(&read("v1.0-full.engine")));
    // The others hold the same program: their first lines are what differs.
    let mut heads = String::new();
    for (name, ..) in of_version("1.0") {
        let text = describe(&read(name));
        let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("inputs")).collect();
        writeln!(heads, "== {name}\n{}", head.join("\n")).unwrap();
        let header = Header::parse(&file(name)).unwrap();
        assert_eq!((header.major, header.minor), (1, 0), "{name}");
    }
    insta::assert_snapshot!("heads", heads);
}

/// What 1.1 added: ports that are no tensors.
#[test]
fn version_1_1() {
    let engine = read("v1.1-full.engine");
    assert_eq!(engine.parts().inputs[1].form, Form::OptionalSequence);
    insta::assert_snapshot!("inputs_1_1", format!("{:#?}", engine.parts().inputs));
    for (name, ..) in of_version("1.1") {
        let header = Header::parse(&std::fs::read(path(name)).unwrap()).unwrap();
        assert_eq!((header.major, header.minor), (1, 1), "{name}");
    }
}

/// What 1.1 added, too: strings.
const STRINGS: &str = "v1.1-strings.engine";

fn with_strings() -> Engine {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    parts.inputs[0].dtype = DType::String;
    let names = Tensor::from_strings(&[2, 2], &["", "straße", "\u{1f600}", "a\0b"]);
    parts.source_literals.push(SourceLiteral { name: "names".to_owned(), tensor: names.clone() });
    parts.literals.push(Literal { value: ValueId(11), tensor: names });
    parts.values += 1;
    Engine::new(parts).unwrap()
}

#[test]
fn strings_of_version_1_1() {
    let engine = read(STRINGS);
    assert_eq!(describe(&engine), describe(&with_strings()));
    assert_eq!(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap(), file(STRINGS));
    let header = Header::parse(&file(STRINGS)).unwrap();
    assert_eq!((header.major, header.minor), (1, 1));
}

/// And weights under other names: as they are, or seen through views; probes; an output that is no tensor.
const BOUND: &str = "v1.1-bound.engine";

fn bound() -> Engine {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let part = |name: &str, dtype, shape: &[usize], perm: &[usize], range| ViewPart {
        name: name.to_owned(),
        info: TensorInfo { dtype, shape: shape.to_vec() },
        perm: perm.to_vec(),
        range,
    };
    // A part of a tensor that others share, and two joined: one of them turned and of fewer bits, of the other a part.
    let shared = vec![part("onnx::Add_7", DType::F32, &[9], &[0], Some((3, 6)))];
    let joined = vec![
        part("query", DType::F16, &[3, 2], &[1, 0], None),
        part("key", DType::F32, &[4, 3], &[0, 1], Some((1, 4))),
    ];
    parts.weights[0].aliases = vec![Alias::View(View { axis: 0, parts: shared })];
    parts.weights[1].aliases.push(Alias::View(View { axis: 0, parts: joined }));
    parts.outputs.push(Port {
        name: "states".to_owned(),
        value: ValueId(8),
        form: Form::Sequence,
        dtype: DType::F32,
        shape: None,
    });
    parts.execute.outputs.push(ValueId(8));
    let engine = Engine::new(parts).unwrap();
    let probe = Probe {
        version: engine.version().unwrap(),
        inputs: BTreeMap::from([("x".to_owned(), sample::floats(&[2, 5], 3))]),
        outputs: BTreeMap::from([("y".to_owned(), sample::floats(&[2, 3], 4))]),
        atol: 1e-5,
        rtol: 1e-4,
    };
    let other = Probe { version: Digest([7; 32]), rtol: 0.0, ..probe.clone() };
    engine.with_probes(vec![probe, other]).unwrap()
}

#[test]
fn aliases_and_probes_of_version_1_1() {
    let engine = read(BOUND);
    assert_eq!(describe(&engine), describe(&bound()));
    assert_eq!(engine.probes(), bound().probes());
    assert_eq!(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap(), file(BOUND));
    let header = Header::parse(&file(BOUND)).unwrap();
    assert_eq!((header.major, header.minor), (1, 1));

    // The tensors that the views are of, filled with numbers of their own: which of them goes where is written out here.
    let ramp = |shape: &[usize], from: f32| {
        let count = shape.iter().product::<usize>();
        Tensor::from_slice(shape, &(0..count).map(|i| from + i as f32).collect::<Vec<_>>())
    };
    let model = MapSource::from_iter([
        ("onnx::Add_7".to_owned(), ramp(&[9], 0.0)),
        ("query".to_owned(), ramp(&[3, 2], 100.0).converted_exactly(DType::F16).unwrap()),
        ("key".to_owned(), ramp(&[4, 3], 200.0)),
    ]);
    let filled = engine.fill(&model, FitPolicy { partial: true, ..FitPolicy::default() }).unwrap();
    let weight = |name: &str| filled.weight(name).unwrap().tensor().unwrap();
    assert_eq!(weight("encoder.bias").as_slice::<f32>().unwrap(), [3.0, 4.0, 5.0]);
    let expected = [
        [100.0f32, 102.0, 104.0],
        [101.0, 103.0, 105.0],
        [203.0, 204.0, 205.0],
        [206.0, 207.0, 208.0],
        [209.0, 210.0, 211.0],
    ];
    assert_eq!(weight("encoder.weight"), Tensor::from_slice(&[5, 3], &expected.concat()));
    assert_eq!(filled.probes(), engine.probes(), "they are of other weights now, and stay");
}

/// And weights seen through the elements of a tensor of another shape.
const RESHAPED: &str = "v1.2-reshaped.engine";

fn reshaped() -> Engine {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let flat = ViewPart {
        name: "flat".to_owned(),
        info: TensorInfo { dtype: DType::F32, shape: vec![3, 5, 1] },
        perm: vec![1, 0, 2],
        range: None,
    };
    parts.weights[1].aliases.push(Alias::View(View { axis: 0, parts: vec![flat] }));
    Engine::new(parts).unwrap()
}

#[test]
fn views_of_another_shape_of_version_1_2() {
    let engine = read(RESHAPED);
    assert_eq!(describe(&engine), describe(&reshaped()));
    assert_eq!(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap(), file(RESHAPED));
    let header = Header::parse(&file(RESHAPED)).unwrap();
    assert_eq!((header.major, header.minor), (1, 2));
    let values: Vec<f32> = (0..15).map(|i| i as f32).collect();
    let model =
        MapSource::from_iter([("flat".to_owned(), Tensor::from_slice(&[3, 5, 1], &values))]);
    let filled = engine.fill(&model, FitPolicy { partial: true, ..FitPolicy::default() }).unwrap();
    let found = filled.weight("encoder.weight").unwrap().tensor().unwrap();
    let turned: Vec<f32> = (0..5).flat_map(|i| (0..3).map(move |j| (j * 5 + i) as f32)).collect();
    assert_eq!(found, Tensor::from_slice(&[5, 3], &turned));
}

/// And weights whose names a model file has for something else.
const CALCULATED: &str = "v1.3-calculated.engine";

fn calculated() -> Engine {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    parts.ignored.push("encoder.weight".to_owned());
    parts.ignored.sort();
    Engine::new(parts).unwrap()
}

#[test]
fn calculated_names_of_version_1_3() {
    let engine = read(CALCULATED);
    assert_eq!(describe(&engine), describe(&calculated()));
    assert_eq!(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap(), file(CALCULATED));
    let header = Header::parse(&file(CALCULATED)).unwrap();
    assert_eq!((header.major, header.minor), (1, 3));
    // A checkpoint calls the weight so.
    let weight = Tensor::from_slice(&[5, 3], &[0.5f32; 15]);
    let checkpoint = MapSource::from_iter([("encoder.weight".to_owned(), weight.clone())]);
    let policy = FitPolicy { partial: true, ..FitPolicy::default() };
    let filled = engine.fill(&checkpoint, policy).unwrap();
    assert_eq!(filled.weight("encoder.weight").unwrap().tensor().unwrap(), weight);
}

/// And engines whose products round their weights.
const ROUNDED: &str = "v1.4-f16.engine";

fn rounded() -> Engine {
    Engine::new(sample::parts(EngineFlags::REFIT | EngineFlags::F16, 1)).unwrap()
}

#[test]
fn precisions_of_version_1_4() {
    let engine = read(ROUNDED);
    assert_eq!(describe(&engine), describe(&rounded()));
    assert_eq!(engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap(), file(ROUNDED));
    let header = Header::parse(&file(ROUNDED)).unwrap();
    assert_eq!((header.major, header.minor), (1, 4));
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    let expected = EngineFlags::REFIT | EngineFlags::EXCLUDE_WEIGHTS | EngineFlags::F16;
    assert_eq!(Engine::read(Bytes::from(stripped)).unwrap().flags(), expected);
}

#[test]
fn an_old_stripped_file_is_filled() {
    for version in ["1.0", "1.1"] {
        let full = read(&format!("v{version}-full.engine"));
        let filled = read(&format!("v{version}-stripped.engine"))
            .fill(&sample::source(full.parts()), FitPolicy::default())
            .unwrap();
        assert_eq!(filled.version(), full.version());
        assert_eq!(filled.parts().weights, full.parts().weights);
    }
}

/// The files of this version of the format are there. With `REFIT_BLESS` one that is missing is written; none is ever written over.
#[test]
fn files_of_this_version_are_there() {
    let bless = std::env::var_os("REFIT_BLESS").is_some();
    let hold = |name: &str, bytes: Vec<u8>| {
        if !path(name).exists() {
            assert!(bless, "{name} is missing: with REFIT_BLESS=1 this test writes it");
            std::fs::write(path(name), bytes).unwrap();
        }
    };
    for (name, mode, options) in FILES {
        let engine = Engine::new(sample::parts_1_1(mode, 1)).unwrap();
        let bytes = engine.serialize(options).unwrap();
        let Header { major, minor, .. } = Header::parse(&bytes).unwrap();
        if name.starts_with(&format!("v{major}.{minor}-")) {
            hold(name, bytes);
        }
    }
    let alone = [
        (STRINGS, with_strings()),
        (BOUND, bound()),
        (RESHAPED, reshaped()),
        (CALCULATED, calculated()),
        (ROUNDED, rounded()),
    ];
    for (name, engine) in alone {
        hold(name, engine.serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
    }
}
