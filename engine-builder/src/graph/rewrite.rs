//! What passes do to a graph: walk all nodes, replace uses, find what is used.

use super::Graph;
use engine_format::{Attr, Block, Node, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The nested blocks of a node.
pub fn blocks(node: &Node) -> impl Iterator<Item = &Block> {
    node.attrs.values().filter_map(|attr| match attr {
        Attr::Block(block) => Some(block),
        _ => None,
    })
}

/// The nested blocks of a node, to be changed.
pub fn blocks_mut(node: &mut Node) -> impl Iterator<Item = &mut Block> {
    node.attrs.values_mut().filter_map(|attr| match attr {
        Attr::Block(block) => Some(block),
        _ => None,
    })
}

/// Calls `visit` for every value that the node reads, in nested blocks too.
pub fn for_each_use(node: &Node, visit: &mut impl FnMut(ValueId)) {
    node.inputs.iter().flatten().for_each(|&id| visit(id));
    for block in blocks(node) {
        block.nodes.iter().for_each(|inner| for_each_use(inner, visit));
        block.outputs.iter().for_each(|&id| visit(id));
    }
}

fn replace_in(nodes: &mut [Node], resolve: &impl Fn(ValueId) -> ValueId) {
    for node in nodes {
        node.inputs.iter_mut().flatten().for_each(|id| *id = resolve(*id));
        for block in blocks_mut(node) {
            replace_in(&mut block.nodes, resolve);
            block.outputs.iter_mut().for_each(|id| *id = resolve(*id));
        }
    }
}

impl Graph {
    /// Replaces every use of a key by its value; chains (`a → b`, `b → c`) are followed.
    pub fn replace_uses(&mut self, replacements: &BTreeMap<ValueId, ValueId>) {
        let resolve = |mut id: ValueId| {
            while let Some(&next) = replacements.get(&id) {
                id = next;
            }
            id
        };
        replace_in(&mut self.prepare, &resolve);
        replace_in(&mut self.execute, &resolve);
        self.outputs.iter_mut().for_each(|output| output.value = resolve(output.value));
    }

    /// Every value that a node or an output reads.
    pub fn used_values(&self) -> BTreeSet<ValueId> {
        let mut used: BTreeSet<ValueId> = self.outputs.iter().map(|o| o.value).collect();
        for node in self.prepare.iter().chain(&self.execute) {
            for_each_use(node, &mut |id| {
                used.insert(id);
            });
        }
        used
    }
}
