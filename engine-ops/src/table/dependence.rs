//! What values depend on: the forward analysis behind the classification of constants.

use crate::control::Ties;
use crate::{Kind, Role, lookup};
use engine_format::{Attr, Block, Node, ValueId};

/// What a value's contents are computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependence {
    /// The contents of inputs, or chance.
    pub inputs: bool,
    /// The shapes of what depends on inputs.
    pub shapes: bool,
    /// The contents of weights.
    pub weights: bool,
    /// Inputs or their shapes, over an operator that is not elementwise: a product, a reduction.
    pub combined: bool,
}

impl Dependence {
    /// Whether it is known before inputs and weights are there, given shapes.
    pub fn is_planned(self) -> bool {
        !self.inputs && !self.weights
    }

    /// Whether no run changes it.
    pub fn is_constant(self) -> bool {
        !self.inputs && !self.shapes
    }

    /// Whether a run makes it of inputs or shapes by elementwise functions alone, without weights: a picture that is scaled
    /// and shifted before anything learned looks at it.
    pub fn is_raw(self) -> bool {
        !self.is_constant() && !self.weights && !self.combined
    }

    fn join(&mut self, other: Self) {
        self.inputs |= other.inputs;
        self.shapes |= other.shapes;
        self.weights |= other.weights;
        self.combined |= other.combined;
    }
}

/// Follows the nodes of `block` and of the blocks in it, and adds to `known`, which says by value what inputs and constants stand
/// for, what every other value depends on.
pub fn follow(known: &mut [Dependence], block: &Block) {
    block.nodes.iter().for_each(|node| follow_node(known, node));
}

/// The operands whose contents a node reads, not only their types.
pub fn contents(node: &Node) -> impl Iterator<Item = ValueId> {
    operands(node).filter(|(_, role)| *role != Role::Type).map(|(v, _)| v)
}

fn operands(node: &Node) -> impl Iterator<Item = (ValueId, Role)> {
    let def = lookup(&node.op, node.version);
    let role = move |i| def.and_then(|def| def.operand(i)).map_or(Role::Data, |o| o.role);
    let operands = node.inputs.iter().enumerate();
    operands.filter_map(move |(i, input)| Some(((*input)?, role(i))))
}

fn follow_node(known: &mut [Dependence], node: &Node) {
    let def = lookup(&node.op, node.version);
    let chance = def.is_some_and(|def| def.random);
    let mut all = Dependence { inputs: chance, ..Dependence::default() };
    contents(node).for_each(|v| all.join(known[v.index()]));
    let combines = def.is_some_and(|def| def.kind == Kind::Compute && !def.elementwise);
    all.combined |= combines && !all.is_constant();
    let mut types = operands(node).filter(|(_, role)| *role == Role::Type);
    all.shapes |= types.any(|(v, _)| !known[v.index()].is_constant());
    match Ties::of_node(node) {
        Some((ties, body)) => follow_repeated(known, node, &ties, body, all),
        None => follow_branches(known, node, all),
    }
}

/// A result may be any branch's, and which one it is depends on the node's operands.
fn follow_branches(known: &mut [Dependence], node: &Node, all: Dependence) {
    let branches = node.attrs.values().filter_map(|attr| match attr {
        Attr::Block(block) => Some(block),
        _ => None,
    });
    let branches: Vec<&Block> = branches.collect();
    branches.iter().for_each(|branch| follow(known, branch));
    for (i, output) in node.outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        let given = branches.iter().filter_map(|branch| branch.outputs.get(i));
        let mut result = all;
        given.for_each(|v| result.join(known[v.index()]));
        known[output.index()].join(result);
    }
}

/// A carried value is what it begins with or what an iteration gives, so the block is followed until nothing changes. How many
/// iterations there are depends on the operands before the carried ones, and on the condition.
fn follow_repeated(
    known: &mut [Dependence],
    node: &Node,
    ties: &Ties,
    body: &Block,
    all: Dependence,
) {
    let operand = |known: &[Dependence], i: usize| {
        node.inputs.get(i).copied().flatten().map_or(Dependence::default(), |v| known[v.index()])
    };
    let mut count = Dependence::default();
    (0..ties.first_operand).for_each(|i| count.join(operand(known, i)));
    for (i, parameter) in body.inputs.iter().enumerate() {
        let begins = match i.checked_sub(ties.first_parameter) {
            Some(tied) => operand(known, ties.first_operand + tied),
            None => count,
        };
        known[parameter.index()].join(begins);
    }
    loop {
        let before: Vec<Dependence> = body.inputs.iter().map(|v| known[v.index()]).collect();
        follow(known, body);
        for tied in 0..ties.carried {
            let result = known[body.outputs[ties.first_result + tied].index()];
            known[body.inputs[ties.first_parameter + tied].index()].join(result);
        }
        if body.inputs.iter().map(|v| known[v.index()]).eq(before) {
            break;
        }
    }
    let conditions = &body.outputs[..ties.first_result];
    conditions.iter().for_each(|v| count.join(known[v.index()]));
    for (i, output) in node.outputs.iter().enumerate() {
        let Some(output) = output else { continue };
        let mut result = count;
        result.join(known[body.outputs[ties.first_result + i].index()]);
        if i < ties.carried {
            result.join(operand(known, ties.first_operand + i));
        }
        // The operands that are cut decide how often the block runs.
        if ties.cut > 0 {
            result.join(all);
        }
        known[output.index()].join(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TABLE;
    use engine_format::Attrs;

    const NONE: Dependence =
        Dependence { inputs: false, shapes: false, weights: false, combined: false };
    const INPUT: Dependence = Dependence { inputs: true, ..NONE };
    const WEIGHT: Dependence = Dependence { weights: true, ..NONE };

    fn ids(ids: &[u32]) -> Vec<ValueId> {
        ids.iter().copied().map(ValueId).collect()
    }

    fn node(op: &str, inputs: &[u32], outputs: &[u32], attrs: Attrs) -> Node {
        let def = TABLE.iter().find(|def| def.name == op).unwrap();
        let some = |given: &[u32]| ids(given).into_iter().map(Some).collect();
        let attrs = def.normalise(attrs).unwrap();
        let (inputs, outputs) = (some(inputs), some(outputs));
        Node { op: op.into(), version: def.version, name: op.into(), inputs, outputs, attrs }
    }

    fn followed(nodes: Vec<Node>, known: &[(u32, Dependence)]) -> Vec<Dependence> {
        let mut all = vec![Dependence::default(); 32];
        known.iter().for_each(|&(v, d)| all[v as usize] = d);
        follow(&mut all, &Block { nodes, ..Block::default() });
        all
    }

    #[test]
    fn shapes_are_no_contents_and_chance_is_an_input() {
        let nodes = vec![
            node("Shape", &[0], &[2], Attrs::new()),
            node("Cast", &[2], &[3], Attrs::from([("to".to_owned(), Attr::Int(1))])),
            node("Mul", &[0, 1], &[4], Attrs::new()),
            node("RandomUniform", &[2], &[5], Attrs::new()),
            node("Shape", &[1], &[6], Attrs::new()),
        ];
        let found = followed(nodes, &[(0, INPUT), (1, WEIGHT)]);
        assert_eq!([found[2], found[3]], [Dependence { shapes: true, ..NONE }; 2]);
        assert!(found[3].is_planned() && found[3].is_raw() && !found[3].is_constant());
        assert_eq!(found[4], Dependence { inputs: true, weights: true, ..NONE });
        assert!(found[5].inputs);
        assert_eq!(found[6], NONE, "no run changes the shape of a weight");
    }

    #[test]
    fn elementwise_functions_and_moves_leave_an_input_raw() {
        let nodes = vec![
            node("Cast", &[0], &[2], Attrs::from([("to".to_owned(), Attr::Int(1))])),
            node("Sub", &[2, 1], &[3], Attrs::new()),
            node("Transpose", &[3], &[4], Attrs::new()),
            node("ReduceMax", &[4], &[5], Attrs::new()),
            node("Div", &[4, 5], &[6], Attrs::new()),
            node("MatMul", &[1, 1], &[7], Attrs::new()),
        ];
        let found = followed(nodes, &[(0, INPUT)]);
        assert!((2..=4).all(|v| found[v].is_raw()));
        assert!(!found[5].is_raw() && !found[6].is_raw());
        assert!(found[7].is_constant() && !found[7].combined);
    }

    #[test]
    fn a_branch_depends_on_its_condition_too() {
        let branch = |v| Attr::Block(Block { outputs: ids(&[v]), ..Block::default() });
        let attrs = Attrs::from([
            ("then_branch".to_owned(), branch(1)),
            ("else_branch".to_owned(), branch(2)),
        ]);
        let choice = vec![node("If", &[0], &[3], attrs)];
        assert_eq!(followed(choice.clone(), &[])[3], NONE);
        assert_eq!(followed(choice.clone(), &[(0, INPUT)])[3], INPUT);
        assert_eq!(followed(choice, &[(2, WEIGHT)])[3], WEIGHT);
    }

    /// `a` becomes what `b` was, and `b` what is computed from a weight.
    #[test]
    fn carried_values_are_followed_to_the_end() {
        let [m, cond, a, b, iter, go, a1, b1, next] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        let body = Block {
            inputs: ids(&[iter, go, a1, b1]),
            nodes: vec![node("Add", &[b1, 20], &[next], Attrs::new())],
            outputs: ids(&[go, b1, next, iter]),
        };
        let attrs = Attrs::from([("body".to_owned(), Attr::Block(body))]);
        let repeat = vec![node("Loop", &[m, cond, a, b], &[9, 10, 11], attrs)];
        let found = followed(repeat.clone(), &[(20, WEIGHT)]);
        assert_eq!([found[9], found[10]], [WEIGHT; 2]);
        assert_eq!(found[11], NONE, "the number of the iteration, stacked");
        let found = followed(repeat, &[(m, INPUT)]);
        assert_eq!([found[9], found[11], found[iter as usize]], [INPUT; 3], "how many there are");
    }
}
