//! Takes an addend for each output channel into the convolution or matrix product before it.

use super::product::{Product, check_not_rounded, per_channel, settle, with_constant};
use super::site::{Emit, Site, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::report::Notes;
use engine_format::{Node, ValueId};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

fn rule(graph: &mut Graph, site: &Site<'_>, root: &Node, notes: &mut Notes) -> Option<Vec<Node>> {
    let (x, addend) = with_constant(site, root, ["Add", "Sub"])?;
    let folded = fold(graph, site, root, x, addend);
    settle(folded, root, notes, "became the addend of")
}

fn fold(
    graph: &mut Graph,
    site: &Site<'_>,
    root: &Node,
    x: ValueId,
    addend: ValueId,
) -> Result<(String, Vec<Node>), String> {
    let product = Product::behind(graph, site, x)?;
    let name = &graph.value(addend).name;
    let shape =
        graph.facts(addend).concrete().ok_or_else(|| format!("{name} has no fixed shape"))?;
    check_not_rounded(graph, site, root)?;
    if !product.adds() {
        return Err(format!("{} adds nothing of its own, or scales it", product.node.name));
    }
    if !product.is_per_channel(&shape) {
        return Err(format!(
            "{name} has the shape {shape:?}, not one addend for each output channel"
        ));
    }
    let bias = product.bias();
    if let Some(bias) = bias.filter(|&bias| !site.is_constant(bias)) {
        return Err(format!("the addend {} changes from run to run", graph.value(bias).name));
    }
    let weight = Site::operand(product.node, 1).expect("a product has two operands");
    let into = product.node.name.clone();
    let mut emit = Emit::at(graph, root);
    let mut addend = per_channel(&mut emit, "shift", addend, product.channels);
    let bias = match (bias, root.op.as_str()) {
        (None, "Sub") => emit.node("negative", "Neg", &[addend], &[]),
        (None, _) => addend,
        (Some(bias), op) => {
            if product.node.op != "Gemm" {
                addend = per_channel(&mut emit, "shift", addend, product.channels);
            }
            emit.node("addend", op, &[bias, addend], &[])
        }
    };
    Ok((into, product.with(emit, weight, Some(bias), root)))
}
