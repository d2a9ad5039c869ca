//! What ARCHITECTURE.md promises of the code itself, read from its text.

mod builds;
mod modules;

use modules::Crate;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Crates whose files do not import in circles.
const LAYERED: [&str; 3] = ["engine-format", "engine-ops", "engine-runtime"];
/// Files of a folder at most.
const FILES: usize = 40;
/// Lines of a file at most.
const LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The folders below this one that hold sources, itself among them.
fn folders(of: PathBuf, found: &mut BTreeMap<PathBuf, Vec<PathBuf>>) {
    let entries = std::fs::read_dir(&of).expect("a folder of the repository is readable");
    for entry in entries {
        let path = entry.expect("a folder of the repository is readable").path();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => folders(path, found),
            Some("rs" | "wgsl" | "py") => found.entry(of.clone()).or_default().push(path),
            _ => {}
        }
    }
}

fn sources() -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root()).expect("the repository is readable") {
        let path = entry.expect("the repository is readable").path();
        if path.join("Cargo.toml").exists() {
            for part in ["src", "tests", "benches", "examples", "python"] {
                if path.join(part).is_dir() {
                    folders(path.join(part), &mut found);
                }
            }
        }
    }
    assert!(found.len() > 50, "the sources are found");
    found
}

/// Files that lead back to themselves, each with those of its imports that do so too.
fn circles<'a>(
    imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
) -> BTreeMap<&'a Path, BTreeSet<&'a Path>> {
    let reach = |from: &'a Path| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(imports[file].iter().copied().filter(|&next| seen.insert(next)));
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<&Path>> =
        imports.keys().map(|&file| (file, reach(file))).collect();
    let back = |file: &&'a Path| reached[*file].contains(*file);
    let within = |file: &'a Path| {
        let next = imports[file].iter().copied();
        next.filter(|&next| reached[next].contains(file)).collect()
    };
    imports.keys().copied().filter(back).map(|file| (file, within(file))).collect()
}

#[test]
fn files_do_not_import_in_circles() {
    let mut found = String::new();
    for name in LAYERED {
        let source = root().join(name).join("src");
        let files = Crate::read(&source.join("lib.rs"));
        let imports = files.imports();
        assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 50, "{name} has imports");
        for (file, to) in circles(&imports) {
            let short =
                |file: &Path| file.strip_prefix(&source).unwrap_or(file).display().to_string();
            let to: Vec<String> = to.into_iter().map(short).collect();
            found += &format!("{name}: {} -> {}\n", short(file), to.join(", "));
        }
    }
    assert!(found.is_empty(), "files import each other in circles:\n{found}");
}

#[test]
fn a_circle_is_seen() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("it is writable");
    };
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\n");
    write("a.rs", "use crate::c::C;\npub struct A(C);\n");
    write("b.rs", "pub struct B;\nfn made() -> String { format!(\"{:?}\", crate::A::new()) }\n");
    // By way of a name that the root hands on; what a test imports is no import.
    write(
        "c.rs",
        "use super::b;\npub struct C(b::B);\n#[cfg(test)]\nmod tests { use crate::a::A; }\n",
    );
    let files = Crate::read(&folder.path().join("lib.rs"));
    let imports = files.imports();
    let names = |files: BTreeSet<&Path>| {
        let name = |file: &Path| file.file_name().expect("a file").to_string_lossy().into_owned();
        files.into_iter().map(name).collect::<Vec<_>>()
    };
    let found: Vec<Vec<String>> = circles(&imports).into_values().map(names).collect();
    assert_eq!(found, [["c.rs"], ["a.rs"], ["b.rs"]]);
}

#[test]
fn folders_and_files_can_be_looked_over() {
    let mut wrong = String::new();
    for (folder, files) in sources() {
        if files.len() >= FILES {
            wrong += &format!("{}: {} files\n", folder.display(), files.len());
        }
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source is text");
            let lines = text.lines().count();
            if lines > LINES {
                wrong += &format!("{}: {lines} lines\n", file.display());
            }
        }
    }
    assert!(wrong.is_empty(), "folders of {FILES} files or files of over {LINES} lines:\n{wrong}");
}

/// Words that code may have in these places alone.
const KEPT: [(&str, &str, &[&str]); 2] = [
    (
        "unsafe",
        "",
        &[
            "engine-ops/src/cpu/kernels",
            "engine-ops/src/cpu/wide.rs",
            "engine-onnx/src/map.rs",
            "engine-runtime/src/gpu/present/compile.rs",
            "engine-runtime/src/gpu/present/device.rs",
            "engine-runtime/src/threads/spin.rs",
            "refit-python/src/dlpack.rs",
        ],
    ),
    ("rayon", "engine-ops/src", &["engine-ops/src/cpu/parallel.rs"]),
];

/// What a pass names as an operator is one of `crate::op`, and so of the table.
#[test]
fn passes_name_no_operator_by_its_text() {
    let passes = root().join("engine-builder/src/passes");
    let is_operator = |text: &str| {
        let mut text = text.chars();
        text.next().is_some_and(|first| first.is_ascii_uppercase())
            && text.all(|c| c.is_ascii_alphanumeric())
    };
    let mut wrong = String::new();
    let files = sources().remove(&passes).expect("the passes lie there");
    for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
        for text in modules::texts(file).iter().filter(|text| is_operator(text)) {
            wrong += &format!("{}: {text:?}\n", file.display());
        }
    }
    assert!(wrong.is_empty(), "operators that passes name by their text:\n{wrong}");
    assert!(is_operator("MatMul") && !is_operator("transB") && !is_operator("The axis"));
}

#[test]
fn unsafe_code_and_threads_are_where_they_may_be() {
    let mut wrong = String::new();
    for (word, within, places) in KEPT {
        let mut kept = BTreeSet::new();
        for file in sources().into_values().flatten() {
            let short = file.strip_prefix(root()).expect("a file of the repository");
            let is_code = short.extension().is_some_and(|extension| extension == "rs")
                && short.components().nth(1).is_some_and(|part| part.as_os_str() == "src")
                && !short.ends_with("tests.rs");
            if !is_code || !short.starts_with(within) || !modules::has_word(&file, word) {
                continue;
            }
            match places.iter().find(|place| short.starts_with(place)) {
                Some(place) => drop(kept.insert(place)),
                None => wrong += &format!("{word}: {}\n", short.display()),
            }
        }
        for place in places.iter().filter(|place| !kept.contains(place)) {
            wrong += &format!("{word}: {place} has it no longer\n");
        }
    }
    assert!(wrong.is_empty(), "words where they may not be:\n{wrong}");
}
