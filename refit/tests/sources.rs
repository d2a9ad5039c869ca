//! What each kind of source reads, and what it refuses.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

mod common;

use common::*;
use engine_format::{
    DType, Engine, EngineFlags, FitPolicy, FormatErrorKind, SerializeFlags, Tensor, TensorInfo,
    WeightSource,
};
use engine_onnx::proto;
use prost::Message;
use refit::{
    BoxedSource, CastSource, Lora, LoraSource, RefitError, RefitErrorKind, open_bytes, open_source,
    open_sources,
};
use std::path::Path;

fn contents(source: &dyn WeightSource) -> Vec<(String, Tensor)> {
    let read = |name: String| {
        let tensor = source.read(&name).unwrap().unwrap();
        let info = TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec() };
        assert_eq!(source.info(&name), Some(info));
        let mut streamed = Vec::new();
        assert!(source.stream(&name, &mut |piece| streamed.extend_from_slice(piece)).unwrap());
        assert_eq!(streamed, tensor.bytes()[..], "{name}");
        (name, tensor)
    };
    assert!(source.read("nobody").unwrap().is_none());
    assert!(!source.stream("nobody", &mut |_| panic!()).unwrap());
    source.names().into_iter().map(read).collect()
}

fn expected(from: f32) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = weights(from).into_iter().map(|(n, t)| (n.to_owned(), t)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn refused(result: Result<BoxedSource, RefitError>) -> RefitError {
    match result {
        Ok(source) => panic!("{} was taken", source.origin()),
        Err(error) => error,
    }
}

fn onnx(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let initializer = tensors.iter().map(|(name, tensor)| proto::TensorProto {
        name: (*name).to_owned(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: match tensor.dtype() {
            DType::F32 => proto::data_type::FLOAT,
            DType::F16 => proto::data_type::FLOAT16,
            other => panic!("{other}"),
        },
        raw_data: Some(tensor.bytes().to_vec().into()),
        ..Default::default()
    });
    let graph = proto::GraphProto { initializer: initializer.collect(), ..Default::default() };
    let opset = proto::OperatorSetIdProto { domain: String::new(), version: 18 };
    proto::ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    }
    .encode_to_vec()
}

#[test]
fn every_kind_of_source_brings_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save_safetensors(&weights(0.0), &at("a.safetensors"));
    std::fs::write(at("a.onnx"), onnx(&weights(0.0))).unwrap();
    let full = engine(EngineFlags::REFIT, &weights(0.0));
    save(&full, &at("full.engine"));
    let packed = full.serialize(SerializeFlags::COMPRESS | SerializeFlags::INCLUDE_REFIT).unwrap();
    // An engine is known by its first bytes, whatever it is called.
    std::fs::write(at("packed.onnx"), packed).unwrap();
    let all = weights(0.0);
    save_safetensors(&all[..2], &at("one.safetensors"));
    save_safetensors(&all[2..], &at("two.safetensors"));
    let map: Vec<_> = (all.iter().enumerate())
        .map(|(i, (n, _))| format!("{n:?}: \"{}.safetensors\"", if i < 2 { "one" } else { "two" }))
        .collect();
    let index = format!("{{\"metadata\": {{}}, \"weight_map\": {{{}}}}}", map.join(","));
    std::fs::write(at("model.safetensors.index.json"), index).unwrap();

    for name in
        ["a.safetensors", "a.onnx", "full.engine", "packed.onnx", "model.safetensors.index.json"]
    {
        let source = open_source(&at(name)).unwrap();
        assert_eq!(contents(&*source), expected(0.0), "{name}");
        assert!(source.origin().ends_with(name));
        if !name.ends_with(".json") {
            let bytes = std::fs::read(at(name)).unwrap();
            let source = open_bytes(bytes.clone().into()).unwrap();
            assert_eq!(contents(&*source), expected(0.0), "the bytes of {name}");
            for cut in [0, 3, 9, bytes.len() / 2, bytes.len() - 1] {
                assert!(open_bytes(bytes[..cut].to_vec().into()).is_err(), "{name} cut at {cut}");
            }
        }
    }
    // A folder is the checkpoint in it.
    assert_eq!(contents(&*open_source(folder.path()).unwrap()), expected(0.0));
    let empty = tempfile::tempdir().unwrap();
    let error = refused(open_source(empty.path())).to_string();
    assert!(
        error.contains("expected model.safetensors.index.json or model.safetensors"),
        "{error}"
    );
    let both = open_sources(&[at("one.safetensors"), at("two.safetensors")]).unwrap();
    assert_eq!(contents(&*both), expected(0.0));
}

#[test]
fn what_two_sources_share_has_to_be_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    save_safetensors(&weights(0.0), &at("a.safetensors"));
    std::fs::write(at("same.onnx"), onnx(&weights(0.0)[..2])).unwrap();
    let both = open_sources(&[at("a.safetensors"), at("same.onnx")]).unwrap();
    assert_eq!(contents(&*both), expected(0.0));

    save_safetensors(
        &[("layer.bias", ramp(&[3], 1.0)), ("half", ramp(&[2], 0.0))],
        &at("b.safetensors"),
    );
    let error = refused(open_sources(&[at("a.safetensors"), at("b.safetensors")]));
    assert_eq!(error.kind(), RefitErrorKind::Conflict);
    let text = error.to_string();
    assert!(text.contains("\"layer.bias\"") && text.contains("\"half\""), "{text}");
    assert!(text.contains("a.safetensors") && text.contains("b.safetensors"), "{text}");
}

/// What an exporter made and called as a weight fills nothing, whichever way a model file comes, and every kind of checkpoint does.
#[test]
fn a_model_files_word_for_a_weight_is_not_a_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let engine = {
        let mut parts = engine(EngineFlags::REFIT, &weights(0.0)).parts().clone();
        parts.ignored = vec!["layer.weight".to_owned()];
        Engine::new(parts).unwrap()
    };
    let new = weights(1.0);
    let is_it = |entry: &&(&str, Tensor)| entry.0 == "layer.weight";
    let it: Vec<_> = new.iter().filter(is_it).cloned().collect();
    let rest: Vec<_> = new.iter().filter(|entry| !is_it(entry)).cloned().collect();
    assert_eq!(it.len(), 1);
    save_safetensors(&new, &at("all.safetensors"));
    save_safetensors(&it, &at("it.safetensors"));
    save_safetensors(&rest, &at("rest.safetensors"));
    save(&common::engine(EngineFlags::REFIT, &new), &at("all.engine"));
    std::fs::write(at("all.onnx"), onnx(&new)).unwrap();
    std::fs::write(at("it.onnx"), onnx(&it)).unwrap();
    std::fs::write(at("rest.onnx"), onnx(&rest)).unwrap();
    let config = r#"{"r": 1, "lora_alpha": 1, "peft_type": "LORA"}"#;
    std::fs::create_dir(at("lora")).unwrap();
    std::fs::write(at("lora/adapter_config.json"), config).unwrap();
    let [outputs, inputs] = *it[0].1.shape() else { panic!("a matrix") };
    save_safetensors(
        &[
            ("base_model.model.layer.lora_A.weight", ramp(&[1, inputs], 0.5)),
            ("base_model.model.layer.lora_B.weight", ramp(&[outputs, 1], 0.5)),
        ],
        &at("lora/adapter_model.safetensors"),
    );
    for (files, fills) in [
        (&["all.safetensors"][..], true),
        (&["all.engine"], true),
        (&["rest.safetensors", "it.safetensors"], true),
        (&["it.safetensors", "rest.onnx"], true),
        (&["it.onnx", "it.safetensors", "rest.onnx"], true),
        (&["all.onnx"], false),
        (&["it.onnx", "rest.onnx"], false),
        (&["it.onnx", "rest.safetensors"], false),
        (&["rest.safetensors", "it.onnx"], false),
    ] {
        let paths: Vec<_> = files.iter().map(|name| at(name)).collect();
        let open = || open_sources(&paths).unwrap();
        let adapted = || {
            let lora = Lora::open(&at("lora"), None).unwrap();
            Box::new(LoraSource::new(open(), vec![lora]).unwrap())
        };
        let cast = Box::new(CastSource::new(open(), &engine));
        for (how, source) in [("plain", open()), ("cast", cast), ("adapted", adapted())] {
            for policy in [FitPolicy::default(), FitPolicy { partial: true, allow_extra: true }] {
                match engine.fill(&*source, policy) {
                    Ok(_) => assert!(fills, "{files:?} {how}"),
                    Err(error) => {
                        assert!(!fills, "{files:?} {how}: {error}");
                        assert_eq!(error.kind(), FormatErrorKind::MissingWeights);
                        assert!(error.to_string().contains("the exporter made of it"), "{error}");
                    }
                }
            }
        }
    }
}

/// A safetensors file of this header and so many bytes of data.
fn raw_safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

#[test]
fn damaged_safetensors_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let tensor = |dtype: &str, shape: &str, start: usize, end: usize| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}")
    };
    let one = format!("{{\"a\":{}}}", tensor("F32", "[2]", 0, 8));
    let overlap =
        format!("{{\"a\":{},\"b\":{}}}", tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 4, 12));
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{}");
    let cases = [
        vec![],
        vec![0; 7],
        huge,
        raw_safetensors("{", 0),
        raw_safetensors(&one, 7),
        raw_safetensors(&one, 9),
        raw_safetensors(&format!("{{\"a\":{}}}", tensor("F32", "[3]", 0, 8)), 8),
        raw_safetensors(&format!("{{\"a\":{}}}", tensor("F32", "[2]", 4, 12)), 12),
        raw_safetensors(&format!("{{\"a\":{}}}", tensor("F99", "[2]", 0, 8)), 8),
        raw_safetensors(
            &format!("{{\"a\":{}}}", tensor("F32", "[4611686018427387904,4]", 0, 0)),
            0,
        ),
        raw_safetensors(&overlap, 12),
    ];
    for (i, bytes) in cases.into_iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        let error = refused(open_source(&path));
        assert_eq!(error.kind(), RefitErrorKind::InvalidSource, "case {i}: {error}");
        assert!(error.to_string().contains("w.safetensors"), "{error}");
    }
    std::fs::write(&path, raw_safetensors(&one, 8)).unwrap();
    open_source(&path).unwrap();
}

#[test]
fn element_types_without_support_are_errors_once_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let header = r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#;
    std::fs::write(&path, raw_safetensors(header, 8)).unwrap();
    let source = open_source(&path).unwrap();
    let error = source.read("a").unwrap_err();
    assert!(error.to_string().contains("C64"), "{error}");
    let wants = engine(EngineFlags::REFIT, &[("a", ramp(&[1], 0.0))]);
    let policy = engine_format::FitPolicy::default();
    let error = engine_format::check_fit(&wants, &*source, policy).unwrap_err();
    assert!(error.to_string().contains("C64"), "{error}");
}

#[test]
fn a_checkpoint_that_is_written_to_meanwhile_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    save_safetensors(&weights(0.0), &path);
    let source = open_source(&path).unwrap();
    let taken = source.read("layer.bias").unwrap().unwrap();
    // Written in place, as `rename` would leave the open file alone.
    let mut longer = std::fs::read(&path).unwrap();
    longer.push(0);
    std::fs::write(&path, longer).unwrap();
    let error = source.read("layer.bias").unwrap_err();
    let said = error.to_string();
    assert!(said.contains("changed while it was in use: it was "), "{said}");
    assert_eq!(taken, ramp(&[3], 0.0), "what was taken stays what it was");
}

fn index(folder: &Path, map: &str) -> std::path::PathBuf {
    let path = folder.join("m.index.json");
    std::fs::write(&path, format!("{{\"weight_map\": {map}}}")).unwrap();
    path
}

#[test]
fn shards_lie_in_the_folder_and_agree_with_the_index() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("m");
    std::fs::create_dir(&folder).unwrap();
    save_safetensors(&weights(0.0)[..2], &outer.path().join("out.safetensors"));
    save_safetensors(&weights(0.0)[..2], &folder.join("in.safetensors"));
    let both = r#"{"layer.bias": "in.safetensors", "layer.weight": "in.safetensors"}"#;
    open_source(&index(&folder, both)).unwrap();
    let absolute = format!("{{\"layer.bias\": {:?}}}", outer.path().join("out.safetensors"));
    let cases = [
        (r#"{"layer.bias": "../out.safetensors"}"#, RefitErrorKind::InvalidSource),
        (absolute.as_str(), RefitErrorKind::InvalidSource),
        (r#"{"layer.bias": "none.safetensors"}"#, RefitErrorKind::Io),
        (r#"{"layer.bias": "in.safetensors"}"#, RefitErrorKind::InvalidSource),
        (
            r#"{"layer.bias": "in.safetensors", "layer.weight": "in.safetensors", "x": "in.safetensors"}"#,
            RefitErrorKind::InvalidSource,
        ),
        ("[]", RefitErrorKind::InvalidSource),
    ];
    for (map, kind) in cases {
        let error = refused(open_source(&index(&folder, map)));
        assert_eq!(error.kind(), kind, "{map}: {error}");
    }
    #[cfg(unix)]
    {
        let link = folder.join("link.safetensors");
        std::os::unix::fs::symlink(outer.path().join("out.safetensors"), link).unwrap();
        let error = refused(open_source(&index(&folder, r#"{"layer.bias": "link.safetensors"}"#)));
        assert!(error.to_string().contains("leaves the folder"), "{error}");
    }
}

#[test]
fn files_of_no_known_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.h5");
    std::fs::write(&path, b"PK").unwrap();
    let error = refused(open_source(&path));
    assert_eq!(error.kind(), RefitErrorKind::InvalidSource);
    assert!(error.to_string().contains("*.safetensors"), "{error}");
    assert_eq!(refused(open_source(&folder.path().join("none"))).kind(), RefitErrorKind::Io);
    std::fs::write(folder.path().join("bad.onnx"), b"\xff").unwrap();
    let error = refused(open_source(&folder.path().join("bad.onnx")));
    assert_eq!(error.kind(), RefitErrorKind::InvalidSource, "{error}");
}

proptest::proptest! {
    #[test]
    fn damaged_files_of_any_kind_never_panic(
        edits in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0u8..), 1..6),
        keep in proptest::prelude::any::<proptest::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let small = &weights(0.0)[..2];
        save_safetensors(small, &folder.path().join("in.safetensors"));
        let map = r#"{"weight_map": {"layer.bias": "in.safetensors", "layer.weight": "in.safetensors"}}"#;
        let safetensors = std::fs::read(folder.path().join("in.safetensors")).unwrap();
        let engine = engine(EngineFlags::REFIT, small).serialize(SerializeFlags::default()).unwrap();
        for (name, bytes) in [
            ("a.safetensors", safetensors),
            ("a.onnx", onnx(small)),
            ("a.engine", engine),
            ("a.index.json", map.as_bytes().to_vec()),
        ] {
            let mut bytes = bytes;
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(bytes.len() - keep.index(bytes.len()) % 3);
            std::fs::write(folder.path().join(name), bytes).unwrap();
            if let Ok(source) = open_source(&folder.path().join(name)) {
                for name in source.names() {
                    let _ = source.read(&name);
                }
            }
        }
    }
}

#[test]
fn an_engine_brings_its_named_constants_so_that_another_graph_is_noticed() {
    let with_axis = |axis: i64| {
        let mut parts = engine(EngineFlags::REFIT, &weights(0.0)).parts().clone();
        let tensor = Tensor::from_slice(&[1], &[axis]);
        parts.source_literals = vec![engine_format::SourceLiteral { name: "axis".into(), tensor }];
        engine_format::Engine::new(parts).unwrap()
    };
    let source = refit::EngineSource::new(with_axis(1), "memory");
    assert_eq!(contents(&source).len(), weights(0.0).len() + 1);
    let policy = engine_format::FitPolicy::default();
    let fit = |axis| engine_format::check_fit(&with_axis(axis), &source, policy).unwrap();
    assert!(fit(1).is_fit());
    let kinds: Vec<_> = fit(2).misfits.iter().map(|misfit| misfit.kind()).collect();
    assert_eq!(kinds, ["literal"]);
    let stripped = refit::EngineSource::new(with_axis(1).strip().unwrap(), "memory");
    assert_eq!(stripped.names(), ["axis"]);
}
