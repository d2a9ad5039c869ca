//! What a stripped file holds, and what fills it.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::graphs::{SKETCHES, with_other_weights};
use conformance::{assets, oracle};
use engine_builder::{BuildOptions, RefitMode, build};
use engine_format::SerializeFlags;
use engine_onnx::Model;
use refit::FillOptions;
use std::path::Path;

fn stripped(onnx: &[u8], options: &BuildOptions) -> Vec<u8> {
    let model = Model::parse(onnx.to_vec().into(), None).expect("the model reads");
    let engine = build(&model, options).expect("the model builds");
    engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).expect("a refittable engine strips")
}

#[test]
fn builds_that_differ_only_in_weights_strip_to_the_same_bytes() {
    let magika = std::fs::read(assets::MAGIKA.path().unwrap()).unwrap();
    let sketches = SKETCHES.iter().map(|sketch| (sketch.name, (sketch.onnx)()));
    for (name, onnx) in sketches.chain([("magika", magika)]) {
        let other = with_other_weights(&onnx, &|_| true);
        let options = BuildOptions::default();
        assert!(stripped(&onnx, &options) == stripped(&other, &options), "{name}: a value leaked");
        // Under REFIT_IDENTICAL the digests are there on purpose, so the same comparison must see a difference.
        let options = BuildOptions { refit: RefitMode::Identical, ..options };
        assert!(
            stripped(&onnx, &options) != stripped(&other, &options),
            "{name}: the comparison sees nothing"
        );
    }
}

#[test]
fn magika_strips_to_under_one_percent_and_fills_from_onnx_and_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let onnx = assets::MAGIKA.path().unwrap();
    let engine = build(&Model::open(&onnx).unwrap(), &BuildOptions::default()).unwrap();
    refit::write_engine(&engine, SerializeFlags::default(), &at("full"), None).unwrap();
    refit::strip_file(&at("full"), &at("stripped"), None).unwrap();
    let length = |name: &str| std::fs::metadata(at(name)).unwrap().len();
    assert!(
        length("stripped") * 100 < length("full"),
        "{} of {} bytes",
        length("stripped"),
        length("full")
    );

    let mut script = oracle::script("safetensors_of.py").unwrap();
    let status = script.arg(at("weights.safetensors")).arg(&onnx).status().unwrap();
    assert!(status.success());
    for (name, source) in
        [("from-onnx", onnx.as_path()), ("from-safetensors", &at("weights.safetensors"))]
    {
        let source = refit::open_source(source).unwrap();
        refit::fill_file(&at("stripped"), &*source, &at(name), FillOptions::default(), None)
            .unwrap();
        same_bytes(&at("full"), &at(name));
    }
}

fn same_bytes(a: &Path, b: &Path) {
    assert!(
        std::fs::read(a).unwrap() == std::fs::read(b).unwrap(),
        "{} and {} differ",
        a.display(),
        b.display()
    );
}
