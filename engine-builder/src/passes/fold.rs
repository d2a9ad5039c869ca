//! Replaces results whose contents are known by literals: shape arithmetic that the rules followed, and nodes over
//! literals alone, evaluated with their CPU kernels. Results above 64 KiB stay nodes.

use super::{LARGEST_LITERAL, is_deterministic};
use crate::error::BuildError;
use crate::graph::{Constant, Graph, blocks_mut};
use crate::report::Notes;
use engine_format::{Node, Tensor, ValueId};
use engine_ops::{Kind, lookup};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut nodes = std::mem::take(&mut graph.execute);
    let changed = fold_nodes(graph, &mut nodes, notes);
    graph.execute = nodes;
    Ok(changed)
}

fn fold_nodes(graph: &mut Graph, nodes: &mut Vec<Node>, notes: &mut Notes) -> bool {
    let before = nodes.len();
    let mut changed = false;
    nodes.retain_mut(|node| {
        for block in blocks_mut(node) {
            changed |= fold_nodes(graph, &mut block.nodes, notes);
        }
        let Some(results) = known_results(graph, node).or_else(|| evaluate(graph, node)) else {
            return true;
        };
        notes.done(&node.name, format!("{} gives a literal", node.op));
        for (id, tensor) in results {
            let literal = Constant::literal(tensor);
            graph.value_mut(id).facts = literal.facts();
            graph.constants.insert(id, literal);
        }
        false
    });
    changed | (nodes.len() < before)
}

/// Contents of all results, if the rules know them.
fn known_results(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, Tensor)>> {
    node.outputs
        .iter()
        .flatten()
        .map(|&id| Some((id, graph.known_tensor(id).filter(is_small)?)))
        .collect()
}

/// Contents of all results of a node whose operands are all known.
fn evaluate(graph: &Graph, node: &Node) -> Option<Vec<(ValueId, Tensor)>> {
    let def = lookup(&node.op, node.version)?;
    let results = node.outputs.iter().flatten();
    let small = |&id: &ValueId| {
        let facts = graph.facts(id);
        let shape = facts.concrete()?;
        let bytes = shape.iter().try_fold(facts.dtype.size()?, |n, &d| n.checked_mul(d))?;
        (bytes <= LARGEST_LITERAL).then_some(())
    };
    if def.kind == Kind::Control || !is_deterministic(node) {
        return None;
    }
    results.clone().try_for_each(small)?;
    let inputs: Option<Vec<Option<Tensor>>> = node
        .inputs
        .iter()
        .map(|input| input.map_or(Some(None), |id| graph.known_tensor(id).map(Some)))
        .collect();
    // A kernel that refuses its operands does so again when the node runs, with the node's path in the error.
    let tensors = engine_ops::eval(def, &node.attrs, &inputs?, node.outputs.len()).ok()?;
    let pairs = node.outputs.iter().zip(tensors);
    let pairs = pairs.filter_map(|(id, tensor)| id.map(|id| (id, tensor)));
    Some(pairs.collect()).filter(|found: &Vec<_>| found.len() == results.count())
}

fn is_small(tensor: &Tensor) -> bool {
    tensor.bytes().len() <= LARGEST_LITERAL
}
