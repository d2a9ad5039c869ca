//! Engines to test with.

use engine_format::{
    Attr, Attrs, Block, DType, Digest, Dim, EngineFlags, EngineParts, Form, Literal, MapSource,
    Node, Port, SourceLiteral, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use std::collections::BTreeMap;

/// A row whose refittable mark follows from `flags` (always set under `REFIT_INDIVIDUAL`).
pub fn weight(name: &str, value: u32, tensor: &Tensor, flags: EngineFlags) -> Weight {
    Weight {
        name: name.to_owned(),
        aliases: Vec::new(),
        value: ValueId(value),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        class: WeightClass::Weight,
        pinned: None,
        refittable: !flags.is_frozen(),
        digest: Some(Digest::of(tensor.bytes())),
        data: WeightData::Stored(tensor.bytes().clone()),
    }
}

pub fn node(op: &str, inputs: &[Option<u32>], outputs: &[u32], attrs: Attrs) -> Node {
    Node {
        op: op.to_owned(),
        version: 1,
        name: format!("/model/{op}_{}", outputs.first().copied().unwrap_or_default()),
        inputs: inputs.iter().map(|input| input.map(ValueId)).collect(),
        outputs: outputs.iter().map(|&output| Some(ValueId(output))).collect(),
        attrs,
    }
}

/// Values like those of a trained layer: different everywhere, different for another `seed`.
pub fn floats(shape: &[usize], seed: u32) -> Tensor {
    let count = shape.iter().product::<usize>() as u32;
    let value = |i: u32| {
        (i.wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(97_531_357)) >> 8) as f32
            / 1e7
            - 0.8
    };
    Tensor::from_slice(shape, &(0..count).map(value).collect::<Vec<f32>>())
}

/// An engine with one of everything: two weights, a parameter, a pinned weight, literals, a source
/// literal, an ignored name, an alias, a prepare program, a branch that captures, every kind of attribute.
pub fn parts(flags: EngineFlags, seed: u32) -> EngineParts {
    let axes = Tensor::from_slice(&[2], &[0i64, 1]);
    let mut weights = vec![
        weight("encoder.bias", 3, &floats(&[3], seed), flags),
        weight("encoder.weight", 4, &floats(&[5, 3], seed + 1), flags),
        weight("epsilon", 5, &Tensor::from_slice(&[], &[1e-5f32]), flags),
        weight("table", 6, &Tensor::from_slice(&[20], &[7i64; 20]), flags),
    ];
    weights[1].aliases = vec!["onnx::MatMul_12".to_owned().into()];
    weights[2].class = WeightClass::Parameter;
    weights[3].pinned = Some("it also decides the shape of /model/Reshape_9".to_owned());
    let branch = Block {
        inputs: Vec::new(),
        nodes: vec![node("Add", &[Some(8), Some(5)], &[9], Attrs::new())],
        outputs: vec![ValueId(9)],
    };
    let attrs = Attrs::from([
        ("alpha".to_owned(), Attr::Float(0.25)),
        ("axis".to_owned(), Attr::Int(-1)),
        ("else".to_owned(), Attr::Block(Block { outputs: vec![ValueId(8)], ..Block::default() })),
        ("labels".to_owned(), Attr::Strs(vec!["a".to_owned(), String::new()])),
        ("mode".to_owned(), Attr::Str("nearest".to_owned())),
        ("pads".to_owned(), Attr::Ints(vec![0, -1, 70_000, i64::MIN])),
        ("scales".to_owned(), Attr::Floats(vec![1.0, f32::NAN, f32::INFINITY])),
        ("then".to_owned(), Attr::Block(branch)),
    ]);
    EngineParts {
        flags,
        metadata: BTreeMap::from([("author".to_owned(), "a test".to_owned())]),
        inputs: vec![Port {
            name: "x".to_owned(),
            value: ValueId(0),
            form: Form::Tensor,
            dtype: DType::F32,
            shape: Some(vec![Dim::symbol("batch"), Dim::from(5)]),
        }],
        outputs: vec![Port {
            name: "y".to_owned(),
            value: ValueId(10),
            form: Form::Tensor,
            dtype: DType::F32,
            shape: None,
        }],
        values: 11,
        literals: vec![
            Literal { value: ValueId(1), tensor: axes.clone() },
            Literal { value: ValueId(2), tensor: Tensor::from_bools(&[1], &[true]) },
        ],
        weights,
        prepare: Block {
            inputs: Vec::new(),
            nodes: vec![node("Transpose", &[Some(4)], &[7], Attrs::new())],
            outputs: vec![ValueId(7)],
        },
        execute: Block {
            inputs: Vec::new(),
            nodes: vec![
                node("Gemm", &[Some(0), Some(7), Some(3)], &[8], Attrs::new()),
                node("If", &[Some(2), None, Some(6)], &[10], attrs),
            ],
            outputs: vec![ValueId(10)],
        },
        source_literals: vec![SourceLiteral { name: "axes".to_owned(), tensor: axes }],
        ignored: vec!["position_ids".to_owned()],
    }
}

/// The same with what version 1.1 brought: an input that is no tensor.
pub fn parts_1_1(flags: EngineFlags, seed: u32) -> EngineParts {
    let mut parts = parts(flags, seed);
    parts.inputs.push(Port {
        name: "past".to_owned(),
        value: ValueId(parts.values),
        form: Form::OptionalSequence,
        dtype: DType::F16,
        shape: Some(vec![Dim::symbol("heads")]),
    });
    parts.values += 1;
    parts
}

/// Every weight of `parts` that has bytes, as a source under the engine's own names.
pub fn source(parts: &EngineParts) -> MapSource {
    let tensor = |weight: &Weight| Some((weight.name.clone(), weight.tensor()?));
    parts.weights.iter().filter_map(tensor).collect()
}

/// The three refit modes.
pub const MODES: [EngineFlags; 3] =
    [EngineFlags::REFIT, EngineFlags::REFIT_IDENTICAL, EngineFlags::REFIT_INDIVIDUAL];
