//! Recognises rotary embeddings that exporters write out: `x · cos + (−b, a) · sin`, where `(a, b)` are the halves of `x` along its
//! last axis, becomes one operator.

use super::scalars::{operand, operands};
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attrs, DType, Dim, Node, ValueId};
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
    if OpName::of(root) != op::Add {
        return None;
    }
    let (a, b) = (UseDef::operand(root, 0)?, UseDef::operand(root, 1)?);
    let operands = turned(graph, use_def, [a, b]).or_else(|| turned(graph, use_def, [b, a]))?;
    notes.done(&root.name, "is Rotary");
    let inputs = operands.into_iter().map(Some).collect();
    Some(Rewriter::at(graph, root).last(op::Rotary, inputs, Attrs::new(), root))
}

/// What is turned, and the cosines and sines, if these are the addends of a rotary embedding.
fn turned(
    graph: &Graph,
    use_def: &UseDef<'_>,
    [straight, across]: [ValueId; 2],
) -> Option<[ValueId; 3]> {
    let (a, b) = operands(use_def, across, op::Mul)?;
    let (x, sin) = [(a, b), (b, a)]
        .into_iter()
        .find_map(|(turned, sin)| Some((quarter(graph, use_def, turned)?, sin)))?;
    let cos = match operands(use_def, straight, op::Mul)? {
        (a, cos) if a == x => cos,
        (cos, a) if a == x => cos,
        _ => return None,
    };
    let shape = |id| graph.facts(id).shape.as_deref();
    let (of_x, of_cos) = (shape(x)?, shape(cos)?);
    let one = Dim::from(1i64);
    let fits = of_x.len() == of_cos.len()
        && of_x.last() == of_cos.last()
        && of_cos.iter().zip(of_x).all(|(n, size)| *n == one || n == size)
        && shape(sin)? == of_cos;
    let f32s = [x, cos, sin].iter().all(|&id| graph.facts(id).dtype == DType::F32);
    (fits && f32s).then_some([x, cos, sin])
}

/// What `id` is a quarter turn of: `Concat(−b, a)` of the halves `(a, b)` of its last axis, whose size is known.
fn quarter(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<ValueId> {
    let concat = use_def.made_by(id, &[op::Concat])?;
    let &[Some(negative), Some(first)] = concat.inputs.as_slice() else { return None };
    let second = operand(use_def, negative, op::Neg)?;
    let (x, [start, half]) = part(graph, use_def, first)?;
    let (other, [middle, end]) = part(graph, use_def, second)?;
    let shape = graph.facts(x).shape.as_deref()?;
    let size = shape.last()?.known()?;
    let last = shape.len() as i64 - 1;
    let axis = concat.attrs.int("axis");
    let halves = [start, half, middle, end] == [0, size / 2, size / 2, size] && size % 2 == 0;
    (x == other && halves && (axis == -1 || axis == last)).then_some(x)
}

/// What `id` is a part of along the last axis, and which elements.
fn part(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<(ValueId, [i64; 2])> {
    let slice = use_def.made_by(id, &[op::Slice])?;
    let number = |i| -> Option<i64> {
        let values = graph.known_tensor(UseDef::operand(slice, i)?)?.to_i64s()?;
        (values.len() == 1).then(|| values[0])
    };
    let x = UseDef::operand(slice, 0)?;
    let shape = graph.facts(x).shape.as_deref()?;
    let (size, last) = (shape.last()?.known()?, shape.len() as i64 - 1);
    let step = if slice.inputs.get(4).is_some_and(Option::is_some) { number(4)? } else { 1 };
    let axis = number(3)?;
    let place = |n: i64| if n < 0 { n + size } else { n }.clamp(0, size);
    let range = [place(number(1)?), place(number(2)?)];
    (step == 1 && (axis == last || axis == -1)).then_some((x, range))
}
