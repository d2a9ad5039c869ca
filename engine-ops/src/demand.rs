//! What values decide: the backward analysis behind the classification of constants and behind the planner's
//! choice of inputs whose contents it must know.

use crate::control::Ties;
use crate::{Role, lookup};
use engine_format::{Attr, Block, Node};

/// What a value's contents decide, directly or through other values. Both may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// They flow into arithmetic, and so into an output.
    pub data: bool,
    /// They decide shapes or axes.
    pub shape: bool,
    /// They decide which branch runs, or how often a block is repeated.
    pub control: bool,
    /// They decide which elements are read.
    pub index: bool,
}

impl Demand {
    /// Whether what a run does depends on them, and not only what comes out.
    pub fn plans(self) -> bool {
        self.shape || self.control
    }

    fn join(&mut self, other: Demand) {
        self.data |= other.data;
        self.shape |= other.shape;
        self.control |= other.control;
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
    let repeated = Ties::of_node(node);
    match &repeated {
        Some((ties, body)) => visit_repeated(demand, node, ties, body),
        None => visit_branches(demand, node),
    }
    let def = lookup(&node.op, node.version);
    let runs_blocks = node.attrs.values().any(|attr| matches!(attr, Attr::Block(_)));
    let decides = if runs_blocks { CONTROL } else { SHAPE };
    for (i, input) in node.inputs.iter().enumerate() {
        let Some(input) = input else { continue };
        if let Some((ties, body)) = &repeated
            && let Some(tied) = i.checked_sub(ties.first_operand)
        {
            // Both are demanded: the value a loop begins with is its result where it never runs.
            let parameter = body.inputs[ties.first_parameter + tied];
            let result = node.outputs.get(tied).copied().flatten().filter(|_| tied < ties.carried);
            let own = [Some(parameter), result].into_iter().flatten();
            let all: Vec<Demand> = own.map(|v| demand[v.index()]).collect();
            all.into_iter().for_each(|d| demand[input.index()].join(d));
            continue;
        }
        let role = def.and_then(|d| d.operand(i)).map_or(Role::Data, |o| o.role);
        demand[input.index()].join(match role {
            Role::Data => wanted,
            Role::Shape => decides,
            Role::Index => Demand { index: true, ..Demand::default() },
            Role::Type => Demand::default(),
        });
    }
}

const SHAPE: Demand = Demand { shape: true, data: false, control: false, index: false };
const CONTROL: Demand = Demand { shape: false, control: true, ..SHAPE };

/// A branch's results are the node's.
fn visit_branches(demand: &mut [Demand], node: &Node) {
    for attr in node.attrs.values() {
        let Attr::Block(branch) = attr else { continue };
        for (inner, outer) in branch.outputs.iter().zip(&node.outputs) {
            let Some(outer) = outer else { continue };
            let wanted = demand[outer.index()];
            demand[inner.index()].join(wanted);
        }
        visit_block(demand, branch);
    }
}

/// What an iteration demands of a carried value, it demands of the result of the one before, so the block is visited until
/// nothing changes. What a condition decides is control.
fn visit_repeated(demand: &mut [Demand], node: &Node, ties: &Ties, body: &Block) {
    let results = &body.outputs[ties.first_result..];
    body.outputs[..ties.first_result].iter().for_each(|v| demand[v.index()].join(CONTROL));
    for (inner, outer) in results.iter().zip(&node.outputs) {
        let Some(outer) = outer else { continue };
        let wanted = demand[outer.index()];
        demand[inner.index()].join(wanted);
    }
    let carried = &body.inputs[ties.first_parameter..][..ties.carried];
    loop {
        let before: Vec<Demand> = carried.iter().map(|v| demand[v.index()]).collect();
        for (result, wanted) in results.iter().zip(&before) {
            demand[result.index()].join(*wanted);
        }
        visit_block(demand, body);
        if carried.iter().map(|v| demand[v.index()]).eq(before) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TABLE;
    use engine_format::{Attrs, ValueId};

    fn node(op: &str, inputs: &[u32], outputs: &[u32], attrs: Attrs) -> Node {
        let def = TABLE.iter().find(|def| def.name == op).unwrap();
        let ids = |ids: &[u32]| ids.iter().map(|&id| Some(ValueId(id))).collect();
        let (inputs, outputs) = (ids(inputs), ids(outputs));
        let attrs = def.normalise(attrs).unwrap();
        Node { op: op.into(), version: 1, name: op.into(), inputs, outputs, attrs }
    }

    fn ids(ids: &[u32]) -> Vec<ValueId> {
        ids.iter().copied().map(ValueId).collect()
    }

    /// `a, b, c` are carried; `b` becomes what `a` was, and `a` what `c` was; `b` decides a shape.
    #[test]
    fn demands_flow_through_carried_values_to_the_end() {
        let [m, cond, a, b, c, d] = [0, 1, 2, 3, 4, 5];
        let [iter, go, a1, b1, c1, d1] = [6, 7, 8, 9, 10, 11];
        let body = Block {
            inputs: ids(&[iter, go, a1, b1, c1, d1]),
            nodes: vec![node("Reshape", &[d1, b1], &[12], Attrs::new())],
            outputs: ids(&[go, c1, a1, c1, d1, 12]),
        };
        let attrs = Attrs::from([("body".to_owned(), Attr::Block(body))]);
        let repeat = node("Loop", &[m, cond, a, b, c, d], &[13, 14, 15, 16, 17], attrs);
        let execute = Block { inputs: ids(&[]), nodes: vec![repeat], outputs: ids(&[17]) };
        let demand = demands(18, &[&execute]);
        let of = |v: u32| (demand[v as usize].data, demand[v as usize].shape);
        for decides in [m, cond].map(|v| demand[v as usize]) {
            assert_eq!(decides, CONTROL);
        }
        assert_eq!([of(a), of(b), of(c)], [(false, true); 3], "after at most three iterations");
        assert_eq!(of(d), (true, false));
        assert_eq!(of(iter), (false, false));
    }

    #[test]
    fn branches_pass_on_what_each_result_is_for() {
        let branch =
            |outputs: &[u32]| Attr::Block(Block { outputs: ids(outputs), ..Block::default() });
        let attrs = Attrs::from([
            ("then_branch".to_owned(), branch(&[1, 2])),
            ("else_branch".to_owned(), branch(&[3, 4])),
        ]);
        let choice = node("If", &[0], &[5, 6], attrs);
        let shaped = node("Reshape", &[5, 6], &[7], Attrs::new());
        let execute = Block { inputs: ids(&[]), nodes: vec![choice, shaped], outputs: ids(&[7]) };
        let demand = demands(8, &[&execute]);
        let of = |v: usize| (demand[v].data, demand[v].shape);
        assert_eq!([of(1), of(3)], [(true, false); 2]);
        assert_eq!([of(2), of(4)], [(false, true); 2]);
    }
}
