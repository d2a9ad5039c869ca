//! Products with a weight, and how a factor or a shift for each output channel goes into them.

use super::use_def::{Rewriter, UseDef};
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Dim, Node, Tensor, ValueId};
use engine_ops::{AttrsExt, OpName};

/// Operators that multiply their first operand with a weight, their second.
pub(super) const PRODUCTS: [OpName<'_>; 4] = [op::Conv, op::ConvTranspose, op::Gemm, op::MatMul];

/// A product whose weight no run changes and whose result only one node reads.
pub(super) struct Product<'a> {
    pub(super) node: &'a Node,
    /// Output channels.
    pub(super) channels: usize,
    /// Shape of the weight.
    weight: Vec<usize>,
    /// Dimensions of the result.
    rank: usize,
    /// Dimensions of the result after that of the channels.
    behind: usize,
    /// Elements of the result in the smallest batch.
    result: usize,
}

impl<'a> Product<'a> {
    /// The product that gives `id`, or why there is none that can be folded into.
    pub(super) fn behind(graph: &Graph, use_def: &UseDef<'a>, id: ValueId) -> Result<Self, String> {
        let name = &graph.value(id).name;
        let node = use_def
            .made_by(id, &PRODUCTS)
            .ok_or_else(|| format!("{name} does not come from a convolution or matrix product"))?;
        if use_def.only_reader(id).is_none() {
            return Err(format!("{name} is read elsewhere too"));
        }
        let [_, weight] = [0, 1].map(|i| UseDef::operand(node, i));
        let weight = weight.ok_or("the product has no second operand")?;
        if !use_def.is_constant(weight) {
            return Err(format!(
                "{}, the second operand of {}, changes from run to run",
                graph.value(weight).name,
                node.name
            ));
        }
        if graph.facts(id).dtype != DType::F32 {
            return Err(format!("{name} is {}, folded are products of f32", graph.facts(id).dtype));
        }
        let shape = graph.facts(weight).concrete();
        let weight =
            shape.ok_or_else(|| format!("the weight of {} has no fixed shape", node.name))?;
        let rank = weight.len();
        let (channels, behind) = match OpName::of(node) {
            op::Conv => (weight[0], rank - 2),
            op::ConvTranspose => (weight[1] * groups(node), rank - 2),
            op::Gemm => (weight[usize::from(node.attrs.int("transB") == 0)], 0),
            _ if rank >= 2 => (weight[rank - 1], 0),
            _ => return Err(format!("the weight of {} is a vector", node.name)),
        };
        let result = graph.facts(id).shape.as_ref().map(Vec::len);
        let dims = result.ok_or_else(|| format!("the rank of {name} is not known"))?;
        let sizes = graph.facts(id).shape.as_deref().unwrap_or_default();
        let sizes = sizes.iter().filter_map(Dim::known);
        let result = sizes.map(|n| n.max(0) as usize).product();
        Ok(Self { node, channels, weight, rank: dims, behind, result })
    }

    /// Whether to scale the weight at a refit rather than the result at every run, or why not. The weight is then kept a second
    /// time; that pays while a refit has less to scale than one run. Results of larger weights are scaled by stages of their
    /// product, while they are in the cache.
    pub(super) fn worth_scaling(&self) -> Result<(), String> {
        let weight: usize = self.weight.iter().product();
        if weight <= self.result {
            return Ok(());
        }
        let (name, result) = (&self.node.name, self.result);
        Err(format!(
            "the weight of {name} has {weight} elements, its result {result} in the smallest batch"
        ))
    }

    /// A vector of the channels under the shape that broadcasts over the result.
    pub(super) fn over_result(
        &self,
        rewriter: &mut Rewriter<'_>,
        name: &str,
        x: ValueId,
    ) -> ValueId {
        if self.behind == 0 {
            return x;
        }
        let mut shape = vec![1; self.behind + 1];
        shape[0] = -1;
        let target = rewriter.ints(&format!("{name}.shape"), &shape);
        rewriter.node(name, op::Reshape, &[x, target], &[])
    }

    /// Whether an operand of this shape has one element for all, or one for each output channel.
    pub(super) fn is_per_channel(&self, shape: &[usize]) -> bool {
        let from_end = shape.iter().rev().enumerate();
        shape.len() <= self.rank
            && from_end
                .into_iter()
                .all(|(back, &size)| size == 1 || (back == self.behind && size == self.channels))
    }

    /// `factors` (a scalar or a vector of the channels) under the shape that broadcasts over the weight; for a grouped
    /// ConvTranspose the weight is split into its groups first, and `back` joins them again.
    pub(super) fn scaled(
        &self,
        rewriter: &mut Rewriter<'_>,
        op: OpName<'_>,
        factors: ValueId,
        single: bool,
    ) -> ValueId {
        let weight = UseDef::operand(self.node, 1).expect("checked when the product was found");
        let dims: Vec<i64> = self.weight.iter().map(|&d| d as i64).collect();
        let rank = dims.len();
        let groups = groups(self.node) as i64;
        let column =
            |at: usize| -> Vec<i64> { (0..rank).map(|i| if i == at { -1 } else { 1 }).collect() };
        let reshaped = |rewriter: &mut Rewriter<'_>, name: &str, x, shape: &[i64]| {
            let target = rewriter.ints(&format!("{name}.shape"), shape);
            rewriter.node(name, op::Reshape, &[x, target], &[])
        };
        if single {
            return rewriter.node("weight", op, &[weight, factors], &[]);
        }
        match OpName::of(self.node) {
            op::Conv => {
                let factors = reshaped(rewriter, "factors", factors, &column(0));
                rewriter.node("weight", op, &[weight, factors], &[])
            }
            op::ConvTranspose if groups == 1 => {
                let factors = reshaped(rewriter, "factors", factors, &column(1));
                rewriter.node("weight", op, &[weight, factors], &[])
            }
            op::ConvTranspose => {
                let mut split = vec![groups, dims[0] / groups];
                split.extend(&dims[1..]);
                let mut apart = vec![groups, 1, dims[1]];
                apart.extend(dims[2..].iter().map(|_| 1));
                let factors = reshaped(rewriter, "factors", factors, &apart);
                let split = reshaped(rewriter, "groups", weight, &split);
                let product = rewriter.node("scaled", op, &[split, factors], &[]);
                reshaped(rewriter, "weight", product, &dims)
            }
            op::Gemm if self.node.attrs.int("transB") != 0 => {
                let factors = reshaped(rewriter, "factors", factors, &column(0));
                rewriter.node("weight", op, &[weight, factors], &[])
            }
            _ => rewriter.node("weight", op, &[weight, factors], &[]),
        }
    }

    /// The addend, if the operator has one.
    pub(super) fn bias(&self) -> Option<ValueId> {
        UseDef::operand(self.node, 2)
    }

    /// Whether the operator adds a third operand, unscaled.
    pub(super) fn adds(&self) -> bool {
        match OpName::of(self.node) {
            op::MatMul => false,
            op::Gemm => self.bias().is_none() || self.node.attrs.float("beta") == 1.0,
            _ => true,
        }
    }

    /// The product with another weight and addend, in place of `root`.
    pub(super) fn with(
        &self,
        rewriter: Rewriter<'_>,
        weight: ValueId,
        bias: Option<ValueId>,
        root: &Node,
    ) -> Vec<Node> {
        let mut attrs: Attrs = self.node.attrs.clone();
        if OpName::of(self.node) == op::Gemm && self.bias().is_none() {
            attrs.insert("beta".to_owned(), Attr::Float(1.0));
        }
        rewriter.last(
            OpName::of(self.node),
            vec![self.node.inputs[0], Some(weight), bias],
            attrs,
            root,
        )
    }
}

/// An error if what `root` gives is rounded: products that are scaled or shifted in another way differ in their last bits.
pub(super) fn check_not_rounded(
    graph: &Graph,
    use_def: &UseDef<'_>,
    root: &Node,
) -> Result<(), String> {
    let rounded = |&id: &ValueId| use_def.is_rounded(graph, id);
    match root.outputs.iter().flatten().find(|id| rounded(id)) {
        Some(&id) => {
            Err(format!("{} is rounded, which its last bits decide", graph.value(id).name))
        }
        None => Ok(()),
    }
}

/// `x` as a vector of one element for each channel.
pub(super) fn per_channel(
    rewriter: &mut Rewriter<'_>,
    name: &str,
    x: ValueId,
    channels: usize,
) -> ValueId {
    let shape = rewriter.graph.facts(x).concrete().unwrap_or_default();
    if shape == [channels] {
        return x;
    }
    let flat = rewriter.ints(&format!("{name}.flat"), &[-1]);
    let row = rewriter.node(&format!("{name}.row"), op::Reshape, &[x, flat], &[]);
    if shape.iter().product::<usize>() == channels {
        return row;
    }
    let all = rewriter.ints(&format!("{name}.channels"), &[channels as i64]);
    rewriter.node(name, op::Expand, &[row, all], &[])
}

/// The operands of `root` where it is one of `ops`: what changes from run to run, and the constant. The constant stands second, or
/// anywhere in the first of `ops`, which commutes.
pub(super) fn with_constant(
    use_def: &UseDef<'_>,
    root: &Node,
    ops: &[OpName<'_>],
) -> Option<(ValueId, ValueId)> {
    let [a, b] = [0, 1].map(|i| UseDef::operand(root, i));
    let (a, b) = (a?, b?);
    let op = ops.iter().position(|&op| op == OpName::of(root))?;
    match (use_def.is_constant(a), use_def.is_constant(b)) {
        (false, true) => Some((a, b)),
        (true, false) if op == 0 => Some((b, a)),
        _ => None,
    }
}

/// Notes what became of `root`: `done` and the product that took it, or why none did.
pub(super) fn settle(
    folded: Result<(String, Vec<Node>), String>,
    root: &Node,
    notes: &mut Notes,
    done: &str,
) -> Option<Vec<Node>> {
    match folded {
        Ok((into, nodes)) => {
            notes.done(&root.name, format!("{done} {into}"));
            Some(nodes)
        }
        Err(why) => {
            notes.kept(&root.name, why);
            None
        }
    }
}

/// A scalar literal of f32.
pub(super) fn scalar(rewriter: &mut Rewriter<'_>, name: &str, value: f32) -> ValueId {
    rewriter.literal(name, Tensor::from_slice(&[], &[value]))
}

fn groups(node: &Node) -> usize {
    match node.attrs.get("group") {
        Some(Attr::Int(group)) => usize::try_from(*group).unwrap_or(1).max(1),
        _ => 1,
    }
}
