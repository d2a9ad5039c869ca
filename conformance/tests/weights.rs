//! What a stripped file holds, and what fills it.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::graphs::{SKETCHES, with_other_weights};
use conformance::leaks::unpacked;
use conformance::{assets, oracle};
use engine_builder::{BuildOptions, RefitMode, build};
use engine_format::{DType, SerializeFlags};
use engine_onnx::Model;
use refit::FillOptions;
use std::collections::{BTreeSet, HashSet};
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

/// Bytes that are looked for at once. With 16 of int8 weights, a match by chance is out of the question.
const CHUNK: usize = 16;

#[test]
fn a_stripped_file_of_an_int8_model_holds_none_of_its_int8_weights() {
    let model = Model::open(&assets::MINILM_INT8.path().unwrap()).unwrap();
    let quantised = model.graph.initializers.iter().map(|i| i.data.tensor().unwrap());
    let quantised: Vec<_> = quantised.filter(|t| t.dtype() == DType::I8).collect();
    assert_eq!(quantised.len(), 38, "two embedding tables and six matrices in each of six layers");
    // Sixteen chunks from each, spread over all of it; a chunk of few different values could be something else.
    let varied = |chunk: &&[u8]| chunk.iter().collect::<BTreeSet<_>>().len() > CHUNK / 2;
    let chunks: HashSet<&[u8]> = quantised
        .iter()
        .flat_map(|tensor| {
            let bytes: &[u8] = tensor.bytes();
            bytes.chunks_exact(CHUNK).step_by(bytes.len() / CHUNK / 16).filter(varied)
        })
        .collect();
    assert!(chunks.len() > 16 * 30, "{} chunks to look for", chunks.len());

    let engine = build(&model, &BuildOptions::default()).unwrap();
    let held = |options| {
        let file = unpacked(&engine.serialize(options).unwrap()).unwrap();
        file.windows(CHUNK).filter(|window| chunks.contains(window)).collect::<HashSet<_>>().len()
    };
    assert_eq!(held(SerializeFlags::EXCLUDE_WEIGHTS), 0, "chunks found in the stripped file");
    // The same search finds every chunk where the weights are.
    assert_eq!(held(SerializeFlags::default()), chunks.len(), "chunks found in the full file");
}

fn same_bytes(a: &Path, b: &Path) {
    assert!(
        std::fs::read(a).unwrap() == std::fs::read(b).unwrap(),
        "{} and {} differ",
        a.display(),
        b.display()
    );
}
