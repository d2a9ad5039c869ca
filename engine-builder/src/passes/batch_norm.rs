//! Folds a batch normalisation into the convolution or matrix product before it.
//!
//! With `s = scale / √(variance + ε)` a small weight becomes `W · s` and the addend `(b − mean) · s + B`: ordinary nodes over
//! weights, which `prepare` takes. The result of a large one ([`Product::worth_scaling`]) is multiplied by `s` and added to, which
//! fuses into the product. ε is an attribute, so no weight is read.

use super::product::{Product, check_not_rounded, per_channel, scalar};
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{DType, Node, ValueId};
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
    if OpName::of(root) != op::BatchNormalization {
        return None;
    }
    match fold(graph, use_def, root) {
        Ok((into, nodes)) => {
            notes.done(&root.name, format!("folded into {into}"));
            Some(nodes)
        }
        Err(why) => {
            notes.kept(&root.name, why);
            None
        }
    }
}

fn fold(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
) -> Result<(String, Vec<Node>), String> {
    let operand = |i| UseDef::operand(root, i).ok_or_else(|| format!("operand {i} is missing"));
    let statistics = [operand(1)?, operand(2)?, operand(3)?, operand(4)?];
    for id in statistics {
        let name = &graph.value(id).name;
        if !use_def.is_constant(id) {
            return Err(format!("{name} changes from run to run"));
        }
        if graph.facts(id).dtype != DType::F32 {
            return Err(format!(
                "{name} is {}, folded are statistics of f32",
                graph.facts(id).dtype
            ));
        }
    }
    let x = operand(0)?;
    let product = Product::behind(graph, use_def, x)?;
    check_not_rounded(graph, use_def, root)?;
    let rank = graph.facts(x).shape.as_ref().map(Vec::len);
    let channels_last = matches!(OpName::of(product.node), op::Gemm | op::MatMul);
    if channels_last && rank != Some(2) {
        return Err(format!(
            "{} gives no matrix, whose columns would be the channels",
            product.node.name
        ));
    }
    let bias = product.bias();
    if !product.adds() && OpName::of(product.node) != op::MatMul {
        return Err(format!("{} scales its addend", product.node.name));
    }
    if let Some(bias) = bias.filter(|&bias| !use_def.is_constant(bias)) {
        return Err(format!("the addend {} changes from run to run", graph.value(bias).name));
    }
    let into = product.node.name.clone();
    Ok((into, write(Rewriter::at(graph, root), &product, statistics, bias, root)))
}

fn write(
    mut rewriter: Rewriter<'_>,
    product: &Product<'_>,
    [scale, shift, mean, variance]: [ValueId; 4],
    bias: Option<ValueId>,
    root: &Node,
) -> Vec<Node> {
    let epsilon = scalar(&mut rewriter, "epsilon", root.attrs.float("epsilon"));
    let positive = rewriter.node("variance", op::Add, &[variance, epsilon], &[]);
    let deviation = rewriter.node("deviation", op::Sqrt, &[positive], &[]);
    let factors = rewriter.node("factor", op::Div, &[scale, deviation], &[]);
    let centred = match bias {
        Some(bias) => {
            let bias = per_channel(&mut rewriter, "bias", bias, product.channels);
            rewriter.node("centred", op::Sub, &[bias, mean], &[])
        }
        None => rewriter.node("centred", op::Neg, &[mean], &[]),
    };
    let scaled = rewriter.node("addend", op::Mul, &[centred, factors], &[]);
    let bias = rewriter.node("shift", op::Add, &[scaled, shift], &[]);
    let is_small = product.worth_scaling().is_ok();
    if is_small && OpName::of(product.node) != op::MatMul {
        let weight = product.scaled(&mut rewriter, op::Mul, factors, false);
        return product.with(rewriter, weight, Some(bias), root);
    }
    let [x, weight] = [0, 1].map(|i| product.node.inputs[i].expect("a product has two operands"));
    let weight =
        if is_small { product.scaled(&mut rewriter, op::Mul, factors, false) } else { weight };
    let mut y =
        rewriter.with_attrs("product", OpName::of(product.node), &[x, weight], &product.node.attrs);
    if !is_small {
        let factors = product.over_result(&mut rewriter, "factors", factors);
        y = rewriter.node("scaled", op::Mul, &[y, factors], &[]);
    }
    let bias = product.over_result(&mut rewriter, "shifts", bias);
    rewriter.last(op::Add, vec![Some(y), Some(bias)], Default::default(), root)
}
