//! Recognises layer and root-mean-square normalisation, and softmax, that exporters write out.
//!
//! `(x − mean) / √(mean of squares + ε)` with the mean taken off is LayerNormalization, without it RMSNormalization; a factor and
//! an addend after it are its own. ε and the exponent are read and so pinned.

use super::scalars::{operand, operands, peek, pin, plus_scalar};
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, Tensor, ValueId};
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
    softmax(graph, use_def, root, notes).or_else(|| normalisation(graph, use_def, root, notes))
}

/// A unit-variance core.
struct Core {
    x: ValueId,
    /// The first of the last axes, which are normalised, counted from the end.
    axis: i64,
    epsilon: f32,
    /// Whether the mean was not taken off.
    rms: bool,
    read: Vec<ValueId>,
}

impl Core {
    fn of(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<Self> {
        let (centred, deviation) = quotient(graph, use_def, id)?;
        let (sum, mut read) = root_of(graph, use_def, deviation)?;
        let (variance, epsilon, own) = plus_scalar(graph, use_def, sum)?;
        read.push(own);
        let (squares, axes) = mean(graph, use_def, variance)?;
        let square = use_def.made_by(squares, &[op::Mul, op::Pow])?;
        let (base, other) = (UseDef::operand(square, 0)?, UseDef::operand(square, 1)?);
        if OpName::of(square) == op::Pow {
            (peek(graph, other)? == 2.0).then(|| read.push(other))?;
        } else if base != other {
            return None;
        }
        if base != centred {
            return None;
        }
        let (x, rms) = match operands(use_def, centred, op::Sub) {
            Some((x, average)) if mean(graph, use_def, average) == Some((x, axes.clone())) => {
                (x, false)
            }
            _ => (centred, true),
        };
        let rank = graph.facts(x).shape.as_ref()?.len();
        let first = rank.checked_sub(axes.len())?;
        let last = axes.iter().copied().eq(first..rank);
        (last && !axes.is_empty() && graph.facts(x).dtype == DType::F32).then(|| Self {
            x,
            axis: -(axes.len() as i64),
            epsilon,
            rms,
            read,
        })
    }

    fn op(&self) -> OpName<'static> {
        if self.rms { op::RMSNormalization } else { op::LayerNormalization }
    }

    /// Whether an operand has one element for each element that is normalised together.
    fn takes(&self, graph: &Graph, id: ValueId) -> bool {
        let shape = graph.facts(self.x).shape.as_deref().unwrap_or_default();
        let own = &shape[shape.len() - self.axis.unsigned_abs() as usize..];
        graph.facts(id).shape.as_deref() == Some(own) && graph.facts(id).dtype == DType::F32
    }
}

/// Numerator and denominator, written as a quotient or as a product with a reciprocal.
fn quotient(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<(ValueId, ValueId)> {
    if let Some(parts) = operands(use_def, id, op::Div) {
        return Some(parts);
    }
    let (a, b) = operands(use_def, id, op::Mul)?;
    let reciprocal = |id| {
        operand(use_def, id, op::Reciprocal).or_else(|| {
            let (one, value) = operands(use_def, id, op::Div)?;
            (peek(graph, one)? == 1.0).then_some(value)
        })
    };
    reciprocal(b).map(|d| (a, d)).or_else(|| reciprocal(a).map(|d| (b, d)))
}

/// What `id` is the square root of, and the exponent if it was written as one.
fn root_of(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<(ValueId, Vec<ValueId>)> {
    if let Some(x) = operand(use_def, id, op::Sqrt) {
        return Some((x, Vec::new()));
    }
    let (x, power) = operands(use_def, id, op::Pow)?;
    (peek(graph, power)? == 0.5).then(|| (x, vec![power]))
}

/// What `id` is the mean of, and along which axes, in order.
fn mean(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<(ValueId, Vec<usize>)> {
    fold(graph, use_def, id, op::ReduceMean)
}

fn fold(
    graph: &Graph,
    use_def: &UseDef<'_>,
    id: ValueId,
    op: OpName<'_>,
) -> Option<(ValueId, Vec<usize>)> {
    let node = use_def.made_by(id, &[op])?;
    let x = UseDef::operand(node, 0)?;
    let rank = graph.facts(x).shape.as_ref()?.len();
    let axes = graph.known_tensor(UseDef::operand(node, 1)?)?.to_i64s()?;
    let index = |axis: &i64| engine_ops::infer::axis(*axis, rank).ok();
    let mut axes: Vec<usize> = axes.iter().map(index).collect::<Option<_>>()?;
    axes.sort_unstable();
    (node.attrs.int("keepdims") != 0).then_some((x, axes))
}

/// The operands of a product or sum of which one is a core, that one first.
fn around<T>(
    use_def: &UseDef<'_>,
    root: ValueId,
    op: OpName<'_>,
    inner: impl Fn(ValueId) -> Option<T>,
) -> Option<(T, ValueId)> {
    let (a, b) = operands(use_def, root, op)?;
    inner(a).map(|found| (found, b)).or_else(|| inner(b).map(|found| (found, a)))
}

fn normalisation(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    let result = root.outputs.first().copied().flatten()?;
    let view = &*graph;
    let core = |id| Core::of(view, use_def, id);
    let scaled =
        |id| around(use_def, id, op::Mul, core).filter(|(core, scale)| core.takes(view, *scale));
    let shifted = |id| {
        around(use_def, id, op::Add, scaled)
            .filter(|((core, _), shift)| !core.rms && core.takes(view, *shift))
    };
    // The largest form counts: the only reader of this one may make it another.
    let outer = use_def.only_reader(result).and_then(|(_, node)| node.outputs.first().copied()?);
    let (core, scale, shift) = match OpName::of(root) {
        op::Add => shifted(result).map(|((core, scale), shift)| (core, Some(scale), Some(shift))),
        op::Mul if outer.is_some_and(|id| shifted(id).is_some()) => None,
        op::Mul | op::Div => match scaled(result) {
            Some((core, scale)) => Some((core, Some(scale), None)),
            None if outer.is_some_and(|id| scaled(id).is_some()) => None,
            None => core(result).map(|core| (core, None, None)),
        },
        _ => None,
    }?;
    let width = -core.axis;
    let shape = graph.facts(core.x).shape.as_deref()?;
    let own: Option<Vec<usize>> = shape[shape.len() - width as usize..]
        .iter()
        .map(|dim| usize::try_from(dim.known()?).ok())
        .collect();
    let (op, read) = (core.op(), core.read.clone());
    let mut rewriter = Rewriter::at(graph, root);
    let scale = match (scale, own) {
        (Some(scale), _) => scale,
        (None, Some(own)) => {
            let ones = vec![1.0f32; own.iter().product()];
            rewriter.literal("ones", Tensor::from_slice(&own, &ones))
        }
        (None, None) => {
            notes.kept(&root.name, format!("{op} without a factor, of sizes that are not fixed"));
            return None;
        }
    };
    let attrs: Attrs = [
        ("axis".to_owned(), Attr::Int(core.axis)),
        ("epsilon".to_owned(), Attr::Float(core.epsilon)),
    ]
    .into();
    let nodes = rewriter.last(op, vec![Some(core.x), Some(scale), shift], attrs, root);
    pin(graph, &read, op, root);
    notes.done(&root.name, format!("is {op}"));
    Some(nodes)
}

/// `e^(x − m) / Σ e^(x − m)` along one axis, `m` the largest element.
fn softmax(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if OpName::of(root) != op::Div {
        return None;
    }
    let (powers, sum) = (UseDef::operand(root, 0)?, UseDef::operand(root, 1)?);
    let (summed, axes) = fold(graph, use_def, sum, op::ReduceSum)?;
    let (x, most) = operands(use_def, operand(use_def, powers, op::Exp)?, op::Sub)?;
    let &[axis] = axes.as_slice() else { return None };
    if summed != powers || fold(graph, use_def, most, op::ReduceMax)? != (x, axes) {
        return None;
    }
    notes.done(&root.name, "is Softmax");
    let attrs = [("axis".to_owned(), Attr::Int(axis as i64))].into();
    Some(Rewriter::at(graph, root).last(op::Softmax, vec![Some(x)], attrs, root))
}
