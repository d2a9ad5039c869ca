//! Strip, fill, check, extract: what comes out, and what is left behind when it goes wrong.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod common;

use common::*;
use engine_format::{EngineFlags, MapSource, SerializeFlags, Tensor};
use refit::{
    FillOptions, RefitErrorKind, check_file, extract_file, fill_file, open_engine, open_source,
    strip_file,
};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// A folder with `full` and `stripped`.
    fn new(flags: EngineFlags) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        save(&engine(flags, &weights(0.0)), &files.at("full"));
        strip_file(&files.at("full"), &files.at("stripped"), None).unwrap();
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn strip_then_fill_is_the_full_file_byte_for_byte() {
    for mode in [EngineFlags::REFIT, EngineFlags::REFIT_IDENTICAL] {
        let files = Files::new(mode);
        save_safetensors(&weights(0.0), &files.at("w.safetensors"));
        for source in ["w.safetensors", "full"] {
            let source = open_source(&files.at(source)).unwrap();
            let (stripped, out) = (files.at("stripped"), files.at("filled"));
            fill_file(&stripped, &*source, &out, FillOptions::default(), None).unwrap();
            assert_eq!(read(&out), read(&files.at("full")));
        }
    }
}

#[test]
fn two_builds_that_differ_in_weights_only_strip_to_the_same_bytes() {
    let files = Files::new(EngineFlags::REFIT);
    save(&engine(EngineFlags::REFIT, &weights(7.0)), &files.at("other"));
    strip_file(&files.at("other"), &files.at("other.stripped"), None).unwrap();
    assert_eq!(read(&files.at("stripped")), read(&files.at("other.stripped")));
    assert!(read(&files.at("stripped")).len() < 4096);
}

#[test]
fn a_full_engine_is_refitted_in_place() {
    let files = Files::new(EngineFlags::REFIT);
    let full = files.at("full");
    let other: MapSource = weights(9.0).into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
    let before = open_engine(&full).unwrap();
    let written = fill_file(&full, &other, &full, FillOptions::default(), None).unwrap().made;
    let after = open_engine(&full).unwrap();
    assert_eq!(after.version(), written.version);
    assert_eq!(after.weight("half").unwrap().tensor().unwrap(), weights(9.0)[3].1);
    // The mapping that was open all the while still shows the old file.
    assert_eq!(before.weight("half").unwrap().tensor().unwrap(), weights(0.0)[3].1);
}

#[test]
fn everything_that_does_not_fit_is_in_one_error_and_no_file_is_left() {
    let files = Files::new(EngineFlags::REFIT);
    let mut bad = MapSource::new();
    for (name, tensor) in weights(0.0) {
        match name {
            "half" => continue,
            "layer.weight" => bad.insert(name, ramp(&[5, 3], 0.0)),
            "layer.bias" => bad.insert(name, Tensor::from_slice(&[3], &[half::f16::ONE; 3])),
            _ => bad.insert(name, tensor),
        };
    }
    bad.insert("pooler", ramp(&[1], 0.0));
    let before = listing(files.folder.path());
    let error =
        fill_file(&files.at("stripped"), &bad, &files.at("out"), FillOptions::default(), None)
            .unwrap_err();
    assert_eq!(error.kind(), RefitErrorKind::UnfitWeights);
    let text = error.to_string();
    let lines = [
        r#"missing "half": expected f16[2]"#,
        r#"extra "pooler": found f32[1]"#,
        r#"wrong shape of "layer.weight": expected [3, 5], found [5, 3]"#,
        r#"wrong dtype of "layer.bias": expected f32, found f16"#,
    ];
    for line in lines {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(text.contains("stripped"), "{text}");
    assert_eq!(error.report().unwrap().misfits.len(), lines.len());
    assert_eq!(listing(files.folder.path()), before);

    let report = check_file(&files.at("stripped"), &bad, false).unwrap();
    assert_eq!(Some(&report), error.report());
    let summary = serde_json::to_value(refit::FitSummary::from(&report)).unwrap();
    assert_eq!(summary["fits"], false);
    assert_eq!(summary["misfits"].as_array().unwrap().len(), lines.len());
}

#[test]
fn extra_tensors_are_left_alone_if_allowed_and_missing_ones_never_are() {
    let files = Files::new(EngineFlags::REFIT);
    let mut source: MapSource = weights(0.0).into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
    source.insert("pooler", ramp(&[1], 0.0));
    let options = FillOptions { allow_extra: true, ..FillOptions::default() };
    let fill = |source: &MapSource| {
        fill_file(&files.at("stripped"), source, &files.at("out"), options, None)
    };
    fill(&source).unwrap();
    assert_eq!(read(&files.at("out")), read(&files.at("full")));
    source.remove("half");
    let error = fill(&source).unwrap_err();
    assert_eq!(error.kind(), RefitErrorKind::MissingWeights);
    assert_eq!(read(&files.at("out")), read(&files.at("full")), "the older file is still there");
}

#[test]
fn a_source_that_breaks_half_way_leaves_nothing_behind() {
    /// Loses a weight after the check.
    struct Failing(MapSource);
    impl engine_format::WeightSource for Failing {
        fn origin(&self) -> String {
            "failing".into()
        }
        fn names(&self) -> Vec<String> {
            self.0.names()
        }
        fn info(&self, name: &str) -> Option<engine_format::TensorInfo> {
            self.0.info(name)
        }
        fn read(&self, name: &str) -> Result<Option<Tensor>, engine_format::SourceError> {
            match name {
                "layer.weight" => Err(engine_format::SourceError {
                    name: name.into(),
                    origin: self.origin(),
                    why: "disk on fire".into(),
                }),
                _ => self.0.read(name),
            }
        }
    }
    let files = Files::new(EngineFlags::REFIT);
    let source = Failing(weights(0.0).into_iter().map(|(n, t)| (n.to_owned(), t)).collect());
    let before = listing(files.folder.path());
    let options = FillOptions::default();
    let error =
        fill_file(&files.at("stripped"), &source, &files.at("out"), options, None).unwrap_err();
    assert_eq!(error.kind(), RefitErrorKind::InvalidSource);
    assert!(error.to_string().contains("disk on fire"), "{error}");
    assert_eq!(listing(files.folder.path()), before);
}

#[test]
fn identical_engines_take_their_own_values_only() {
    let files = Files::new(EngineFlags::REFIT_IDENTICAL);
    let other: MapSource = weights(1.0).into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
    let options = FillOptions::default();
    let error =
        fill_file(&files.at("stripped"), &other, &files.at("out"), options, None).unwrap_err();
    let kinds: Vec<_> = error.report().unwrap().misfits.iter().map(|m| m.kind()).collect();
    // The empty weight has no values that could differ.
    assert_eq!(kinds, ["values"; 4]);
    assert!(!files.at("out").exists());
}

#[test]
fn frozen_files_take_nothing_and_freezing_makes_them() {
    let files = Files::new(EngineFlags::REFIT);
    let source = open_source(&files.at("full")).unwrap();
    let freeze = FillOptions { freeze: true, ..FillOptions::default() };
    fill_file(&files.at("stripped"), &*source, &files.at("frozen"), freeze, None).unwrap();
    assert!(open_engine(&files.at("frozen")).unwrap().flags().is_frozen());
    let frozen = files.at("frozen");
    let strip = strip_file(&frozen, &files.at("out"), None).unwrap_err();
    let fill = fill_file(&frozen, &*source, &files.at("out"), freeze, None).unwrap_err();
    for error in [strip, fill] {
        assert_eq!(error.kind(), RefitErrorKind::NotRefittable, "{error}");
    }
    assert!(!files.at("out").exists());
}

#[test]
fn compressed_files_stay_compressed() {
    let files = Files::new(EngineFlags::REFIT);
    let packed = engine(EngineFlags::REFIT, &weights(0.0))
        .serialize(SerializeFlags::INCLUDE_REFIT | SerializeFlags::COMPRESS)
        .unwrap();
    std::fs::write(files.at("packed"), &packed).unwrap();
    strip_file(&files.at("packed"), &files.at("packed.stripped"), None).unwrap();
    let source = open_source(&files.at("full")).unwrap();
    let options = FillOptions::default();
    fill_file(&files.at("packed.stripped"), &*source, &files.at("out"), options, None).unwrap();
    assert_eq!(read(&files.at("out")), packed);
}

#[test]
fn extracted_weights_fill_the_stripped_file() {
    let files = Files::new(EngineFlags::REFIT);
    let out = files.at("w.safetensors");
    assert_eq!(extract_file(&files.at("full"), &out, None).unwrap(), 5);
    // Another reader of the format agrees about the contents.
    let written = read(&out);
    let theirs = safetensors::SafeTensors::deserialize(&written).unwrap();
    for (name, tensor) in weights(0.0) {
        let view = theirs.tensor(name).unwrap();
        assert_eq!((view.shape(), view.data()), (tensor.shape(), &tensor.bytes()[..]), "{name}");
    }
    let source = open_source(&out).unwrap();
    let options = FillOptions::default();
    fill_file(&files.at("stripped"), &*source, &files.at("out"), options, None).unwrap();
    assert_eq!(read(&files.at("out")), read(&files.at("full")));

    let error = extract_file(&files.at("stripped"), &files.at("none"), None).unwrap_err();
    assert_eq!(error.kind(), RefitErrorKind::MissingWeights);
    assert!(error.to_string().contains("layer.bias, layer.weight"), "{error}");
    assert!(!files.at("none").exists());
}

#[test]
fn damaged_engines_are_errors_that_name_the_file() {
    let files = Files::new(EngineFlags::REFIT);
    let full = read(&files.at("full"));
    let mut flipped = full.clone();
    flipped[full.len() / 2] ^= 1;
    for bytes in [&full[..full.len() - 1], &[], &flipped] {
        std::fs::write(files.at("bad"), bytes).unwrap();
        let error = open_engine(&files.at("bad")).unwrap_err();
        assert_eq!(error.kind(), RefitErrorKind::InvalidEngine, "{error}");
        assert!(error.place().unwrap().ends_with("bad"));
    }
    assert_eq!(open_engine(&files.at("nowhere")).unwrap_err().kind(), RefitErrorKind::Io);
}

#[test]
fn progress_rises_to_the_total() {
    let files = Files::new(EngineFlags::REFIT);
    let source = open_source(&files.at("full")).unwrap();
    let calls = Mutex::new(Vec::new());
    let hook = |done, total| calls.lock().unwrap().push((done, total));
    let options = FillOptions::default();
    fill_file(&files.at("stripped"), &*source, &files.at("out"), options, Some(&hook)).unwrap();
    let calls = calls.into_inner().unwrap();
    assert!(calls.len() > 3 && calls.is_sorted(), "{calls:?}");
    let bytes: usize = weights(0.0).iter().map(|(_, t)| t.bytes().len()).sum();
    assert_eq!(*calls.last().unwrap(), (bytes as u64, bytes as u64));
}

#[cfg(unix)]
#[test]
fn outputs_are_as_readable_as_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new(EngineFlags::REFIT);
    std::fs::write(files.at("plain"), b"").unwrap();
    let mode = |name| std::fs::metadata(files.at(name)).unwrap().permissions().mode();
    assert_eq!(mode("stripped"), mode("plain"));
}
