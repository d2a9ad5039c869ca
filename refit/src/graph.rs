//! Programs as people see them: what a node reads, what its operands are called.

use engine_format::{Attr, Block, Digest, EngineParts, Node, Tensor, ValueId};
use std::collections::BTreeMap;

/// The blocks inside a node.
pub(crate) fn blocks(node: &Node) -> impl Iterator<Item = &Block> {
    node.attrs.values().filter_map(|attr| match attr {
        Attr::Block(block) => Some(block),
        _ => None,
    })
}

/// Calls `found` with every node of a block, those of inner blocks after the node they are in.
pub(crate) fn each_node<'a>(block: &'a Block, found: &mut dyn FnMut(&'a Node)) {
    for node in &block.nodes {
        found(node);
        blocks(node).for_each(|inner| each_node(inner, found));
    }
}

/// Every value that a node reads, the ones its blocks read from outside included.
pub(crate) fn reads(node: &Node) -> Vec<ValueId> {
    let mut read: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    for block in blocks(node) {
        each_node(block, &mut |inner| read.extend(inner.inputs.iter().flatten()));
        read.extend(&block.outputs);
    }
    read
}

/// What values are called: by what makes them, never by their number, which another build may choose differently.
pub(crate) struct Labels(BTreeMap<ValueId, String>);

impl Labels {
    pub(crate) fn of(parts: &EngineParts) -> Self {
        let inputs = parts.inputs.iter().map(|port| (port.value, format!("input {}", port.name)));
        let weights = parts.weights.iter().map(|w| (w.value, format!("weight {}", w.name)));
        let literals = parts.literals.iter().map(|l| (l.value, constant(&l.tensor)));
        let mut labels = Self(inputs.chain(weights).chain(literals).collect());
        labels.block(&parts.prepare);
        labels.block(&parts.execute);
        labels
    }

    fn block(&mut self, block: &Block) {
        for (i, &input) in block.inputs.iter().enumerate() {
            self.0.insert(input, format!("operand {i}"));
        }
        for node in &block.nodes {
            for (i, output) in node.outputs.iter().enumerate() {
                let Some(output) = output else { continue };
                let which = if i == 0 { String::new() } else { format!(" result {i}") };
                self.0.insert(*output, format!("{}{which}", node.name));
            }
            blocks(node).for_each(|inner| self.block(inner));
        }
    }

    fn get(&self, value: ValueId) -> &str {
        self.0.get(&value).map_or("?", String::as_str)
    }

    /// A node without its name: operator, operands, attributes.
    pub(crate) fn node(&self, node: &Node) -> String {
        let operands = node.inputs.iter().map(|v| v.map_or("–", |v| self.get(v)));
        let operands = operands.collect::<Vec<_>>().join(", ");
        let attrs = node.attrs.iter().map(|(name, attr)| format!(" {name}={}", self.attr(attr)));
        format!("{} v{} ({operands}){}", node.op, node.version, attrs.collect::<String>())
    }

    fn attr(&self, attr: &Attr) -> String {
        match attr {
            Attr::Int(value) => value.to_string(),
            Attr::Float(value) => value.to_string(),
            Attr::Str(value) => format!("{value:?}"),
            Attr::Ints(values) => format!("{values:?}"),
            Attr::Floats(values) => format!("{values:?}"),
            Attr::Strs(values) => format!("{values:?}"),
            Attr::Block(block) => {
                let nodes = block.nodes.iter().map(|n| format!("{} = {}; ", n.name, self.node(n)));
                let outputs: Vec<&str> = block.outputs.iter().map(|&v| self.get(v)).collect();
                format!("{{ {}give {} }}", nodes.collect::<String>(), outputs.join(", "))
            }
        }
    }
}

/// A constant by type and contents.
fn constant(tensor: &Tensor) -> String {
    let digest = Digest::of(tensor.bytes()).to_string();
    format!("constant {}{:?} {}", tensor.dtype(), tensor.shape(), &digest[..8])
}
