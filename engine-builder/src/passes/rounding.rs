//! Rounds the weights of products, convolutions and embeddings to floats of 16 bits, for engines of such a precision.
//!
//! What is rounded is the operand as the node reads it, after all that other passes made of the weight, so that a folded factor costs
//! no second rounding. The Cast runs at refit; the source weight stays what it is. Products take the rounded operand beside `f32`, rows
//! of an embedding are `f32` again once they were picked.

use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::import::attrs::element_number;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, ValueId};
use engine_ops::{AttrsExt, OpName, lookup};

pub(super) fn to_f16(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, |graph, use_def, root, notes| {
        rule(DType::F16, graph, use_def, root, notes)
    })
}

pub(super) fn to_bf16(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, |graph, use_def, root, notes| {
        rule(DType::BF16, graph, use_def, root, notes)
    })
}

fn rule(
    to: DType,
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let own = lookup(&root.op, root.version)?;
    // The fused rows are those that take halves beside `f32`; without stages they are the plain ones.
    let def = own.fused.unwrap_or(own);
    let embeds = OpName::of(root) == op::Gather;
    if embeds && !is_embedding(graph, root) {
        return None;
    }
    let at = (0..root.inputs.len()).find(|&i| def.operand(i).is_some_and(|it| it.halves))?;
    let weight = UseDef::operand(root, at)?;
    let floats = |id: ValueId| graph.facts(id).dtype == DType::F32;
    if !floats(weight) || !floats(UseDef::operand(root, 0)?) || !use_def.is_constant(weight) {
        return None;
    }
    notes.done(&root.name, format!("{} rounded to {to}", graph.value(weight).name));
    let mut rewriter = Rewriter::at(graph, root);
    let cast = |to: DType| [("to", Attr::Int(element_number(to)))];
    let rounded = rewriter.node("rounded", op::Cast, &[weight], &cast(to));
    let mut inputs = root.inputs.clone();
    inputs[at] = Some(rounded);
    if embeds {
        let indices = UseDef::operand(root, 1)?;
        let rows = rewriter.with_attrs("rows", op::Gather, &[rounded, indices], &root.attrs);
        let wide = cast(DType::F32).map(|(name, attr)| (name.to_owned(), attr));
        return Some(rewriter.last(op::Cast, vec![Some(rows)], Attrs::from(wide), root));
    }
    let mut attrs = root.attrs.clone();
    if own.fused.is_some() {
        attrs.insert("stages".to_owned(), Attr::Strs(Vec::new()));
    }
    Some(rewriter.last(def.into(), inputs, attrs, root))
}

/// Whether rows of a table are picked.
fn is_embedding(graph: &Graph, gather: &Node) -> bool {
    let table = UseDef::operand(gather, 0).and_then(|id| graph.facts(id).shape.as_ref());
    table.is_some_and(|shape| shape.len() == 2) && gather.attrs.int("axis") == 0
}
