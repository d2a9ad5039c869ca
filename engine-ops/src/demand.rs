//! What values decide: the backward analysis behind the classification of constants and behind the planner's
//! choice of inputs whose contents it must know.

use crate::{Kind, Role, lookup};
use engine_format::{Attr, Block, Node};

/// What a value's contents decide, directly or through other values. Both may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// They flow into arithmetic, and so into an output.
    pub data: bool,
    /// They decide shapes, axes or control.
    pub shape: bool,
    /// They decide which elements are read.
    pub index: bool,
}

impl Demand {
    fn join(&mut self, other: Demand) {
        self.data |= other.data;
        self.shape |= other.shape;
        self.index |= other.index;
    }
}

/// The demand on every value of `blocks` (in the order in which they run), given that the last one's outputs are results.
pub fn demands(values: usize, blocks: &[&Block]) -> Vec<Demand> {
    let mut demand = vec![Demand::default(); values];
    if let Some(last) = blocks.last() {
        let data = Demand { data: true, ..Demand::default() };
        last.outputs.iter().for_each(|v| demand[v.index()].join(data));
    }
    for block in blocks.iter().rev() {
        visit_block(&mut demand, block);
    }
    demand
}

fn visit_block(demand: &mut [Demand], block: &Block) {
    for node in block.nodes.iter().rev() {
        visit_node(demand, node);
    }
}

fn visit_node(demand: &mut [Demand], node: &Node) {
    let mut wanted = Demand::default();
    node.outputs.iter().flatten().for_each(|v| wanted.join(demand[v.index()]));
    let def = lookup(&node.op, node.version);
    for attr in node.attrs.values() {
        if let Attr::Block(inner) = attr {
            // A branch's results are the node's results; a loop also feeds them back to its own
            // parameters, so its body is visited until nothing changes.
            inner.outputs.iter().for_each(|v| demand[v.index()].join(wanted));
            loop {
                let before: Vec<Demand> = inner.inputs.iter().map(|v| demand[v.index()]).collect();
                visit_block(demand, inner);
                let mut carried = wanted;
                inner.inputs.iter().for_each(|v| carried.join(demand[v.index()]));
                let after: Vec<Demand> = inner.inputs.iter().map(|v| demand[v.index()]).collect();
                if before == after {
                    break;
                }
                inner.outputs.iter().for_each(|v| demand[v.index()].join(carried));
                wanted.join(carried);
            }
        }
    }
    for (i, input) in node.inputs.iter().enumerate() {
        let Some(input) = input else { continue };
        let role = def.and_then(|d| d.operand(i)).map_or(Role::Data, |o| o.role);
        let control = def.is_some_and(|d| d.kind == Kind::Control);
        demand[input.index()].join(match role {
            Role::Data => wanted,
            Role::Shape => Demand { shape: true, data: false, index: false },
            Role::Index if control => wanted,
            Role::Index => Demand { index: true, data: false, shape: false },
            Role::Type => Demand::default(),
        });
    }
}
