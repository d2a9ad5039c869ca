//! Takes the branch of an `If` whose condition is known.

use crate::error::BuildError;
use crate::graph::{Graph, blocks_mut};
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Block, Node, ValueId};
use engine_ops::OpName;
use std::collections::BTreeMap;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut replacements = BTreeMap::new();
    let nodes = std::mem::take(&mut graph.execute);
    graph.execute = take_known(graph, nodes, &mut replacements, notes);
    graph.replace_uses(&replacements);
    Ok(!replacements.is_empty())
}

fn take_known(
    graph: &Graph,
    nodes: Vec<Node>,
    replacements: &mut BTreeMap<ValueId, ValueId>,
    notes: &mut Notes,
) -> Vec<Node> {
    let mut out = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        if let Some((name, block)) = taken_branch(graph, &node) {
            notes.done(&node.name, format!("the condition is known: {name}"));
            let results = node.outputs.iter().zip(&block.outputs);
            replacements.extend(results.filter_map(|(id, &result)| Some(((*id)?, result))));
            out.extend(take_known(graph, block.nodes, replacements, notes));
            continue;
        }
        for block in blocks_mut(&mut node) {
            block.nodes = take_known(graph, std::mem::take(&mut block.nodes), replacements, notes);
        }
        out.push(node);
    }
    out
}

fn taken_branch(graph: &Graph, node: &Node) -> Option<(&'static str, Block)> {
    if OpName::of(node) != op::If {
        return None;
    }
    let condition = graph.known_tensor((*node.inputs.first()?)?)?;
    let name = if condition.to_i64s()?.first()? != &0 { "then_branch" } else { "else_branch" };
    match node.attrs.get(name)? {
        Attr::Block(block) => Some((name, block.clone())),
        _ => None,
    }
}
