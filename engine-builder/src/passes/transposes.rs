//! Makes one transposition of two, one reshape of two views, one transposition of three nodes that transpose the matrices of a
//! batch, and takes the transposition of a matrix into Gemm.

use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Node, ValueId};
use engine_ops::{AttrsExt, OpName};

/// Operators that give their operand's bytes under another shape.
const VIEWS: [OpName<'_>; 4] = [op::Reshape, op::Squeeze, op::Unsqueeze, op::Flatten];

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    match OpName::of(root) {
        op::Transpose => twice(graph, use_def, root, notes),
        op::Reshape => {
            matrices(graph, use_def, root, notes).or_else(|| reshape(graph, use_def, root, notes))
        }
        op::Gemm => into_gemm(graph, use_def, root, notes),
        _ => None,
    }
}

/// The axes of a transposition; without an attribute they are reversed.
pub(super) fn axes(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    match node.attrs.ints("perm") {
        Some(perm) => perm.iter().map(|&axis| usize::try_from(axis).ok()).collect(),
        None => {
            let x = UseDef::operand(node, 0)?;
            Some((0..graph.facts(x).shape.as_ref()?.len()).rev().collect())
        }
    }
}

fn twice(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let first = use_def.made_by(UseDef::operand(root, 0)?, &[op::Transpose])?;
    let (inner, outer) = (axes(graph, first)?, axes(graph, root)?);
    let both: Option<Vec<i64>> =
        outer.iter().map(|&axis| inner.get(axis).map(|&axis| axis as i64)).collect();
    notes.done(&root.name, format!("one transposition with {}", first.name));
    let attrs = [("perm".to_owned(), Attr::Ints(both?))].into();
    let inputs = vec![first.inputs[0]];
    Some(Rewriter::at(graph, root).last(op::Transpose, inputs, attrs, root))
}

fn reshape(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let first = use_def.made_by(UseDef::operand(root, 0)?, &VIEWS)?;
    let target = graph.known_tensor(UseDef::operand(root, 1)?)?.to_i64s()?;
    if target.contains(&0) {
        notes.kept(&root.name, format!("copies a size of what {} gives", first.name));
        return None;
    }
    notes.done(&root.name, format!("views what {} views", first.name));
    let inputs = vec![first.inputs[0], root.inputs[1]];
    Some(Rewriter::at(graph, root).last(op::Reshape, inputs, root.attrs.clone(), root))
}

/// A batch of matrices under one leading axis, transposed, and brought back under the axes that it had.
fn matrices(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let transpose = use_def.made_by(UseDef::operand(root, 0)?, &[op::Transpose])?;
    let flat = UseDef::operand(transpose, 0)?;
    let x = UseDef::operand(use_def.made_by(flat, &VIEWS)?, 0)?;
    let shape = |id: ValueId| graph.facts(id).shape.as_deref();
    let ([lead @ .., rows, columns], [_, flat_rows, flat_columns]) = (shape(x)?, shape(flat)?)
    else {
        return None;
    };
    let back = [lead, &[columns.clone(), rows.clone()]].concat();
    let kept =
        (rows, columns) == (flat_rows, flat_columns) && shape(*root.outputs[0].as_ref()?)? == back;
    if !kept || lead.is_empty() || axes(graph, transpose)? != [0, 2, 1] {
        return None;
    }
    let rank = back.len() as i64;
    let mut perm: Vec<i64> = (0..rank).collect();
    perm.swap(back.len() - 2, back.len() - 1);
    notes.done(&root.name, format!("one transposition with {}", transpose.name));
    let attrs = [("perm".to_owned(), Attr::Ints(perm))].into();
    Some(Rewriter::at(graph, root).last(op::Transpose, vec![Some(x)], attrs, root))
}

fn into_gemm(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let (mut inputs, mut attrs) = (root.inputs.clone(), root.attrs.clone());
    let mut taken = false;
    for (i, name) in ["transA", "transB"].into_iter().enumerate() {
        let Some(transposed) = transposed(use_def, UseDef::operand(root, i)?) else { continue };
        inputs[i] = Some(transposed);
        attrs.insert(name.to_owned(), Attr::Int(1 - attrs.int(name)));
        taken = true;
    }
    taken.then(|| {
        notes.done(&root.name, "reads an operand transposed");
        Rewriter::at(graph, root).last(op::Gemm, inputs, attrs, root)
    })
}

/// What `id` is the transposition of.
fn transposed(use_def: &UseDef<'_>, id: ValueId) -> Option<ValueId> {
    UseDef::operand(use_def.made_by(id, &[op::Transpose])?, 0)
}
