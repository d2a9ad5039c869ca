//! What passes that rewrite one node at a time share: who makes and reads a value, new nodes in place of an old one.

use super::prepare::weight_only;
use crate::error::BuildError;
use crate::graph::{Constant, Graph, blocks, blocks_mut, for_each_use};
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, Node, Tensor, ValueId};
use engine_ops::{Kind, OpDef, OpName, lookup};
use std::collections::{BTreeMap, BTreeSet};

/// The nodes of one program or block, and who makes and reads what.
pub(super) struct UseDef<'a> {
    nodes: &'a [Node],
    producers: BTreeMap<ValueId, usize>,
    /// A node is listed once for each time that it, or a block in it, reads the value.
    consumers: BTreeMap<ValueId, Vec<usize>>,
    /// Results of the block.
    results: BTreeSet<ValueId>,
    constant: &'a BTreeSet<ValueId>,
}

impl<'a> UseDef<'a> {
    pub(super) fn new(
        nodes: &'a [Node],
        results: &[ValueId],
        constant: &'a BTreeSet<ValueId>,
    ) -> Self {
        let (mut producers, mut consumers) = (BTreeMap::new(), BTreeMap::<_, Vec<_>>::new());
        for (i, node) in nodes.iter().enumerate() {
            producers.extend(node.outputs.iter().flatten().map(|&id| (id, i)));
            for_each_use(node, &mut |id| consumers.entry(id).or_default().push(i));
        }
        Self { nodes, producers, consumers, results: results.iter().copied().collect(), constant }
    }

    /// The node of this block that gives `id`.
    pub(super) fn producer(&self, id: ValueId) -> Option<&'a Node> {
        self.producers.get(&id).map(|&i| &self.nodes[i])
    }

    /// As [`Self::producer`], if its operator is one of `ops` and it gives nothing else.
    pub(super) fn made_by(&self, id: ValueId, ops: &[OpName<'_>]) -> Option<&'a Node> {
        self.producer(id).filter(|node| ops.contains(&OpName::of(node)) && node.outputs.len() == 1)
    }

    /// The one node of this block that reads `id`, if it reads it as one operand and nothing else reads it.
    pub(super) fn only_reader(&self, id: ValueId) -> Option<(usize, &'a Node)> {
        match self.consumers.get(&id).map(Vec::as_slice) {
            Some(&[i]) if !self.results.contains(&id) => {
                let node = &self.nodes[i];
                node.inputs.contains(&Some(id)).then_some((i, node))
            }
            _ => None,
        }
    }

    /// The nodes of this block that read `id`, themselves or in their own blocks.
    pub(super) fn consumers(&self, id: ValueId) -> impl Iterator<Item = &'a Node> {
        self.consumers.get(&id).into_iter().flatten().map(|&i| &self.nodes[i])
    }

    /// Whether a value, or what elementwise operators make of it, is rounded to whole numbers or to codes of few bits. Its last bit may
    /// decide then which one it becomes, and nothing that it comes from may be calculated in another order.
    pub(super) fn is_rounded(&self, graph: &Graph, id: ValueId) -> bool {
        let (mut open, mut seen) = (vec![id], BTreeSet::from([id]));
        while let Some(id) = open.pop() {
            for node in self.consumers(id) {
                // What a block does to the value is not followed, only whether it rounds anything.
                let has_blocks = blocks(node).next().is_some();
                if rounds(graph, node) || blocks(node).any(|block| any_rounds(graph, &block.nodes))
                {
                    return true;
                }
                let results = node.outputs.iter().flatten().copied();
                let results = results.take(if has_blocks { usize::MAX } else { 1 });
                if has_blocks || goes_through(node) {
                    open.extend(results.filter(|&result| seen.insert(result)));
                }
            }
        }
        false
    }

    /// The one of some nodes of this block that runs first.
    pub(super) fn first_of<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Option<&'n Node> {
        let place = |node: &&Node| {
            let result = node.outputs.iter().flatten().next();
            result.and_then(|id| self.producers.get(id)).copied()
        };
        nodes.min_by_key(place)
    }

    /// Whether the block gives the value.
    pub(super) fn is_result(&self, id: ValueId) -> bool {
        self.results.contains(&id)
    }

    /// Whether no run changes the value.
    pub(super) fn is_constant(&self, id: ValueId) -> bool {
        self.constant.contains(&id)
    }

    /// Operand `i` of a node.
    pub(super) fn operand(node: &Node, i: usize) -> Option<ValueId> {
        node.inputs.get(i).copied().flatten()
    }
}

/// Whether a node makes whole numbers or codes of each of its elements.
fn rounds(graph: &Graph, node: &Node) -> bool {
    let is_float = |id: Option<ValueId>| id.is_some_and(|id| graph.facts(id).dtype.is_float());
    let first = |ids: &[Option<ValueId>]| ids.first().copied().flatten();
    let narrows = is_float(first(&node.inputs)) && !is_float(first(&node.outputs));
    goes_through(node) && (ROUNDING.contains(&OpName::of(node)) || narrows)
}

/// Whether one of these nodes, or of those in their blocks, [`rounds`].
fn any_rounds(graph: &Graph, nodes: &[Node]) -> bool {
    let inner = |node| blocks(node).any(|block| any_rounds(graph, &block.nodes));
    nodes.iter().any(|node| rounds(graph, node) || inner(node))
}

/// Operators that round floats to whole numbers.
const ROUNDING: [OpName<'_>; 3] = [op::Ceil, op::Floor, op::Round];

/// Operators of several operands that give an element for each element.
const ELEMENTWISE: [OpName<'_>; 11] = [
    op::Add,
    op::Cast,
    op::CastLike,
    op::Clip,
    op::Div,
    op::Max,
    op::Min,
    op::Mod,
    op::Mul,
    op::PRelu,
    op::Sub,
];

/// Whether each element of a result is one of the first operand, moved or changed.
fn goes_through(node: &Node) -> bool {
    let moves = |def: &OpDef| matches!(def.kind, Kind::Move | Kind::View) || def.function.is_some();
    ELEMENTWISE.contains(&OpName::of(node)) || lookup(&node.op, node.version).is_some_and(moves)
}

/// Writes nodes that take the place of one node.
pub(super) struct Rewriter<'g> {
    pub(super) graph: &'g mut Graph,
    /// Path of the node that is replaced.
    path: String,
    /// Begins the names of new values.
    stem: String,
    nodes: Vec<Node>,
}

impl<'g> Rewriter<'g> {
    /// New nodes in place of `root`.
    pub(super) fn at(graph: &'g mut Graph, root: &Node) -> Self {
        let first = root.outputs.iter().flatten().next();
        let stem = first.map_or_else(|| root.name.clone(), |&id| graph.value(id).name.clone());
        Self { graph, path: root.name.clone(), stem, nodes: Vec::new() }
    }

    /// A literal called `name` within the stem.
    pub(super) fn literal(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_constant(format!("{}.{name}", self.stem), Constant::literal(tensor))
    }

    /// A literal vector of integers.
    pub(super) fn ints(&mut self, name: &str, values: &[i64]) -> ValueId {
        self.literal(name, Tensor::from_slice(&[values.len()], values))
    }

    /// A node that gives a new value called `name` within the stem.
    pub(super) fn node(
        &mut self,
        name: &str,
        op: OpName<'_>,
        inputs: &[ValueId],
        attrs: &[(&str, Attr)],
    ) -> ValueId {
        let given = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone()));
        self.with_attrs(name, op, inputs, &given.collect())
    }

    /// As [`Self::node`], with attributes as they stand in a node.
    pub(super) fn with_attrs(
        &mut self,
        name: &str,
        op: OpName<'_>,
        inputs: &[ValueId],
        attrs: &Attrs,
    ) -> ValueId {
        let facts = inputs
            .first()
            .map(|&id| engine_ops::infer::Facts { value: None, ..self.graph.facts(id).clone() });
        let facts = facts.expect("nodes that passes write have operands");
        let result = self.graph.add_value(format!("{}.{name}", self.stem), facts);
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        self.push(op, inputs, attrs.clone(), vec![Some(result)]);
        result
    }

    /// The node that gives what the replaced one gave.
    pub(super) fn last(
        self,
        op: OpName<'_>,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        root: &Node,
    ) -> Vec<Node> {
        self.last_to(op, inputs, attrs, root.outputs.clone())
    }

    /// The node that gives what several replaced ones gave.
    pub(super) fn last_to(
        mut self,
        op: OpName<'_>,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        results: Vec<Option<ValueId>>,
    ) -> Vec<Node> {
        self.push(op, inputs, attrs, results);
        self.nodes
    }

    fn push(
        &mut self,
        op: OpName<'_>,
        mut inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        outputs: Vec<Option<ValueId>>,
    ) {
        let def = op.def().expect("nodes are of operators of the table");
        let attrs = def.normalise(attrs).expect("passes write attributes that the table takes");
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        self.nodes.push(Node {
            op: op.as_str().to_owned(),
            version: def.version,
            name: self.path.clone(),
            inputs,
            outputs,
            attrs,
        });
    }
}

/// Looks at one node of a block; gives the nodes that take its place. What they make unnecessary is swept up.
pub(super) type Rule = fn(&mut Graph, &UseDef<'_>, &Node, &mut Notes) -> Option<Vec<Node>>;

/// Applies `rule` to every node of `execute`, in nested blocks too, in order.
pub(super) fn rewrite(
    graph: &mut Graph,
    notes: &mut Notes,
    rule: Rule,
) -> Result<bool, BuildError> {
    let constant = weight_only(graph);
    let results: Vec<ValueId> = graph.outputs.iter().map(|output| output.value).collect();
    let nodes = std::mem::take(&mut graph.execute);
    let (nodes, changed) = rewrite_list(graph, nodes, &results, &constant, notes, rule);
    graph.execute = nodes;
    if changed {
        super::dead::run(graph, &mut Notes::default())?;
    }
    Ok(changed)
}

fn rewrite_list(
    graph: &mut Graph,
    mut nodes: Vec<Node>,
    results: &[ValueId],
    constant: &BTreeSet<ValueId>,
    notes: &mut Notes,
    rule: Rule,
) -> (Vec<Node>, bool) {
    let mut changed = false;
    for block in nodes.iter_mut().flat_map(blocks_mut) {
        let inner = std::mem::take(&mut block.nodes);
        let (inner, inside) = rewrite_list(graph, inner, &block.outputs, constant, notes, rule);
        block.nodes = inner;
        changed |= inside;
    }
    let use_def = UseDef::new(&nodes, results, constant);
    let replaced: Vec<Option<Vec<Node>>> =
        nodes.iter().map(|node| rule(graph, &use_def, node, notes)).collect();
    changed |= replaced.iter().any(Option::is_some);
    let kept = nodes.into_iter().zip(replaced);
    (kept.flat_map(|(node, new)| new.unwrap_or_else(|| vec![node])).collect(), changed)
}
