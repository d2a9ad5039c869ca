//! Where a graph reads its constants.

use super::path;
use crate::graph::{Graph, blocks_mut};
use engine_format::{Block, Node, ValueId};
use std::collections::BTreeMap;

/// One operand that reads a constant. Operands of equal [`Place`]s, the copies that import makes of one node, are one use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) place: Place,
    /// The module that the node belongs to, where its path says so.
    pub(super) module: Option<Vec<String>>,
    /// The name of what an `Identity` makes of it: exporters that merge equal parameters leave such nodes, whose results bear the
    /// parameters' names.
    pub(super) renamed: Option<String>,
}

/// A node of the model, the operator that import wrote for it, and the operand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) op: String,
    pub(super) operand: usize,
}

impl Place {
    fn of(node: &Node, operand: usize) -> Self {
        // Nodes that import adds are called `PATH#1`.
        let name = node.name.rsplit_once('#').map_or(node.name.as_str(), |(path, _)| path);
        Self { node: name.to_owned(), op: node.op.clone(), operand }
    }

    /// Where a constant is itself the result of the graph or of a block.
    fn result(of: &str, index: usize) -> Self {
        Self { node: of.to_owned(), op: "result".to_owned(), operand: index }
    }
}

/// Every use of every value, each once, in the order of the program.
pub(super) fn uses(graph: &Graph) -> BTreeMap<ValueId, Vec<Use>> {
    let mut all = BTreeMap::<ValueId, Vec<Use>>::new();
    let mut copy = graph.clone();
    let identities = graph.execute.iter().filter(|node| node.op == "Identity");
    let mut renames = BTreeMap::<&str, Vec<ValueId>>::new();
    for node in identities {
        renames.entry(&node.name).or_default().extend(node.outputs.iter().flatten());
    }
    replace(&mut copy, &mut |place, id| {
        let module = path::module_of_node(&place.node);
        let renamed = match (place.op.as_str(), renames.get(place.node.as_str()).map(Vec::as_slice))
        {
            ("Identity", Some([result])) => Some(graph.value(*result).name.clone()),
            _ => None,
        };
        let found = Use { place, module, renamed };
        let uses = all.entry(id).or_default();
        if !uses.contains(&found) {
            uses.push(found);
        }
        id
    });
    all
}

/// Calls `choose` for every operand and result and puts what it gives in its place.
pub(super) fn replace(graph: &mut Graph, choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    in_nodes(&mut graph.execute, choose);
    for (i, output) in graph.outputs.iter_mut().enumerate() {
        output.value = choose(Place::result(&output.name, i), output.value);
    }
}

fn in_nodes(nodes: &mut [Node], choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    for node in nodes {
        for operand in 0..node.inputs.len() {
            if let Some(id) = node.inputs[operand] {
                node.inputs[operand] = Some(choose(Place::of(node, operand), id));
            }
        }
        let name = node.name.clone();
        blocks_mut(node).for_each(|block| in_block(block, &name, choose));
    }
}

fn in_block(block: &mut Block, name: &str, choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    in_nodes(&mut block.nodes, choose);
    for (i, output) in block.outputs.iter_mut().enumerate() {
        *output = choose(Place::result(name, i), *output);
    }
}
