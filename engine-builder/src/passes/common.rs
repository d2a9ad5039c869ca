//! Merges nodes that compute the same from the same operands, and literals with the same contents. Weights are never
//! merged: equal today, they may differ after a refit.

use super::is_deterministic;
use crate::error::BuildError;
use crate::graph::{ConstantClass, Graph, blocks_mut};
use crate::report::Notes;
use engine_format::{Digest, Node, ValueId};
use engine_ops::{Kind, lookup};
use std::collections::BTreeMap;

type Replacements = BTreeMap<ValueId, ValueId>;

/// What was computed so far: the node and its results, by what it computes from what.
type Seen = BTreeMap<String, (String, Vec<Option<ValueId>>)>;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut replacements = equal_literals(graph);
    let mut nodes = std::mem::take(&mut graph.execute);
    merge(&mut nodes, &Seen::new(), &mut replacements, notes);
    graph.execute = nodes;
    graph.replace_uses(&replacements);
    graph.constants.retain(|id, _| !replacements.contains_key(id));
    Ok(!replacements.is_empty())
}

fn equal_literals(graph: &Graph) -> Replacements {
    let mut first = BTreeMap::new();
    let mut replacements = Replacements::new();
    for (&id, constant) in &graph.constants {
        if constant.class != ConstantClass::Literal {
            continue;
        }
        let tensor = &constant.tensor;
        let key = (tensor.dtype(), tensor.shape().to_vec(), Digest::of(tensor.bytes()));
        let kept = *first.entry(key).or_insert(id);
        if kept != id {
            replacements.insert(id, kept);
        }
    }
    replacements
}

/// `outer` holds what enclosing blocks computed before this point.
fn merge(nodes: &mut Vec<Node>, outer: &Seen, replacements: &mut Replacements, notes: &mut Notes) {
    let mut seen = outer.clone();
    nodes.retain_mut(|node| {
        for input in node.inputs.iter_mut().flatten() {
            while let Some(&kept) = replacements.get(input) {
                *input = kept;
            }
        }
        for block in blocks_mut(node) {
            merge(&mut block.nodes, &seen, replacements, notes);
        }
        if !is_mergeable(node) {
            return true;
        }
        let key = format!("{}/{} {:?} {:?}", node.op, node.version, node.inputs, node.attrs);
        let (first, kept) =
            seen.entry(key).or_insert_with(|| (node.name.clone(), node.outputs.clone()));
        let covered = node
            .outputs
            .iter()
            .enumerate()
            .all(|(i, output)| output.is_none() || kept.get(i).is_some_and(Option::is_some));
        if *kept == node.outputs || !covered {
            return true;
        }
        let pairs = node.outputs.iter().zip(kept.iter());
        replacements.extend(pairs.filter_map(|(from, to)| Some(((*from)?, (*to)?))));
        notes.done(&node.name, format!("the same as {first}"));
        false
    });
}

fn is_mergeable(node: &Node) -> bool {
    let control = lookup(&node.op, node.version).is_none_or(|def| def.kind == Kind::Control);
    !control && is_deterministic(node)
}
