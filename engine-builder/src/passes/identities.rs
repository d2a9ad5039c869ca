//! Removes nodes that give back their operand.

use crate::error::BuildError;
use crate::graph::{Graph, blocks_mut};
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Dim, Node, ValueId};
use engine_ops::OpName;
use engine_ops::infer::Known;
use std::collections::BTreeMap;

/// Whether a node gives back its first operand, in every run.
type Holds = fn(&Graph, &Node) -> bool;

/// When an operator gives back its first operand.
static RULES: &[(OpName<'_>, Holds)] = &[
    (op::Identity, |_, _| true),
    (op::Cast, |graph, node| operand_and_result(graph, node, |x, y| x.dtype == y.dtype)),
    (op::Concat, |_, node| node.inputs.len() == 1),
    (op::Reshape, same_shape),
    (op::Squeeze, same_shape),
    (op::Unsqueeze, same_shape),
    (op::Flatten, same_shape),
    (op::Transpose, keeps_axes),
    (op::Expand, expands_nothing),
    (op::Slice, takes_all),
];

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut replacements = BTreeMap::new();
    let mut nodes = std::mem::take(&mut graph.execute);
    remove(graph, &mut nodes, &mut replacements, notes);
    graph.execute = nodes;
    graph.replace_uses(&replacements);
    Ok(!replacements.is_empty())
}

fn remove(
    graph: &Graph,
    nodes: &mut Vec<Node>,
    replacements: &mut BTreeMap<ValueId, ValueId>,
    notes: &mut Notes,
) {
    nodes.retain_mut(|node| {
        for block in blocks_mut(node) {
            remove(graph, &mut block.nodes, replacements, notes);
        }
        let rule = RULES.iter().find(|(op, _)| *op == OpName::of(node));
        let (Some(&Some(operand)), &[Some(result)]) = (node.inputs.first(), &node.outputs[..])
        else {
            return true;
        };
        if !rule.is_some_and(|(_, holds)| holds(graph, node)) {
            return true;
        }
        replacements.insert(result, operand);
        notes.done(&node.name, format!("{} gives back its operand", node.op));
        false
    });
}

fn operand_and_result(
    graph: &Graph,
    node: &Node,
    holds: impl Fn(&engine_ops::infer::Facts, &engine_ops::infer::Facts) -> bool,
) -> bool {
    match (node.inputs.first(), node.outputs.first()) {
        (Some(&Some(x)), Some(&Some(y))) => holds(graph.facts(x), graph.facts(y)),
        _ => false,
    }
}

fn same_shape(graph: &Graph, node: &Node) -> bool {
    operand_and_result(graph, node, |x, y| x.shape.is_some() && x.shape == y.shape)
}

fn keeps_axes(graph: &Graph, node: &Node) -> bool {
    match node.attrs.get("perm") {
        Some(Attr::Ints(perm)) => perm.iter().enumerate().all(|(i, &p)| p == i as i64),
        _ => operand_and_result(graph, node, |x, _| {
            x.shape.as_ref().is_some_and(|shape| shape.len() < 2)
        }),
    }
}

/// From the first element of each axis in steps of one: then the size of the result tells.
fn takes_all(graph: &Graph, node: &Node) -> bool {
    let every = |i: usize, wanted: i64| match node.inputs.get(i).copied().flatten() {
        Some(id) => {
            let ints = graph.known_tensor(id).and_then(|tensor| tensor.to_i64s());
            ints.is_some_and(|ints| ints.iter().all(|&n| n == wanted))
        }
        None => true,
    };
    every(1, 0) && every(4, 1) && same_shape(graph, node)
}

/// The result's shape does not tell: where both sizes are symbols the rule keeps one, although it may be 1 in a run. So
/// the target itself is compared.
fn expands_nothing(graph: &Graph, node: &Node) -> bool {
    let (Some(&Some(x)), Some(&Some(target))) = (node.inputs.first(), node.inputs.get(1)) else {
        return false;
    };
    let target = match &graph.facts(target).value {
        Some(Known::Dims(dims)) => dims.clone(),
        Some(Known::Tensor(tensor)) => {
            tensor.to_i64s().unwrap_or_default().into_iter().map(Dim::from).collect()
        }
        None => return false,
    };
    let Some(shape) = &graph.facts(x).shape else { return false };
    let one = Dim::from(1);
    target.len() <= shape.len()
        && target.iter().rev().zip(shape.iter().rev()).all(|(t, d)| *t == one || t == d)
}
