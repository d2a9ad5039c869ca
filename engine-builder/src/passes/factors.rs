//! Brings scalar factors of the operands of a matrix product behind it, where they are a stage of its epilogue.
//!
//! Exporters scale the queries of attention, its keys, or half of the scale on either; keys that a cache holds would be scaled
//! anew in every call. Products with a weight are left to `scale`.

use super::product::{check_not_rounded, with_constant};
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

/// An operand of a product without its factor.
struct Scaled<'a> {
    x: ValueId,
    /// The axes in which the product reads it.
    transposed: Option<Vec<usize>>,
    /// The product or quotient that was taken off, and the other operand of it.
    by: &'a Node,
    factor: ValueId,
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if OpName::of(root) != op::MatMul {
        return None;
    }
    let (a, b) = (UseDef::operand(root, 0)?, UseDef::operand(root, 1)?);
    let rank = |id: ValueId| graph.facts(id).shape.as_ref().map_or(0, Vec::len);
    let varying = |id: &ValueId| !use_def.is_constant(*id) && rank(*id) >= 2;
    // f16 would overflow in a product that is scaled only then.
    if ![a, b].iter().all(varying) || graph.facts(a).dtype != DType::F32 {
        return None;
    }
    let scaled = [a, b].map(|id| scaled(graph, use_def, id));
    if scaled.iter().all(Option::is_none) {
        return None;
    }
    if let Err(why) = check_not_rounded(graph, use_def, root) {
        notes.kept(&root.name, why);
        return None;
    }
    let names: Vec<&str> = scaled.iter().flatten().map(|s| s.by.name.as_str()).collect();
    notes.done(&root.name, format!("scaled behind the product, not at {}", names.join(", ")));
    let mut rewriter = Rewriter::at(graph, root);
    let mut operands = [a, b];
    for (operand, scaled) in operands.iter_mut().zip(&scaled) {
        let Some(scaled) = scaled else { continue };
        *operand = match &scaled.transposed {
            None => scaled.x,
            Some(perm) => {
                let perm = Attr::Ints(perm.iter().map(|&axis| axis as i64).collect());
                rewriter.node("turned", op::Transpose, &[scaled.x], &[("perm", perm)])
            }
        };
    }
    let product = rewriter.node("unscaled", op::MatMul, &operands, &[]);
    let (op, factor, product) = match &scaled {
        [Some(a), Some(b)] if OpName::of(a.by) == op::Mul && OpName::of(b.by) == op::Mul => {
            (op::Mul, rewriter.node("factor", op::Mul, &[a.factor, b.factor], &[]), product)
        }
        [Some(a), Some(b)] => (
            OpName::of(b.by),
            b.factor,
            rewriter.node("half", OpName::of(a.by), &[product, a.factor], &[]),
        ),
        [Some(one), None] | [None, Some(one)] => (OpName::of(one.by), one.factor, product),
        [None, None] => return None,
    };
    Some(rewriter.last(op, vec![Some(product), Some(factor)], Attrs::new(), root))
}

/// An operand that is scaled by one constant number, before or after it is transposed, for this product alone.
fn scaled<'a>(graph: &Graph, use_def: &UseDef<'a>, id: ValueId) -> Option<Scaled<'a>> {
    use_def.only_reader(id)?;
    let (node, transposed) = match use_def.made_by(id, &[op::Transpose]) {
        Some(transpose) => {
            let below = UseDef::operand(transpose, 0)?;
            use_def.only_reader(below)?;
            (use_def.made_by(below, &[op::Mul, op::Div])?, Some(axes(graph, transpose)?))
        }
        None => (use_def.made_by(id, &[op::Mul, op::Div])?, None),
    };
    let (x, factor) = with_constant(use_def, node, &[op::Mul, op::Div])?;
    let result = node.outputs[0]?;
    let single = graph.facts(factor).concrete()?.iter().product::<usize>() == 1;
    let same = graph.facts(x).shape == graph.facts(result).shape;
    (single && same).then_some(Scaled { x, transposed, by: node, factor })
}
