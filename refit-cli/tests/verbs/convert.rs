//! Weights from one kind of file to another, and what is made of the interface.

use crate::common::Folder;
use engine_format::{DType, MapSource, WeightSource};
use std::process::Command;

fn tensors(folder: &Folder, file: &str) -> MapSource {
    let source = refit::open_source(&folder.at(file)).unwrap();
    let read = |name: String| (name.clone(), source.read(&name).unwrap().unwrap());
    source.names().into_iter().map(read).collect()
}

/// Whether `a` has all of `b`; an engine and a model have constants of the program besides.
fn assert_has(a: &MapSource, b: &MapSource) {
    for name in b.names() {
        assert_eq!(a.read(&name).unwrap(), b.read(&name).unwrap(), "{name}");
    }
}

#[test]
fn weights_go_from_any_file_to_safetensors_and_npz_and_back() {
    let folder = Folder::built();
    folder.ok(&["extract", "full", "-o", "weights.safetensors"]);
    let expected = tensors(&folder, "weights.safetensors");
    for source in ["weights.safetensors", "full", "model.onnx"] {
        for file in ["out.npz", "out.safetensors"] {
            folder.ok(&["convert", source, "-o", file]);
            let found = tensors(&folder, file);
            assert_has(&found, &expected);
            folder.ok(&["fill", "stripped", "--weights", file, "-o", "filled", "--allow-extra"]);
            assert_eq!(
                std::fs::read(folder.at("filled")).unwrap(),
                std::fs::read(folder.at("full")).unwrap()
            );
        }
    }
    folder.ok(&["convert", "weights.safetensors", "-o", "a.npz"]);
    folder.ok(&["convert", "a.npz", "-o", "b.safetensors"]);
    let [a, b] =
        ["weights.safetensors", "b.safetensors"].map(|f| std::fs::read(folder.at(f)).unwrap());
    assert_eq!(a, b, "there and back");
}

/// One verb under two names: an engine's weights and nothing else, in the kind of file that is named.
#[test]
fn extract_is_convert() {
    let folder = Folder::built();
    let engine = refit::open_engine(&folder.at("full")).unwrap();
    let names: Vec<String> = engine.parts().weights.iter().map(|row| row.name.clone()).collect();
    for file in ["out.npz", "out.safetensors"] {
        let mut written = ["extract", "convert"].map(|verb| {
            folder.ok(&[verb, "full", "-o", file]);
            assert_eq!(tensors(&folder, file).names(), names, "{verb} {file}");
            std::fs::read(folder.at(file)).unwrap()
        });
        let [a, b] = &mut written;
        assert_eq!(a, b, "{file}");
    }
    for verb in ["extract", "convert"] {
        let said = folder.fails(4, &[verb, "stripped", "-o", "x.npz"]);
        assert!(said.contains("stripped") && said.contains("fc1.weight"), "{said}");
        let said = folder.fails(2, &[verb, "full", "-o", "x.pt"]);
        assert!(said.contains(".safetensors or .npz"), "{said}");
    }
    // Where a stripped engine is a source, what it lacks is said.
    let said = folder.fails(4, &["fill", "stripped", "--weights", "stripped", "-o", "x"]);
    assert!(said.contains("stripped: stripped of the weights"), "{said}");
}

#[test]
fn floats_are_cast_when_asked_for() {
    let folder = Folder::built();
    let report =
        folder.json(&["convert", "full", "-o", "half.safetensors", "--cast", "f16", "--json"]);
    let half = tensors(&folder, "half.safetensors");
    assert_eq!(half.info("fc1.weight").unwrap().dtype, DType::F16);
    let floats = |source: &MapSource, dtype| {
        source.names().iter().filter(|name| source.info(name).unwrap().dtype == dtype).count()
    };
    folder.ok(&["extract", "full", "-o", "weights.safetensors"]);
    let before = floats(&tensors(&folder, "weights.safetensors"), DType::F32);
    assert_eq!(report["converted"], before);
    assert_eq!((floats(&half, DType::F32), floats(&half, DType::F16)), (0, before));
    folder.ok(&["fill", "stripped", "--weights", "half.safetensors", "--cast", "-o", "filled"]);
    let said = folder.fails(2, &["convert", "full", "-o", "x.pt"]);
    assert!(said.contains(".safetensors or .npz"), "{said}");
    folder.fails(2, &["convert", "full", "-o", "x.npz", "--cast", "i8"]);
    folder.fails(4, &["convert", "stripped", "-o", "x.npz"]);
    assert!(!folder.at("x.npz").exists());
}

#[test]
fn the_interface_makes_a_manual_and_completions() {
    let folder = Folder::new();
    let made = |what: &str| folder.ok(&["--generate", what]).0;
    let manual = made("man");
    for part in [".TH refit 1", "REFIT BENCH", "\\-\\-parallel", "weights missing or unfit"] {
        assert!(manual.contains(part), "{part}");
    }
    for (what, part) in [
        ("complete-bash", "complete -F _refit"),
        ("complete-zsh", "#compdef refit"),
        ("complete-fish", "complete -c refit"),
    ] {
        let text = made(what);
        assert!(text.contains(part) && text.contains("save-times"), "{what}");
    }
    std::fs::write(folder.at("complete"), made("complete-bash")).unwrap();
    // A real shell completes what was begun.
    let script = ". ./complete; COMP_WORDS=(refit ben); COMP_CWORD=1; _refit refit ben refit; echo \"${COMPREPLY[@]}\"";
    let bash =
        Command::new("bash").args(["-c", script]).current_dir(folder.at(".")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "bench", "{bash:?}");
    folder.fails(2, &["--generate", "poetry"]);
    folder.fails(2, &["--generate", "man", "inspect", "x"]);
    folder.fails(2, &["-v"]);
    folder.fails(2, &[]);
}

/// As `cargo xtask codegen --check` sees it too.
#[test]
fn the_readme_lists_the_verbs_as_they_are() {
    let readme = include_str!("../../../README.md");
    let after = readme.split_once("<!-- made by `cargo xtask codegen` -->\n").unwrap().1;
    let listed = after.split_once("<!-- end -->\n").unwrap().0;
    let expected = format!("```text\n{}```\n", refit_cli::usage());
    assert_eq!(listed, expected, "cargo xtask codegen makes it anew");
}
