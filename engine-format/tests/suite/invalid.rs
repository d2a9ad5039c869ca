//! Parts that are no engine: each row breaks one rule and names the error.

use crate::sample;
use engine_format::{
    Attr, Attrs, Block, DType, Dim, Engine, EngineFlags, EngineParts, FormatErrorKind, Tensor,
    ValueId, WeightData,
};

type Change = fn(&mut EngineParts);

/// Expects every change of the sample to be refused with a message that starts as given.
fn refused(flags: EngineFlags, rows: &[(Change, FormatErrorKind, &str)]) {
    for (change, kind, message) in rows {
        let mut parts = sample::parts(flags, 1);
        change(&mut parts);
        let error = Engine::new(parts).expect_err(message);
        assert!(error.to_string().starts_with(message), "{message}\n{error}");
        assert_eq!(error.kind(), *kind, "{error}");
    }
}

use FormatErrorKind::{InvalidEngine, InvalidFlags, LimitExceeded, MissingWeights};

#[test]
fn names() {
    refused(
        EngineFlags::REFIT,
        &[
            (
                |p| p.weights.swap(0, 1),
                InvalidEngine,
                "names not sorted, or one twice at the weight table: expected a name after \
                 \"encoder.weight\", found \"encoder.bias\"",
            ),
            (
                |p| p.weights[1].name = p.weights[0].name.clone(),
                InvalidEngine,
                "names not sorted, or one twice at the weight table",
            ),
            (
                |p| p.weights[0].aliases = vec!["epsilon".to_owned().into()],
                InvalidEngine,
                "a name that stands for two things at an alias: found \"epsilon\"",
            ),
            (
                |p| p.weights[0].aliases = vec!["onnx::MatMul_12".to_owned().into()],
                InvalidEngine,
                "a name that stands for two things at an alias",
            ),
            (
                |p| p.ignored[0] = "axes".to_owned(),
                InvalidEngine,
                "a name that stands for two things at an ignored name",
            ),
            (|p| p.weights[0].name.clear(), InvalidEngine, "empty name at the weight table"),
            (
                |p| p.outputs.push(p.outputs[0].clone()),
                InvalidEngine,
                "two of one name at output \"y\"",
            ),
            (
                |p| p.weights[3].name = "x".repeat(5000),
                LimitExceeded,
                "bytes of a name at the weight table: expected at most 4096, found 5000",
            ),
            (
                |p| drop(p.metadata.insert("k".to_owned(), "v".repeat(5 << 20))),
                LimitExceeded,
                "bytes of a string at metadata",
            ),
        ],
    );
}

#[test]
fn weights_and_flags() {
    refused(
        EngineFlags::REFIT,
        &[
            (
                |p| p.weights[0].data = WeightData::Missing,
                MissingWeights,
                "a weight without bytes, but no EXCLUDE_WEIGHTS: encoder.bias",
            ),
            (
                |p| {
                    p.flags |= EngineFlags::EXCLUDE_WEIGHTS;
                    p.weights[3].data = WeightData::Missing;
                    p.weights.drain(..3);
                    p.prepare = Block::default();
                    p.execute = Block::default();
                    p.outputs.clear();
                },
                MissingWeights,
                "a parameter, pinned or frozen weight without bytes: table",
            ),
            (
                |p| p.flags |= EngineFlags::EXCLUDE_WEIGHTS,
                InvalidEngine,
                "a stored weight under EXCLUDE_WEIGHTS at weight \"encoder.bias\"",
            ),
            (
                |p| p.weights[0].digest = p.weights[1].digest,
                InvalidEngine,
                "bytes do not match their digest at weight \"encoder.bias\"",
            ),
            (
                |p| p.weights[0].digest = None,
                InvalidEngine,
                "a stored weight without a digest at weight \"encoder.bias\"",
            ),
            (
                |p| p.weights[0].dtype = DType::String,
                InvalidEngine,
                "a weight of strings at weight \"encoder.bias\": expected a literal",
            ),
            (
                |p| p.weights[0].shape = vec![4],
                InvalidEngine,
                "bytes of a weight at weight \"encoder.bias\": expected 16, found 12",
            ),
            (
                |p| p.weights[0].shape = vec![usize::MAX, 2],
                LimitExceeded,
                "bytes of a weight at weight \"encoder.bias\"",
            ),
            (
                |p| p.weights[0].shape = vec![1; 33],
                LimitExceeded,
                "number of dimensions at weight \"encoder.bias\"",
            ),
            (
                |p| p.weights[0].refittable = false,
                InvalidEngine,
                "the refittable mark contradicts the flags at weight \"encoder.bias\"",
            ),
            (
                |p| p.flags |= EngineFlags::REFIT_IDENTICAL,
                InvalidFlags,
                "more than one refit mode at flags",
            ),
        ],
    );
    refused(
        EngineFlags::REFIT_INDIVIDUAL,
        &[(
            |p| p.weights.iter_mut().for_each(|weight| weight.refittable = false),
            InvalidFlags,
            "REFIT_INDIVIDUAL marks no weight as refittable",
        )],
    );
    refused(
        EngineFlags::empty(),
        &[
            (
                |p| p.weights[0].refittable = true,
                InvalidEngine,
                "the refittable mark contradicts the flags",
            ),
            (
                |p| p.weights[0].data = WeightData::Missing,
                MissingWeights,
                "a parameter, pinned or frozen weight without bytes: encoder.bias",
            ),
            (
                |p| p.flags = EngineFlags::EXCLUDE_WEIGHTS,
                InvalidFlags,
                "EXCLUDE_WEIGHTS in a frozen engine",
            ),
        ],
    );
}

#[test]
fn missing_weights_have_digests_only_where_a_fill_is_checked() {
    let stripped =
        |mode| Engine::new(sample::parts(mode, 1)).unwrap().strip().unwrap().parts().clone();
    let mut parts = stripped(EngineFlags::REFIT);
    parts.weights[0].digest = parts.weights[3].digest;
    let error = Engine::new(parts).unwrap_err().to_string();
    assert!(
        error.starts_with("digest of a missing weight at weight \"encoder.bias\": expected none")
    );
    let mut parts = stripped(EngineFlags::REFIT_IDENTICAL);
    parts.weights[0].digest = None;
    let error = Engine::new(parts).unwrap_err().to_string();
    assert!(
        error.starts_with("digest of a missing weight at weight \"encoder.bias\": expected one")
    );
}

#[test]
fn a_bool_weight_holds_bools() {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    let bytes = Tensor::from_slice(&[3], &[0u8, 1, 2]);
    parts.weights[0] = sample::weight("encoder.bias", 3, &bytes, EngineFlags::REFIT);
    parts.weights[0].dtype = engine_format::DType::Bool;
    let error = Engine::new(parts).unwrap_err().to_string();
    assert_eq!(
        error,
        "byte 2 of a bool weight at weight \"encoder.bias\": expected 0 or 1, found 2"
    );
}

fn branch(parts: &mut EngineParts, name: &str) -> Block {
    match parts.execute.nodes[1].attrs.get(name) {
        Some(Attr::Block(block)) => block.clone(),
        other => panic!("{name} is a branch of the sample, found {other:?}"),
    }
}

fn set_branch(parts: &mut EngineParts, name: &str, block: Block) {
    parts.execute.nodes[1].attrs.insert(name.to_owned(), Attr::Block(block));
}

#[test]
fn values() {
    refused(
        EngineFlags::REFIT,
        &[
            (
                |p| p.values = 10,
                InvalidEngine,
                "value id out of range at node \"/model/If_10\" (If): expected below 10, found 10",
            ),
            (|p| p.values = u32::MAX, LimitExceeded, "number of values"),
            (
                |p| p.literals[0].value = ValueId(3),
                InvalidEngine,
                "value defined twice at encoder.bias: found 3",
            ),
            (
                |p| p.execute.nodes.swap(0, 1),
                InvalidEngine,
                "value used before it is defined at else of node \"/model/If_10\" (If): found 8",
            ),
            (
                |p| p.prepare.nodes[0].inputs[0] = Some(ValueId(0)),
                InvalidEngine,
                "value used before it is defined at node \"/model/Transpose_7\"",
            ),
            (
                |p| p.prepare.outputs.clear(),
                InvalidEngine,
                "value used outside the block that defines it at node \"/model/Gemm_8\"",
            ),
            (
                |p| p.prepare.outputs.push(ValueId(3)),
                InvalidEngine,
                "an output that no node of prepare makes at prepare: found 3",
            ),
            (
                |p| p.prepare.outputs.push(ValueId(7)),
                InvalidEngine,
                "an output twice at prepare: found 7",
            ),
            (|p| p.prepare.inputs.push(ValueId(10)), InvalidEngine, "block inputs"),
            (|p| p.execute.inputs.push(ValueId(10)), InvalidEngine, "block inputs"),
            (
                |p| {
                    p.execute.outputs = vec![ValueId(9)];
                    p.outputs[0].value = ValueId(9);
                },
                InvalidEngine,
                "value used outside the block that defines it at execute: found 9",
            ),
            (
                |p| {
                    // A value of one branch is not there in the other.
                    let mut other = branch(p, "else");
                    other.outputs = vec![ValueId(9)];
                    let then = branch(p, "then");
                    set_branch(p, "else", then);
                    set_branch(p, "then", other);
                },
                InvalidEngine,
                "value used outside the block that defines it at then of node",
            ),
            (
                |p| p.execute.outputs = vec![ValueId(8)],
                InvalidEngine,
                "outputs at execute: expected the values of the output ports, [ValueId(10)]",
            ),
            (|p| p.execute.nodes[0].inputs.push(None), InvalidEngine, "a trailing omitted operand"),
            (
                |p| p.inputs[0].shape = Some(vec![Dim::from(-1)]),
                InvalidEngine,
                "negative dimension at input \"x\": found -1",
            ),
        ],
    );
}

#[test]
fn blocks_nest_only_so_deep() {
    let nested = |depth: usize| {
        let mut parts = sample::parts(EngineFlags::REFIT, 1);
        let mut block = branch(&mut parts, "then");
        for level in 0..depth {
            let attrs = Attrs::from([("body".to_owned(), Attr::Block(block))]);
            let value = 11 + level as u32;
            let nodes = vec![sample::node("Loop", &[], &[value], attrs)];
            block = Block { inputs: Vec::new(), nodes, outputs: vec![ValueId(value)] };
        }
        parts.values += depth as u32;
        set_branch(&mut parts, "then", block);
        Engine::new(parts)
    };
    // What is built can be written and read: the caps of both sides agree.
    let deepest = nested(15).unwrap();
    let file = deepest.serialize(engine_format::SerializeFlags::default()).unwrap();
    Engine::read(file.into()).unwrap();
    let error = nested(16).unwrap_err();
    assert_eq!(error.kind(), LimitExceeded);
    assert!(error.to_string().starts_with("blocks inside blocks"), "{error}");
}
