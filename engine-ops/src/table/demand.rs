//! What values decide: the backward analysis behind the classification of constants and behind the planner's
//! choice of inputs whose contents it must know.

use crate::control::Ties;
use crate::{Role, lookup};
use engine_format::{Attr, Block, Node, ValueId};

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

    /// Whether they decide anything beside the values of results.
    pub fn decides(self) -> bool {
        self.plans() || self.index
    }

    /// What either demands.
    pub fn and(mut self, other: Demand) -> Demand {
        self.join(other);
        self
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
    demands_through(values, blocks, &|_| true)
}

/// As [`demands`], where a value is followed to what it is computed from only if `through` holds of it.
pub fn demands_through(
    values: usize,
    blocks: &[&Block],
    through: &dyn Fn(ValueId) -> bool,
) -> Vec<Demand> {
    let mut walk = Walk { demand: vec![Demand::default(); values], through };
    if let Some(last) = blocks.last() {
        let data = Demand { data: true, ..Demand::default() };
        last.outputs.iter().for_each(|&v| walk.add(v, data));
    }
    blocks.iter().rev().for_each(|block| walk.block(block));
    walk.demand
}

/// The demand found so far.
struct Walk<'a> {
    demand: Vec<Demand>,
    through: &'a dyn Fn(ValueId) -> bool,
}

impl Walk<'_> {
    fn add(&mut self, value: ValueId, demand: Demand) {
        self.demand[value.index()].join(demand);
    }

    /// What is demanded of what `value` is computed from.
    fn behind(&self, value: ValueId) -> Demand {
        if (self.through)(value) { self.demand[value.index()] } else { Demand::default() }
    }

    fn block(&mut self, block: &Block) {
        block.nodes.iter().rev().for_each(|node| self.node(node));
    }

    fn node(&mut self, node: &Node) {
        let mut wanted = Demand::default();
        node.outputs.iter().flatten().for_each(|&v| wanted.join(self.behind(v)));
        let repeated = Ties::of_node(node);
        match &repeated {
            Some((ties, body)) => self.repeated(node, ties, body),
            None => self.branches(node),
        }
        let def = lookup(&node.op, node.version);
        let runs_blocks = node.attrs.values().any(|attr| matches!(attr, Attr::Block(_)));
        let decides = if runs_blocks { CONTROL } else { SHAPE };
        for (i, input) in node.inputs.iter().enumerate() {
            let Some(input) = *input else { continue };
            if let Some((ties, body)) = &repeated
                && let Some(tied) = i.checked_sub(ties.first_operand)
            {
                // Both are demanded: the value a loop begins with is its result where it never runs.
                let parameter = body.inputs[ties.first_parameter + tied];
                let result = node.outputs.get(tied).copied().flatten();
                let result = result.filter(|_| tied < ties.carried);
                for own in [Some(parameter), result].into_iter().flatten() {
                    self.add(input, self.behind(own));
                }
                continue;
            }
            let role = def.and_then(|d| d.operand(i)).map_or(Role::Data, |o| o.role);
            let demand = match role {
                Role::Data => wanted,
                Role::Shape => decides,
                Role::Index => INDEX,
                Role::Type => Demand::default(),
            };
            self.add(input, demand);
        }
    }

    /// A branch's results are the node's.
    fn branches(&mut self, node: &Node) {
        for attr in node.attrs.values() {
            let Attr::Block(branch) = attr else { continue };
            for (&inner, outer) in branch.outputs.iter().zip(&node.outputs) {
                let Some(outer) = *outer else { continue };
                self.add(inner, self.behind(outer));
            }
            self.block(branch);
        }
    }

    /// What an iteration demands of a carried value, it demands of the result of the one before, so the block is visited until
    /// nothing changes. What a condition decides is control.
    fn repeated(&mut self, node: &Node, ties: &Ties, body: &Block) {
        let results = &body.outputs[ties.first_result..];
        body.outputs[..ties.first_result].iter().for_each(|&v| self.add(v, CONTROL));
        for (&inner, outer) in results.iter().zip(&node.outputs) {
            let Some(outer) = *outer else { continue };
            self.add(inner, self.behind(outer));
        }
        let carried = &body.inputs[ties.first_parameter..][..ties.carried];
        loop {
            let before: Vec<Demand> = carried.iter().map(|&v| self.behind(v)).collect();
            for (&result, &wanted) in results.iter().zip(&before) {
                self.add(result, wanted);
            }
            self.block(body);
            if carried.iter().map(|&v| self.behind(v)).eq(before) {
                return;
            }
        }
    }
}

const SHAPE: Demand = Demand { shape: true, data: false, control: false, index: false };
const CONTROL: Demand = Demand { shape: false, control: true, ..SHAPE };
const INDEX: Demand = Demand { shape: false, index: true, ..SHAPE };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TABLE;
    use engine_format::Attrs;

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

    /// Only what leads there over values that are followed is demanded.
    #[test]
    fn demand_stops_at_values_that_are_not_followed() {
        let nodes = vec![
            node("Mul", &[0, 1], &[2], Attrs::new()),
            node("Add", &[2, 3], &[4], Attrs::new()),
            node("Reshape", &[5, 4], &[6], Attrs::new()),
        ];
        let block = Block { nodes, outputs: ids(&[6]), ..Block::default() };
        let shapes = |through: &dyn Fn(ValueId) -> bool| {
            let demand = demands_through(7, &[&block], through);
            demand.iter().map(|d| u8::from(d.shape)).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&|_| true), [1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(shapes(&|v| v != ValueId(2)), [0, 0, 1, 1, 1, 0, 0], "the operand still counts");
        assert_eq!(shapes(&|v| v != ValueId(4)), [0, 0, 0, 0, 1, 0, 0]);
    }
}
