//! Moves nodes that depend on weights and literals alone from `execute` to `prepare`.
//!
//! This is how folding works here: nothing is computed at build, the node runs again at every refit. A node inside a
//! branch moves too if it cannot fail, for the branch may never be taken: its results have known shapes, so its rule has
//! accepted its operands, and it takes no indices, which only the kernel checks.

use super::is_deterministic;
use crate::error::BuildError;
use crate::graph::{Graph, blocks_mut};
use engine_format::{Node, ValueId};
use engine_ops::{Kind, Role, lookup};
use std::collections::BTreeSet;

pub(super) fn run(graph: &mut Graph) -> Result<bool, BuildError> {
    let mut constant: BTreeSet<ValueId> = graph.constants.keys().copied().collect();
    constant.extend(graph.prepare.iter().flat_map(|node| node.outputs.iter().flatten()));
    let mut moved = Vec::new();
    let mut nodes = std::mem::take(&mut graph.execute);
    take(graph, &mut nodes, false, &mut constant, &mut moved);
    graph.execute = nodes;
    let changed = !moved.is_empty();
    graph.prepare.extend(moved);
    Ok(changed)
}

fn take(
    graph: &Graph,
    nodes: &mut Vec<Node>,
    in_branch: bool,
    constant: &mut BTreeSet<ValueId>,
    moved: &mut Vec<Node>,
) {
    let mut stay = Vec::with_capacity(nodes.len());
    for mut node in std::mem::take(nodes) {
        for block in blocks_mut(&mut node) {
            take(graph, &mut block.nodes, true, constant, moved);
        }
        let may_fail = in_branch && takes_indices(&node);
        if !may_fail && is_movable(graph, &node, constant) {
            constant.extend(node.outputs.iter().flatten());
            moved.push(node);
        } else {
            stay.push(node);
        }
    }
    *nodes = stay;
}

fn takes_indices(node: &Node) -> bool {
    lookup(&node.op, node.version)
        .is_none_or(|def| def.inputs.iter().any(|operand| operand.role == Role::Index))
}

fn is_movable(graph: &Graph, node: &Node, constant: &BTreeSet<ValueId>) -> bool {
    let Some(def) = lookup(&node.op, node.version) else { return false };
    let mut operands = node.inputs.iter().flatten();
    let mut results = node.outputs.iter().flatten();
    def.kind != Kind::Control
        && is_deterministic(&node.op)
        && operands.clone().next().is_some()
        && operands.all(|id| constant.contains(id))
        && results.all(|&id| graph.facts(id).concrete().is_some())
}
