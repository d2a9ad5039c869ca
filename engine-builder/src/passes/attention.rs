//! Fuses attention: scores of queries and keys, scaled and masked by the stages of their product, their softmax, and its product
//! with the values become one operator that never has all scores in memory.
//!
//! Runs after `fuse`, which has brought scale and mask into the first product. Keys and values that were repeated for the
//! queries that share them are read unrepeated.

use super::scalars::{peek, pin};
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

/// The softmax whose result weighs the values.
struct Shares<'a> {
    softmax: &'a Node,
    /// The zero that stands for shares that are not numbers, if one does.
    zero: Option<ValueId>,
    /// What only the nodes of the pattern may read.
    own: Vec<ValueId>,
}

impl<'a> Shares<'a> {
    fn of(graph: &Graph, use_def: &UseDef<'a>, id: ValueId) -> Option<Self> {
        if let Some(softmax) = use_def.made_by(id, &[op::Softmax]) {
            return Some(Self { softmax, zero: None, own: vec![id] });
        }
        let choice = use_def.made_by(id, &[op::Where])?;
        let [unknown, zero, shares] = [0, 1, 2].map(|i| UseDef::operand(choice, i));
        let (unknown, zero, shares) = (unknown?, zero?, shares?);
        let is_nan = use_def.made_by(unknown, &[op::IsNaN])?;
        let softmax = use_def.made_by(shares, &[op::Softmax])?;
        let fits = UseDef::operand(is_nan, 0) == Some(shares)
            && peek(graph, zero) == Some(0.0)
            && use_def.consumers(shares).count() == 2
            && !use_def.is_result(shares);
        fits.then(|| Self { softmax, zero: Some(zero), own: vec![id, unknown] })
    }
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let transposed = |name| OpName::of(root) == op::FusedMatMul && root.attrs.int(name) != 0;
    if !matches!(OpName::of(root), op::MatMul | op::FusedMatMul)
        || transposed("transA")
        || transposed("transB")
    {
        return None;
    }
    let shares = Shares::of(graph, use_def, UseDef::operand(root, 0)?)?;
    match fuse(graph, use_def, root, &shares) {
        Ok(nodes) => {
            pin(graph, shares.zero.as_slice(), op::Attention, root);
            notes.done(&root.name, format!("Attention with {}", shares.softmax.name));
            Some(nodes)
        }
        Err(why) => {
            notes.kept(&root.name, why);
            None
        }
    }
}

fn fuse(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    shares: &Shares<'_>,
) -> Result<Vec<Node>, String> {
    let operand = |node, i| UseDef::operand(node, i).ok_or("an operand is missing");
    let softmax = shares.softmax;
    let scores = operand(softmax, 0)?;
    let product = use_def.made_by(scores, &[op::FusedMatMul]).ok_or_else(|| {
        format!("{} does not come from a product with transposed keys", graph.value(scores).name)
    })?;
    for &id in shares.own.iter().chain([&scores]) {
        if use_def.only_reader(id).is_none() {
            return Err(format!("{} is read elsewhere too", graph.value(id).name));
        }
    }
    let rank = graph.facts(scores).shape.as_ref().map_or(0, Vec::len);
    let axis = softmax.attrs.int("axis");
    if !(3..=4).contains(&rank) || (axis != -1 && axis != rank as i64 - 1) {
        return Err(format!("the softmax of {rank} dimensions is along axis {axis}"));
    }
    if product.attrs.int("transA") != 0 || product.attrs.int("transB") == 0 {
        return Err(format!("{} does not read its keys transposed", product.name));
    }
    let (q, mut k, mut v) = (operand(product, 0)?, operand(product, 1)?, operand(root, 1)?);
    if let (Some(own_k), Some(own_v)) = (repeated(graph, use_def, k), repeated(graph, use_def, v)) {
        let heads = |id| graph.facts(id).shape.as_ref().map(|shape| shape[1].clone());
        if heads(own_k) == heads(own_v) {
            (k, v) = (own_k, own_v);
        }
    }
    check_shapes(graph, [q, k, v])?;
    let mut attrs = chain_of(product);
    attrs.insert("zero_nan".to_owned(), Attr::Int(shares.zero.is_some().into()));
    let mut inputs = vec![q, k, v];
    inputs.extend(product.inputs[2..].iter().flatten());
    let mut rewriter = Rewriter::at(graph, root);
    if OpName::of(root) == op::MatMul {
        let inputs = inputs.into_iter().map(Some).collect();
        return Ok(rewriter.last(op::Attention, inputs, attrs, root));
    }
    // What was done to the result is one pass behind attention.
    let attrs: Vec<(&str, Attr)> = attrs.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    let mixed = rewriter.node("mixed", op::Attention, &inputs, &attrs);
    let mut inputs = vec![Some(mixed)];
    inputs.extend(&root.inputs[2..]);
    Ok(rewriter.last(op::Elementwise, inputs, chain_of(root), root))
}

/// The attributes that state a node's stages.
fn chain_of(node: &Node) -> Attrs {
    let stated = |name: &&str| Some(((*name).to_owned(), node.attrs.get(*name)?.clone()));
    ["stages", "scalars"].iter().filter_map(stated).collect()
}

/// Equal ranks and leading sizes, but for the heads of queries, which a fixed number of them shares.
fn check_shapes(graph: &Graph, operands: [ValueId; 3]) -> Result<(), String> {
    let mut shapes = Vec::new();
    for id in operands {
        let facts = graph.facts(id);
        if facts.dtype != DType::F32 {
            return Err(format!(
                "{} is {}, fused is attention of f32",
                graph.value(id).name,
                facts.dtype
            ));
        }
        shapes.push(facts.shape.clone().unwrap_or_default());
    }
    let [q, k, v] = &shapes[..] else { return Err("attention has three operands".to_owned()) };
    let differ = || Err(format!("queries {q:?}, keys {k:?} and values {v:?} do not go together"));
    let rank = q.len();
    if k.len() != rank || v.len() != rank || q[0] != k[0] || k[..rank - 1] != v[..rank - 1] {
        return differ();
    }
    let shared = |q: &Dim, k: &Dim| match (q.known(), k.known()) {
        (Some(q), Some(k)) => k > 0 && q % k == 0,
        _ => q == k,
    };
    if q[rank - 1] != k[rank - 1] || (rank == 4 && !shared(&q[1], &k[1])) {
        return differ();
    }
    Ok(())
}

/// What `id` repeats along its second axis: `Unsqueeze`, `Expand`, `Reshape` of (batch, heads, length, size), as exporters
/// write heads that several queries share.
fn repeated(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<ValueId> {
    let below = |id: ValueId, ops: &[OpName<'_>]| UseDef::operand(use_def.made_by(id, ops)?, 0);
    let wide = below(id, &[op::Reshape])?;
    let single = below(wide, &[op::Expand])?;
    let own = below(single, &[op::Unsqueeze, op::Reshape])?;
    let shape = |id: ValueId| graph.facts(id).shape.as_deref();
    let ([b, h, t, d], [b1, h1, one, t1, d1]) = (shape(own)?, shape(single)?) else { return None };
    let ([b2, h2, times, t2, d2], [b3, h3, t3, d3]) = (shape(wide)?, shape(id)?) else {
        return None;
    };
    let kept = [
        (b, b1),
        (b, b2),
        (b, b3),
        (h, h1),
        (h, h2),
        (t, t1),
        (t, t2),
        (t, t3),
        (d, d1),
        (d, d2),
        (d, d3),
    ];
    let all = h.known()?.checked_mul(times.known()?)?;
    let fits =
        kept.iter().all(|(a, b)| a == b) && one.known() == Some(1) && h3.known() == Some(all);
    fits.then_some(own)
}
