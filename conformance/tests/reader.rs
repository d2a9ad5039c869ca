//! `docs/reader.py`, which was written from `docs/FORMAT.md` alone, reads what this stack writes and has ever written, and sees the same in it.

use conformance::assets;
use conformance::graphs::SKETCHES;
use engine_builder::{BuildOptions, Precision, RefitMode, build};
use engine_format::{Bytes, Engine, Header, SerializeFlags};
use engine_onnx::Model;
use engine_verify::verify::with_probes;
use refit::npy;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the reader says of a file; `None` where it has no zstd decoder.
fn reader(arguments: &[&Path]) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reader.py");
    let mut command = Command::new(assets::python());
    let output = command.arg(script).args(arguments).output().expect("Python starts");
    if output.status.code() != Some(3) {
        return Some(output);
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}

/// The same by this stack.
fn expected(file: &[u8], engine: &Engine) -> Value {
    let parts = engine.parts();
    let weights = parts.weights.iter().map(|weight| {
        let digest = weight.digest.map(|digest| digest.to_string());
        let stored = weight.tensor().is_some();
        let (name, dtype, shape) = (&weight.name, weight.dtype.name(), &weight.shape);
        json!({"name": name, "dtype": dtype, "shape": shape, "stored": stored, "digest": digest})
    });
    let names = |ports: &[engine_format::Port]| -> Vec<String> {
        ports.iter().map(|port| port.name.clone()).collect()
    };
    json!({
        "minor": Header::parse(file).expect("the file reads").minor,
        "flags": engine.flags().iter_names().map(|(name, _)| name).collect::<Vec<_>>(),
        "inputs": names(&parts.inputs),
        "outputs": names(&parts.outputs),
        "version": engine.version().map(|version| version.to_string()),
        "weights": weights.collect::<Vec<_>>(),
    })
}

type Failed = Box<dyn std::error::Error>;

/// Holds the reader to what this stack sees in a file; of the weights it takes out the one whose turn it is. `false` where it cannot
/// read.
fn hold(path: &Path, turn: usize) -> Result<bool, Failed> {
    let file = std::fs::read(path)?;
    let engine = Engine::read(Bytes::copy_from(&file))?;
    let Some(output) = reader(&[path]) else { return Ok(false) };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(found, expected(&file, &engine), "{}", path.display());
    let stored: Vec<_> = engine.parts().weights.iter().filter(|w| w.tensor().is_some()).collect();
    if !stored.is_empty() {
        let weight = stored[turn % stored.len()];
        let array = tempfile::NamedTempFile::new()?;
        let output = reader(&[path, Path::new(&weight.name), array.path()]);
        let output = output.ok_or("a decoder that is there once is there again")?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = npy::decode(&std::fs::read(array.path())?.into())?;
        assert_eq!(Some(found), weight.tensor(), "{} of {}", weight.name, path.display());
    }
    Ok(true)
}

fn golden() -> std::io::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine-format/tests/files");
    let paths = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = paths.collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "engine"));
    files.sort();
    Ok(files)
}

#[test]
fn files_of_every_version_are_read() {
    let files = golden().unwrap();
    assert!(files.len() >= 11, "{files:?}");
    for (turn, path) in files.iter().enumerate() {
        if !hold(path, turn).unwrap() {
            return;
        }
    }
}

#[test]
fn files_of_today_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut turn = 0;
    for sketch in SKETCHES.iter().filter(|s| ["mlp", "quantised"].contains(&s.name)) {
        let model = Model::parse((sketch.onnx)().into(), None).unwrap();
        for refit in [RefitMode::All, RefitMode::Identical, RefitMode::None] {
            let precision = if refit == RefitMode::All { Precision::BF16 } else { Precision::F32 };
            let options = BuildOptions { refit, precision, ..BuildOptions::default() };
            let engine = build(&model, &options).unwrap();
            let engine = with_probes(engine, &model, &options, [1]).unwrap();
            for options in
                (0..=SerializeFlags::all().bits()).map(SerializeFlags::from_bits_truncate)
            {
                let Ok(file) = engine.serialize(options) else { continue };
                let path = folder.path().join(format!("{turn}.engine"));
                std::fs::write(&path, file).unwrap();
                if !hold(&path, turn).unwrap() {
                    return;
                }
                turn += 1;
            }
        }
    }
    assert_eq!(turn, 2 * (8 + 8 + 4));
}

#[test]
fn a_flipped_bit_is_seen() {
    let whole =
        golden().unwrap().into_iter().find(|p| p.ends_with("v1.0-individual-packed.engine"));
    let whole = std::fs::read(whole.unwrap()).unwrap();
    let damaged = tempfile::NamedTempFile::new().unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 16) {
        let mut file = whole.clone();
        file[at] ^= 1 << (at % 8);
        std::fs::write(damaged.path(), file).unwrap();
        let Some(output) = reader(&[damaged.path()]) else { return };
        let why = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "byte {at}: {why}");
        assert!(!why.contains("Traceback"), "byte {at}: {why}");
    }
}
