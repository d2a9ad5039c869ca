//! Files of earlier versions are read for ever. `tests/files/README.md` says how each was made.

use crate::sample;
use engine_format::{
    Bytes, DType, Engine, EngineFlags, FitPolicy, Form, Header, Literal, SerializeFlags,
    SourceLiteral, Tensor, ValueId,
};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// File name, refit mode, wish.
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

fn write(name: &str, bytes: Vec<u8>) {
    let path = path(name);
    assert!(!path.exists(), "{} is kept as it is", path.display());
    std::fs::write(path, bytes).unwrap();
}

/// Writes the files of a new version of the format; never over one that is there.
#[test]
#[ignore = "run by hand when the format's version changes, see tests/files/README.md"]
fn write_files_of_this_version() {
    for (name, mode, wish) in FILES {
        let engine = Engine::new(sample::parts_1_1(mode, 1)).unwrap();
        let bytes = engine.serialize(wish).unwrap();
        let Header { major, minor, .. } = Header::parse(&bytes).unwrap();
        if !name.starts_with(&format!("v{major}.{minor}-")) {
            continue;
        }
        write(name, bytes);
    }
    write(STRINGS, with_strings().serialize(SerializeFlags::INCLUDE_REFIT).unwrap());
}
