//! Damaged and hostile files are errors, never panics.

mod common;

use common::*;
use engine_onnx::proto::*;
use engine_onnx::{AttrValue, Graph, Model, OnnxErrorKind};
use proptest::prelude::*;
use prost::Message;

/// A model that uses most of what the format has.
fn sample() -> Vec<u8> {
    let branch = GraphProto {
        initializer: vec![raw("w", data_type::FLOAT16, &[2], &[0, 60, 0, 60])],
        output: vec![value("o")],
        ..nodes(vec![node("Mul", &["x", "w"], &["o"])])
    };
    let choice = NodeProto {
        attribute: vec![graph("then_branch", branch.clone()), graph("else_branch", branch)],
        ..node("If", &["c"], &["y"])
    };
    let constant = NodeProto {
        attribute: vec![tensor("value", int64s("", &[2], &[1, -2]))],
        ..node("Constant", &[], &["k"])
    };
    let call = NodeProto { domain: "local".into(), ..node("f", &["y"], &["z"]) };
    let mut proto = model_of(GraphProto {
        input: vec![value("x"), value("c")],
        output: vec![value("z")],
        initializer: vec![floats("b", &[3], &[1.0, 2.0, 3.0])],
        sparse_initializer: vec![SparseTensorProto {
            values: Some(floats("s", &[1], &[4.0])),
            indices: Some(int64s("", &[1], &[3])),
            dims: vec![2, 2],
        }],
        ..nodes(vec![constant, choice, call])
    });
    proto.functions = vec![FunctionProto {
        name: "f".into(),
        domain: "local".into(),
        input: strings(&["a"]),
        output: strings(&["r"]),
        node: vec![node("Neg", &["a"], &["r"])],
        opset_import: vec![opset("", 21)],
        ..Default::default()
    }];
    proto.encode_to_vec()
}

/// Reads everything there is to read. Sparse tensors are skipped if large: that a short file may ask for up to the cap is
/// the format's nature, and not what these tests are about.
fn touch(bytes: &[u8]) {
    if let Ok(model) = Model::parse(bytes.to_vec().into(), None) {
        for constant in model.constants() {
            let elements = constant.data.shape().iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            if elements.is_some_and(|n| n < 1 << 20) {
                let _ = constant.data.tensor();
            }
        }
        count(&model.graph);
    }
}

fn count(graph: &Graph) -> usize {
    let inner = graph.nodes.iter().flat_map(|n| n.attrs.values()).flat_map(AttrValue::graphs);
    graph.nodes.len() + inner.map(count).sum::<usize>()
}

#[test]
fn the_sample_is_read_whole() {
    let model = Model::parse(sample().into(), None).unwrap();
    assert_eq!(count(&model.graph), 5);
    assert_eq!(model.constants().len(), 5);
    assert!(model.constants().iter().all(|c| c.data.tensor().is_ok()));
}

#[test]
fn every_truncation_and_every_flipped_bit_is_survived() {
    let bytes = sample();
    for len in 0..bytes.len() {
        touch(&bytes[..len]);
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        touch(&damaged);
    }
}

#[test]
fn damage_is_reported_with_its_offset() {
    let cases: [(&[u8], &str); 5] = [
        (&[0x3a, 0x05, 0x00], "runs past the end at offset 2: expected at most 1 bytes, found 5"),
        (&[0x08], "number runs past the end at offset 1"),
        (&[0x0b], "wire type at offset 0"),
        (&[0x38, 0x01], "wire type of an embedded message at offset 0"),
        (&[0x00], "field number out of range at offset 0"),
    ];
    for (bytes, message) in cases {
        let error = Model::parse(bytes.to_vec().into(), None).unwrap_err();
        assert_eq!(error.kind(), OnnxErrorKind::Corrupt);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn nesting_and_counts_are_capped() {
    let mut deep = Vec::new();
    for depth in (0..200).rev() {
        // Node in a graph, attribute in a node, graph in an attribute …, from the innermost.
        let tag = [0x0a, 0x2a, 0x32][depth % 3];
        let mut outer = vec![tag];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.append(&mut deep);
        deep = outer;
    }
    let mut model = vec![0x3a];
    prost::encoding::encode_varint(deep.len() as u64, &mut model);
    model.extend(deep);
    let bomb: Vec<u8> = {
        // Five million empty nodes in ten megabytes.
        let graph = [0x0a, 0x00].repeat(5 << 20);
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(graph.len() as u64, &mut model);
        model.extend(graph);
        model
    };
    for bytes in [model, bomb] {
        let error = Model::parse(bytes.into(), None).unwrap_err();
        assert_eq!(error.kind(), OnnxErrorKind::LimitExceeded, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        touch(&bytes);
    }

    #[test]
    fn spliced_models_are_survived(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = sample();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let at = cut.index(bytes.len());
        bytes.splice(at..at, noise);
        touch(&bytes);
    }
}
