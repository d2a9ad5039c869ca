//! What a comparison of two engines says.

mod common;

use common::*;
use engine_format::{Attr, Attrs, Block, Engine, EngineFlags, EngineParts, Node, Tensor, ValueId};
use refit::{NodeDiff, diff, weight_summaries};

#[test]
fn equal_engines_do_not_differ() {
    let (a, b) =
        (engine(EngineFlags::REFIT, &weights(0.0)), engine(EngineFlags::REFIT, &weights(0.0)));
    assert!(diff(&a, &b).is_empty());
}

#[test]
fn changed_weights_come_with_their_distance() {
    let values = |v: &[f32]| vec![("same", ramp(&[2], 0.0)), ("w", Tensor::from_slice(&[4], v))];
    let a = engine(EngineFlags::REFIT, &values(&[1.0, 2.0, 3.0, f32::NAN]));
    let b = engine(EngineFlags::REFIT, &values(&[1.0, 2.5, 1.0, 0.0]));
    let diff = diff(&a, &b);
    let [changed] = &diff.changed[..] else { panic!("{diff:?}") };
    assert_eq!((changed.name.as_str(), changed.elements, changed.of), ("w", 3, 4));
    assert_eq!(changed.max_abs, Some(2.0));
    assert_eq!(changed.mean_abs, Some(2.5 / 3.0));
    assert_eq!(changed.not_finite, 1);
    assert!(diff.graph.is_empty() && diff.flags.is_none() && !diff.is_empty());
    let json = serde_json::to_value(&diff).unwrap();
    assert_eq!(json["changed"][0]["max_abs"], 2.0);
}

#[test]
fn flags_types_and_rows_are_compared() {
    let a = engine(EngineFlags::REFIT, &[("a", ramp(&[2], 0.0)), ("t", ramp(&[2, 3], 0.0))]);
    let b =
        engine(EngineFlags::REFIT_IDENTICAL, &[("b", ramp(&[2], 0.0)), ("t", ramp(&[3, 2], 0.0))]);
    let diff = diff(&a, &b);
    let flags = diff.flags.as_ref().unwrap();
    assert_eq!(
        (&flags.a[..], &flags.b[..]),
        (&["REFIT".to_owned()][..], &["REFIT_IDENTICAL".to_owned()][..])
    );
    assert_eq!(
        (&diff.only_in_a[..], &diff.only_in_b[..]),
        (&["a".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!(
        (diff.retyped[0].a.as_str(), diff.retyped[0].b.as_str()),
        ("f32[2, 3]", "f32[3, 2]")
    );
    assert_eq!(diff.graph, ["weight table"]);
}

#[test]
fn stripped_weights_are_unknown_unless_their_digests_tell() {
    let full = engine(EngineFlags::REFIT, &weights(0.0));
    let unknown = diff(&full, &full.strip().unwrap());
    assert_eq!(unknown.unknown, ["embedding", "empty", "half", "layer.bias", "layer.weight"]);
    assert!(unknown.changed.is_empty());

    let full = engine(EngineFlags::REFIT_IDENTICAL, &weights(0.0));
    let other = engine(EngineFlags::REFIT_IDENTICAL, &weights(1.0));
    assert!(diff(&full, &full.strip().unwrap()).changed.is_empty());
    let told = diff(&other, &full.strip().unwrap());
    assert_eq!(told.changed.len(), 4);
    assert!(told.changed.iter().all(|w| w.max_abs.is_none()));
}

/// `x · wᵀ`, then another operator, with values numbered from the back if asked for.
fn product(last: &str, backwards: bool) -> Engine {
    let parts = engine(EngineFlags::REFIT, &[("w", ramp(&[2, 2], 0.0))]).parts().clone();
    let id = |i: u32| ValueId(if backwards { 4 - i } else { i });
    let node = |op: &str, name: &str, inputs: &[u32], output: u32| Node {
        op: op.to_owned(),
        version: 1,
        name: name.to_owned(),
        inputs: inputs.iter().map(|&i| Some(id(i))).collect(),
        outputs: vec![Some(id(output))],
        attrs: match op {
            "Transpose" => Attrs::from([("perm".to_owned(), Attr::Ints(vec![1, 0]))]),
            _ => Attrs::new(),
        },
    };
    let EngineParts { mut inputs, mut outputs, mut weights, .. } = parts.clone();
    inputs[0].value = id(0);
    weights[0].value = id(1);
    outputs[0].name = "y".to_owned();
    outputs[0].value = id(4);
    let turned = node("Transpose", "turned", &[1], 2);
    let execute = vec![node("MatMul", "product", &[0, 2], 3), node(last, "last", &[3], 4)];
    Engine::new(EngineParts {
        inputs,
        outputs,
        weights,
        values: 5,
        prepare: Block { nodes: vec![turned], outputs: vec![id(2)], ..Block::default() },
        execute: Block { nodes: execute, outputs: vec![id(4)], ..Block::default() },
        ..parts
    })
    .expect("the engine is valid")
}

#[test]
fn nodes_are_told_apart_by_what_they_do_not_by_numbers() {
    assert_eq!(diff(&product("Relu", false), &product("Relu", true)).nodes, []);
    let nodes = diff(&product("Relu", false), &product("Tanh", false)).nodes;
    let text = |op: &str| Some(format!("{op} v1 (product)"));
    let (program, node) = ("execute", "last".to_owned());
    assert_eq!(nodes, [NodeDiff { program, node, a: text("Relu"), b: text("Tanh") }]);
    let plain = engine(EngineFlags::REFIT, &[("w", ramp(&[2, 2], 0.0))]);
    let nodes = diff(&plain, &product("Relu", false)).nodes;
    let names: Vec<_> = nodes.iter().map(|n| (n.program, n.node.as_str())).collect();
    assert_eq!(names, [("prepare", "turned"), ("execute", "product"), ("execute", "last")]);
    assert!(nodes.iter().all(|n| n.a.is_none()));
    assert_eq!(nodes[1].b.as_deref(), Some("MatMul v1 (input x, turned)"));
    assert_eq!(nodes[0].b.as_deref(), Some("Transpose v1 (weight w) perm=[1, 0]"));
}

#[test]
fn a_weight_reaches_the_nodes_that_read_what_was_prepared_from_it() {
    let [summary] = &weight_summaries(&product("Relu", false))[..] else { panic!("one weight") };
    let reached: Vec<_> =
        summary.reaches.iter().map(|n| (n.node.as_str(), n.op.as_str())).collect();
    assert_eq!(reached, [("product", "MatMul")]);
    assert_eq!((summary.stored, summary.refittable, &summary.fixed), (true, true, &None));
    let frozen = engine(EngineFlags::empty(), &[("w", ramp(&[2], 0.0))]);
    let [summary] = &weight_summaries(&frozen)[..] else { panic!("one weight") };
    assert_eq!(summary.fixed.as_deref(), Some("frozen"));
    assert!(summary.reaches.is_empty());
}
