//! Moves nodes that depend on weights and literals alone from `execute` to `prepare`.
//!
//! This is how folding works here: nothing is computed at build, the node runs again at every refit. A node inside a
//! branch moves too if it cannot fail, for the branch may never be taken: its results have known shapes, so its rule has
//! accepted its operands, and it takes no indices, which only the kernel checks.

use super::is_deterministic;
use crate::error::BuildError;
use crate::graph::{Graph, blocks, blocks_mut};
use crate::report::Notes;
use engine_format::{DType, Node, ValueId};
use engine_ops::{Kind, Role, lookup};
use std::collections::BTreeSet;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut constant = constants(graph);
    let mut moved = Vec::new();
    let mut nodes = std::mem::take(&mut graph.execute);
    take(graph, &mut nodes, false, &mut constant, &mut moved, notes);
    graph.execute = nodes;
    let changed = !moved.is_empty();
    graph.prepare.extend(moved);
    Ok(changed)
}

/// Values that no run changes: constants, what `prepare` computes, and what this pass would move there. Passes that fold
/// something into a weight ask for these.
pub(super) fn weight_only(graph: &Graph) -> BTreeSet<ValueId> {
    let mut constant = constants(graph);
    follow(graph, &graph.execute, false, &mut constant);
    constant
}

fn constants(graph: &Graph) -> BTreeSet<ValueId> {
    let prepared = graph.prepare.iter().flat_map(|node| node.outputs.iter().flatten());
    graph.constants.keys().chain(prepared).copied().collect()
}

fn follow(graph: &Graph, nodes: &[Node], in_branch: bool, constant: &mut BTreeSet<ValueId>) {
    for node in nodes {
        for block in blocks(node) {
            follow(graph, &block.nodes, true, constant);
        }
        if moves(graph, node, in_branch, constant).is_ok() {
            constant.extend(node.outputs.iter().flatten());
        }
    }
}

fn take(
    graph: &Graph,
    nodes: &mut Vec<Node>,
    in_branch: bool,
    constant: &mut BTreeSet<ValueId>,
    moved: &mut Vec<Node>,
    notes: &mut Notes,
) {
    let mut stay = Vec::with_capacity(nodes.len());
    for mut node in std::mem::take(nodes) {
        for block in blocks_mut(&mut node) {
            take(graph, &mut block.nodes, true, constant, moved, notes);
        }
        match moves(graph, &node, in_branch, constant) {
            Ok(()) => {
                notes.done(&node.name, format!("{} runs at refit", node.op));
                constant.extend(node.outputs.iter().flatten());
                moved.push(node);
            }
            Err(why) => {
                if let Some(why) = why {
                    notes.kept(&node.name, format!("depends on weights alone, but {why}"));
                }
                stay.push(node);
            }
        }
    }
    *nodes = stay;
}

/// Strings are on the host only, and what `prepare` gives is kept on the device.
fn has_strings(graph: &Graph, node: &Node) -> bool {
    let values = node.inputs.iter().chain(&node.outputs);
    values.flatten().any(|&id| graph.facts(id).dtype == DType::String)
}

fn takes_indices(node: &Node) -> bool {
    lookup(&node.op, node.version)
        .is_none_or(|def| def.inputs.iter().any(|operand| operand.role == Role::Index))
}

/// Whether a node can run at refit; if not, why, where it depends on what is constant alone.
fn moves(
    graph: &Graph,
    node: &Node,
    in_branch: bool,
    constant: &BTreeSet<ValueId>,
) -> Result<(), Option<&'static str>> {
    let control = lookup(&node.op, node.version).is_none_or(|def| def.kind == Kind::Control);
    let mut operands = node.inputs.iter().flatten();
    if control || node.inputs.is_empty() || !operands.all(|id| constant.contains(id)) {
        return Err(None);
    }
    if !is_deterministic(node) {
        return Err(Some("gives other results every time"));
    }
    if in_branch && takes_indices(node) {
        return Err(Some("is inside a branch and may fail"));
    }
    if has_strings(graph, node) {
        return Err(Some("handles strings"));
    }
    match node.outputs.iter().flatten().all(|&id| graph.facts(id).concrete().is_some()) {
        true => Ok(()),
        false => Err(Some("its result has no fixed shape")),
    }
}
