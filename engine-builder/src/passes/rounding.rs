//! Rounds the weights of products, convolutions and embeddings to floats of 16 bits, for engines of such a precision.
//!
//! What is rounded is the operand as the node reads it, after all that other passes made of the weight, so that a folded factor costs
//! no second rounding. The Cast runs at refit; the source weight stays what it is. Products take the rounded operand beside `f32`, rows
//! of an embedding are `f32` again once they were picked.

use super::product::PRODUCTS;
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::import::attrs::element_number;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, ValueId};
use engine_ops::{AttrsExt, lookup};

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
    let op = match root.op.as_str() {
        // The fused operators are those that take halves beside `f32`; without stages they are the plain ones.
        op if PRODUCTS.contains(&op) => format!("Fused{op}"),
        op => op.to_owned(),
    };
    let embeds = op == "Gather";
    if embeds && !is_embedding(graph, root) {
        return None;
    }
    let def = lookup(&op, 1)?;
    let at = (0..root.inputs.len()).find(|&i| def.operand(i).is_some_and(|it| it.halves))?;
    let weight = UseDef::operand(root, at)?;
    let floats = |id: ValueId| graph.facts(id).dtype == DType::F32;
    if !floats(weight) || !floats(UseDef::operand(root, 0)?) || !use_def.is_constant(weight) {
        return None;
    }
    notes.done(&root.name, format!("{} rounded to {to}", graph.value(weight).name));
    let mut rewriter = Rewriter::at(graph, root);
    let cast = |to: DType| [("to", Attr::Int(element_number(to)))];
    let rounded = rewriter.node("rounded", "Cast", &[weight], &cast(to));
    let mut inputs = root.inputs.clone();
    inputs[at] = Some(rounded);
    if embeds {
        let indices = UseDef::operand(root, 1)?;
        let rows = rewriter.with_attrs("rows", &op, &[rounded, indices], &root.attrs);
        let wide = cast(DType::F32).map(|(name, attr)| (name.to_owned(), attr));
        return Some(rewriter.last("Cast", vec![Some(rows)], Attrs::from(wide), root));
    }
    let mut attrs = root.attrs.clone();
    if op != root.op {
        attrs.insert("stages".to_owned(), Attr::Strs(Vec::new()));
    }
    Some(rewriter.last(&op, inputs, attrs, root))
}

/// Whether rows of a table are picked.
fn is_embedding(graph: &Graph, gather: &Node) -> bool {
    let table = UseDef::operand(gather, 0).and_then(|id| graph.facts(id).shape.as_ref());
    table.is_some_and(|shape| shape.len() == 2) && gather.attrs.int("axis") == 0
}
