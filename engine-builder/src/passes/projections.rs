//! Joins the projections of one value, such as the queries, keys and values of attention, into one product: their weights and
//! addends are joined at refit, the result is split.
//!
//! A product of many columns keeps threads and tiles busy where each of its parts would not. Wide ones do by themselves, and their
//! weights would be kept, and written at every refit, a second time. It pays where what is split is
//! then brought under other axes anyway; what goes into an elementwise operator stays a product of its own, which takes that
//! operator as a stage. Runs after `prepare`, so that all weights are there where the first projection is.

use super::product::with_constant;
use super::transposes::axes;
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, ValueId};
use engine_ops::OpName;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

/// Most columns of a projection that is joined.
const NARROW: usize = 512;

/// A product of a value with a weight, and its addend.
struct Projection<'a> {
    /// The product, or the sum with the addend: what gives the result.
    root: &'a Node,
    weight: ValueId,
    columns: usize,
    addend: Option<ValueId>,
}

impl<'a> Projection<'a> {
    /// The projection of `x` that `product` is.
    fn of(graph: &Graph, use_def: &UseDef<'a>, x: ValueId, product: &'a Node) -> Option<Self> {
        let weight = UseDef::operand(product, 1)?;
        let takes = OpName::of(product) == op::MatMul
            && UseDef::operand(product, 0) == Some(x)
            && prepared(use_def, weight)
            && graph.facts(weight).dtype == DType::F32;
        let &[_, columns] = graph.facts(weight).concrete().filter(|_| takes)?.as_slice() else {
            return None;
        };
        if columns > NARROW {
            return None;
        }
        let (_, reader) = use_def.only_reader(product.outputs[0]?)?;
        let addend = with_constant(use_def, reader, &[op::Add]).map(|(_, addend)| addend);
        let fits = |&id: &ValueId| {
            prepared(use_def, id) && graph.facts(id).concrete().as_deref() == Some(&[columns])
        };
        let addend = addend.filter(fits);
        let root = if addend.is_some() { reader } else { product };
        let (_, reader) = use_def.only_reader(root.outputs[0]?)?;
        let moves = [op::Reshape, op::Transpose].contains(&OpName::of(reader));
        moves.then_some(Self { root, weight, columns, addend })
    }
}

/// Whether a value is there before the first node runs.
fn prepared(use_def: &UseDef<'_>, id: ValueId) -> bool {
    use_def.is_constant(id) && use_def.producer(id).is_none()
}

/// What a weight is the transposition of, where that runs at refit.
fn transposed(graph: &Graph, weight: ValueId) -> Option<ValueId> {
    let node = graph.prepare.iter().find(|node| node.outputs.contains(&Some(weight)))?;
    let transposes = OpName::of(node) == op::Transpose && axes(graph, node)? == [1, 0];
    UseDef::operand(node, 0).filter(|_| transposes)
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let product = match OpName::of(root) {
        op::MatMul => root,
        op::Add => use_def.made_by(with_constant(use_def, root, &[op::Add])?.0, &[op::MatMul])?,
        _ => return None,
    };
    let x = UseDef::operand(product, 0).filter(|&x| !use_def.is_constant(x))?;
    let own = Projection::of(graph, use_def, x, product)
        .filter(|own| own.root.outputs == root.outputs)?;
    let all: Vec<Projection<'_>> = use_def
        .consumers(x)
        .filter_map(|product| Projection::of(graph, use_def, x, product))
        .filter(|other| other.addend.is_some() == own.addend.is_some())
        .collect();
    if all.len() < 2 {
        return None;
    }
    // The first one stands for all: what it reads is there, and nothing reads the others before.
    let first = use_def.first_of(all.iter().map(|one| one.root))?;
    if first.outputs != root.outputs {
        return Some(Vec::new());
    }
    let names: Vec<&str> = all.iter().map(|one| one.root.name.as_str()).collect();
    notes.done(&root.name, format!("one product for {}", names.join(", ")));
    let rank = graph.facts(x).shape.as_ref()?.len() as i64;
    // Rows of matrices that a product reads transposed lie behind one another.
    let transposed: Option<Vec<ValueId>> =
        all.iter().map(|one| transposed(graph, one.weight)).collect();
    let mut rewriter = Rewriter::at(graph, root);
    let joined = |rewriter: &mut Rewriter<'_>, name, parts: Vec<ValueId>, axis| {
        rewriter.node(name, op::Concat, &parts, &[("axis", Attr::Int(axis))])
    };
    let weight = match transposed {
        Some(rows) => {
            let rows = joined(&mut rewriter, "rows", rows, 0);
            rewriter.node("weights", op::Transpose, &[rows], &[("perm", Attr::Ints(vec![1, 0]))])
        }
        None => joined(&mut rewriter, "weights", all.iter().map(|one| one.weight).collect(), 1),
    };
    let mut y = rewriter.node("joined", op::MatMul, &[x, weight], &[]);
    if own.addend.is_some() {
        let addends = all.iter().filter_map(|one| one.addend).collect();
        let addend = joined(&mut rewriter, "addends", addends, 0);
        y = rewriter.node("sum", op::Add, &[y, addend], &[]);
    }
    let columns: Vec<i64> = all.iter().map(|one| one.columns as i64).collect();
    let columns = rewriter.ints("columns", &columns);
    let attrs: Attrs = [("axis".to_owned(), Attr::Int(rank - 1))].into();
    let results = all.iter().map(|one| one.root.outputs[0]).collect();
    Some(rewriter.last_to(op::Split, vec![Some(y), Some(columns)], attrs, results))
}
