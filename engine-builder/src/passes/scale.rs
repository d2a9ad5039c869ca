//! Folds a factor for each output channel, or one for all, into the weight of the convolution or matrix product before it.
//!
//! Where the weight is small; elsewhere the factor is a stage of the product ([`Product::worth_scaling`]).

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
    let (x, factor) = with_constant(use_def, root, &[op::Mul, op::Div])?;
    let folded = fold(graph, use_def, root, x, factor);
    settle(folded, root, notes, "folded into the weight of")
}

fn fold(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    x: ValueId,
    factor: ValueId,
) -> Result<(String, Vec<Node>), String> {
    let product = Product::behind(graph, use_def, x)?;
    let name = &graph.value(factor).name;
    let shape =
        graph.facts(factor).concrete().ok_or_else(|| format!("{name} has no fixed shape"))?;
    if !product.is_per_channel(&shape) {
        return Err(format!(
            "{name} has the shape {shape:?}, not one factor for each output channel"
        ));
    }
    product.worth_scaling()?;
    check_not_rounded(graph, use_def, root)?;
    let bias = product.bias();
    if let Some(bias) = bias.filter(|&bias| !use_def.is_constant(bias)) {
        return Err(format!("the addend {} changes from run to run", graph.value(bias).name));
    }
    let into = product.node.name.clone();
    let mut rewriter = Rewriter::at(graph, root);
    let single = shape.iter().product::<usize>() == 1;
    let flat = rewriter.ints("factor.flat", &[if single { 1 } else { -1 }]);
    let factors = rewriter.node("factor", op::Reshape, &[factor, flat], &[]);
    let weight = product.scaled(&mut rewriter, OpName::of(root), factors, single);
    let bias = bias.map(|bias| match OpName::of(product.node) {
        op::Gemm => rewriter.node("addend", OpName::of(root), &[bias, factors], &[]),
        _ => {
            let bias = per_channel(&mut rewriter, "bias", bias, product.channels);
            rewriter.node("addend", OpName::of(root), &[bias, factors], &[])
        }
    });
    Ok((into, product.with(rewriter, weight, bias, root)))
}
