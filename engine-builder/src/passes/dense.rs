//! Makes a Gemm whose rows are brought under more axes a MatMul over these axes, with its addend as an Add after it.
//!
//! Exporters flatten what a layer reads and bring back the axes of what it gives. Between two views the layer's activation and
//! the residual have another shape than its product, and could not become stages of it.

use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Dim, Node, ValueId};
use engine_ops::{AttrsExt, OpName};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if OpName::of(root) != op::Reshape {
        return None;
    }
    let product = UseDef::operand(root, 0)?;
    let gemm = use_def.made_by(product, &[op::Gemm])?;
    let (rows, weight) = (UseDef::operand(gemm, 0)?, UseDef::operand(gemm, 1)?);
    let result = graph.facts(root.outputs[0]?).shape.as_ref()?;
    let (columns, lead) = result.split_last()?;
    let depth = graph.facts(rows).shape.as_ref()?.get(1)?.known()?;
    let same_columns = graph.facts(product).shape.as_ref()?.get(1) == Some(columns);
    let plain = ["alpha", "beta"].iter().all(|name| gemm.attrs.float(name) == 1.0);
    let addend = UseDef::operand(gemm, 2);
    if lead.len() < 2
        || !same_columns
        || !plain
        || gemm.attrs.int("transA") != 0
        || !use_def.is_constant(weight)
        || columns.known().is_none()
        || graph.facts(product).dtype != DType::F32
        || addend.is_some_and(|id| !is_row(graph, id))
        || copies(graph, root)
    {
        return None;
    }
    if use_def.only_reader(product).is_none() {
        notes.kept(&root.name, format!("{} is read elsewhere too", graph.value(product).name));
        return None;
    }
    let wanted = [lead, &[Dim::from(depth)]].concat();
    let unflattened = flattened(graph, use_def, rows, &wanted);
    let mut rewriter = Rewriter::at(graph, root);
    let x = match unflattened {
        Some(x) => x,
        None => {
            let target = UseDef::operand(root, 1)?;
            let [from, to, depth] = [("first", 0), ("last", -1), ("depth", depth)]
                .map(|(name, n)| rewriter.ints(name, &[n]));
            let lead = rewriter.node("lead", op::Slice, &[target, from, to], &[]);
            let axis = [("axis", Attr::Int(0))];
            let target = rewriter.node("target", op::Concat, &[lead, depth], &axis);
            let zero = Attr::Int(root.attrs.int("allowzero"));
            rewriter.node("rows", op::Reshape, &[rows, target], &[("allowzero", zero)])
        }
    };
    let weight = match gemm.attrs.int("transB") {
        0 => weight,
        _ => rewriter.node("weight", op::Transpose, &[weight], &[("perm", Attr::Ints(vec![1, 0]))]),
    };
    notes.done(&root.name, format!("{} over its axes, not flattened", gemm.name));
    let Some(addend) = addend else {
        return Some(rewriter.last(op::MatMul, vec![Some(x), Some(weight)], Attrs::new(), root));
    };
    let product = rewriter.node("product", op::MatMul, &[x, weight], &[]);
    Some(rewriter.last(op::Add, vec![Some(product), Some(addend)], Attrs::new(), root))
}

/// Whether an addend is the same for all rows.
fn is_row(graph: &Graph, id: ValueId) -> bool {
    match graph.facts(id).shape.as_deref() {
        Some([] | [_]) => true,
        Some([rows, _]) => rows.known() == Some(1),
        _ => false,
    }
}

/// Whether a Reshape copies a size of its operand.
fn copies(graph: &Graph, node: &Node) -> bool {
    let target = UseDef::operand(node, 1).and_then(|id| graph.known_tensor(id));
    let zero = target.and_then(|target| Some(target.to_i64s()?.contains(&0)));
    node.attrs.int("allowzero") == 0 && zero == Some(true)
}

/// What `rows` is a view of, if that has the shape `wanted`.
fn flattened(
    graph: &Graph,
    use_def: &UseDef<'_>,
    rows: ValueId,
    wanted: &[Dim],
) -> Option<ValueId> {
    let x = UseDef::operand(use_def.made_by(rows, &[op::Reshape, op::Flatten])?, 0)?;
    (graph.facts(x).shape.as_deref() == Some(wanted)).then_some(x)
}
