//! Takes an addend for each output channel into the convolution or matrix product before it.

use super::product::{Product, check_not_rounded, per_channel, settle, with_constant};
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Node, ValueId};
use engine_ops::OpName;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let (x, addend) = with_constant(use_def, root, &[op::Add, op::Sub])?;
    let folded = fold(graph, use_def, root, x, addend);
    settle(folded, root, notes, "became the addend of")
}

fn fold(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    x: ValueId,
    addend: ValueId,
) -> Result<(String, Vec<Node>), String> {
    let product = Product::behind(graph, use_def, x)?;
    let name = &graph.value(addend).name;
    let shape =
        graph.facts(addend).concrete().ok_or_else(|| format!("{name} has no fixed shape"))?;
    check_not_rounded(graph, use_def, root)?;
    if !product.adds() {
        return Err(format!("{} adds nothing of its own, or scales it", product.node.name));
    }
    if !product.is_per_channel(&shape) {
        return Err(format!(
            "{name} has the shape {shape:?}, not one addend for each output channel"
        ));
    }
    let bias = product.bias();
    if let Some(bias) = bias.filter(|&bias| !use_def.is_constant(bias)) {
        return Err(format!("the addend {} changes from run to run", graph.value(bias).name));
    }
    let weight = UseDef::operand(product.node, 1).expect("a product has two operands");
    let into = product.node.name.clone();
    let mut rewriter = Rewriter::at(graph, root);
    let mut addend = per_channel(&mut rewriter, "shift", addend, product.channels);
    let bias = match (bias, OpName::of(root)) {
        (None, op::Sub) => rewriter.node("negative", op::Neg, &[addend], &[]),
        (None, _) => addend,
        (Some(bias), op) => {
            if OpName::of(product.node) != op::Gemm {
                addend = per_channel(&mut rewriter, "shift", addend, product.channels);
            }
            rewriter.node("addend", op, &[bias, addend], &[])
        }
    };
    Ok((into, product.with(rewriter, weight, Some(bias), root)))
}
