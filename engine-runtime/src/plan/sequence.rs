//! Planning sequences and optional values: lists of tensors are taken apart and put together while planning.

use super::item::{Call, Item, Sequence, Val};
use super::node::Applied;
use super::program::Op;
use super::walk::{Stop, Walk};
use crate::error::RunError;
use engine_format::{Attr, Attrs, DType, Tensor};
use engine_ops::AttrsExt;
use engine_ops::infer::axis;
use engine_ops::{lookup, onnx_dtype};
use std::sync::Arc;

/// Elements that a tensor is taken apart into at most; each is a value of the plan.
const MOST_PIECES: usize = 1 << 20;

/// Gives the result of a node.
pub(super) type Plan = fn(&mut Walk<'_>, &Op, &[Option<Item>]) -> Result<Item, Stop>;

/// Every operator on sequences and optional values.
static PLANS: &[(&str, Plan)] = &[
    ("SequenceConstruct", construct),
    ("SequenceEmpty", empty),
    ("SequenceInsert", insert),
    ("SequenceErase", erase),
    ("SequenceAt", at),
    ("SequenceLength", length),
    ("ConcatFromSequence", concat),
    ("SplitToSequence", split),
    ("Optional", optional),
    ("OptionalHasElement", has_element),
    ("OptionalGetElement", get_element),
];

/// How an operator of this name is planned.
pub(super) fn find(op: &str) -> Option<Plan> {
    PLANS.iter().find(|(name, _)| *name == op).map(|(_, plan)| *plan)
}

fn construct(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let elements = (0..operands.len()).map(|i| walk.tensor(op, operands, i));
    let elements: Vec<Val> = elements.collect::<Result<_, _>>()?;
    let dtype = elements[0].meta.dtype;
    if let Some(i) = elements.iter().position(|val| val.meta.dtype != dtype) {
        let why = format!("operand {i} has another element type than operand 0");
        return Err(op.error(operands, why).into());
    }
    Ok(Item::Sequence(Sequence { dtype, elements }))
}

fn empty(_: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let dtype = onnx_dtype(op.attrs.int("dtype"));
    let dtype = dtype.map_err(|why| op.error(operands, why.to_string()))?;
    Ok(Item::Sequence(Sequence { dtype, elements: Vec::new() }))
}

fn insert(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let mut sequence = walk.sequence(op, operands, 0)?;
    let val = walk.tensor(op, operands, 1)?;
    if val.meta.dtype != sequence.dtype {
        return Err(op.error(operands, "the tensor has another element type").into());
    }
    let n = sequence.elements.len();
    let at = position(walk, op, operands, 2, n + 1)?.unwrap_or(n);
    sequence.elements.insert(at, val);
    Ok(Item::Sequence(sequence))
}

fn erase(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let mut sequence = walk.sequence(op, operands, 0)?;
    let n = sequence.elements.len();
    let at = match position(walk, op, operands, 1, n)? {
        Some(at) => at,
        None => n.checked_sub(1).ok_or_else(|| op.error(operands, "there is no element"))?,
    };
    sequence.elements.remove(at);
    Ok(Item::Sequence(sequence))
}

fn at(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let mut sequence = walk.sequence(op, operands, 0)?;
    let at = position(walk, op, operands, 1, sequence.elements.len())?;
    Ok(Item::Tensor(sequence.elements.swap_remove(at.expect("checked at load: it is required"))))
}

/// Operand `i` as a position below `end`; negative ones count from the number of elements. `None` if it is omitted.
fn position(
    walk: &Walk<'_>,
    op: &Op,
    operands: &[Option<Item>],
    i: usize,
    end: usize,
) -> Result<Option<usize>, Stop> {
    if operands.get(i).is_none_or(Option::is_none) {
        return Ok(None);
    }
    let position = walk.number(op, operands, i)?;
    let n = walk.sequence(op, operands, 0)?.elements.len() as i64;
    let from_start = if position < 0 { position + n } else { position };
    match usize::try_from(from_start) {
        Ok(at) if at < end => Ok(Some(at)),
        _ => {
            let why = format!("position {position} in a sequence of {n}, expected {}..{end}", -n);
            Err(op.error(operands, why).into())
        }
    }
}

fn length(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let n = walk.sequence(op, operands, 0)?.elements.len() as i64;
    Ok(Item::Tensor(Val::known(None, Tensor::from_slice(&[], &[n]))))
}

fn concat(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let Sequence { elements, .. } = walk.sequence(op, operands, 0)?;
    let Some(first) = elements.first() else {
        return Err(op.error(operands, "there is nothing to join: the sequence is empty").into());
    };
    let (rank, new_axis) = (first.meta.shape.len(), op.attrs.int("new_axis") != 0);
    let along = axis(op.attrs.int("axis"), rank + usize::from(new_axis));
    let along = along.map_err(|why| op.error(operands, why.to_string()))?;
    let other = |val: &Val| new_axis && val.meta.shape != first.meta.shape;
    if let Some(i) = elements.iter().position(other) {
        let (found, expected) = (&elements[i].meta.shape, &first.meta.shape);
        let why = format!("element {i} has shape {found:?}, element 0 has {expected:?}");
        return Err(op.error(operands, why).into());
    }
    Ok(Item::Tensor(walk.join(op, elements, along, new_axis)?))
}

fn split(walk: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let val = walk.tensor(op, operands, 0)?;
    let along = axis(op.attrs.int("axis"), val.meta.shape.len());
    let along = along.map_err(|why| op.error(operands, why.to_string()))?;
    let whole = val.meta.shape[along];
    let fail = |why: String| Stop::Error(op.error(operands, why));
    // No device takes strings apart: the plan waits for them.
    if val.meta.dtype == DType::String && val.value.is_none() {
        return Err(Stop::contents(op, 0));
    }
    let given = operands.get(1).is_some_and(Option::is_some);
    let sizes = match given {
        false => pieces(whole, 1).map_err(fail)?,
        true => {
            let split = walk.tensor(op, operands, 1)?;
            let sizes = walk.numbers(op, operands, 1)?;
            match (split.meta.shape.len(), &sizes[..]) {
                (0, &[size]) => pieces(whole, size).map_err(fail)?,
                _ => sizes_of(whole, &sizes).map_err(fail)?,
            }
        }
    };
    let mut elements = walk.split(op, &val, along, &sizes)?;
    if !given && op.attrs.int("keepdims") == 0 {
        let mut shape = val.meta.shape.clone();
        shape.remove(along);
        elements = elements.iter().map(|piece| piece.reshaped(shape.clone())).collect();
    }
    Ok(Item::Sequence(Sequence { dtype: val.meta.dtype, elements }))
}

/// An axis of size `whole` in pieces of size `size`, the last one smaller where it does not divide.
fn pieces(whole: usize, size: i64) -> Result<Vec<usize>, String> {
    let size = usize::try_from(size).ok().filter(|&size| size > 0);
    let size = size.ok_or_else(|| "the size of the pieces must be at least 1".to_owned())?;
    let count = whole.div_ceil(size);
    if count > MOST_PIECES {
        return Err(format!("{count} pieces, expected at most {MOST_PIECES}"));
    }
    Ok((0..whole.div_ceil(size)).map(|i| size.min(whole - i * size)).collect())
}

/// Sizes that add up to an axis of size `whole`.
fn sizes_of(whole: usize, sizes: &[i64]) -> Result<Vec<usize>, String> {
    let wrong =
        || format!("split {sizes:?} of an axis of size {whole}, expected sizes that add up to it");
    let found: Option<Vec<usize>> = sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
    let found = found.ok_or_else(wrong)?;
    let sum = found.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    if sum == Some(whole) { Ok(found) } else { Err(wrong()) }
}

/// One that is there is the value itself.
fn optional(_: &mut Walk<'_>, _: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    Ok(operands.first().cloned().flatten().unwrap_or(Item::Absent))
}

fn has_element(_: &mut Walk<'_>, _: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    let there = !matches!(operands.first(), None | Some(None | Some(Item::Absent)));
    Ok(Item::Tensor(Val::known(None, Tensor::from_bools(&[], &[there]))))
}

fn get_element(_: &mut Walk<'_>, op: &Op, operands: &[Option<Item>]) -> Result<Item, Stop> {
    match operands.first() {
        Some(Some(Item::Absent)) => Err(op
            .error(operands, "the optional value is absent, expected one that is there")
            .into()),
        Some(Some(item)) => Ok(item.clone()),
        _ => Err(op.error(operands, "operand 0 is missing").into()),
    }
}

impl Walk<'_> {
    /// The pieces of `val` of these sizes, which add up to the axis.
    pub fn split(
        &mut self,
        op: &Op,
        val: &Val,
        along: usize,
        sizes: &[usize],
    ) -> Result<Vec<Val>, RunError> {
        if sizes.is_empty() {
            return Ok(Vec::new());
        }
        if sizes.len() == 1 {
            return Ok(vec![val.clone()]);
        }
        let list: Vec<i64> = sizes.iter().map(|&n| n as i64).collect();
        let list = Val::known(None, Tensor::from_slice(&[list.len()], &list));
        let attrs = Attrs::from([("axis".to_owned(), Attr::Int(along as i64))]);
        self.apply(op, "Split", attrs, &[Some(val.clone()), Some(list)], sizes.len())
    }

    /// `vals` one after the other along an axis, which is a new one if `new_axis` says so.
    pub fn join(
        &mut self,
        op: &Op,
        vals: Vec<Val>,
        along: usize,
        new_axis: bool,
    ) -> Result<Val, RunError> {
        let widened = |val: Val| {
            let mut shape = val.meta.shape.clone();
            if new_axis {
                shape.insert(along, 1);
            }
            val.reshaped(shape)
        };
        let mut vals: Vec<Val> = vals.into_iter().map(widened).collect();
        if vals.len() == 1 {
            return Ok(vals.swap_remove(0));
        }
        let vals: Vec<Option<Val>> = vals.into_iter().map(Some).collect();
        let attrs = Attrs::from([("axis".to_owned(), Attr::Int(along as i64))]);
        Ok(self.apply(op, "Concat", attrs, &vals, 1)?.swap_remove(0))
    }

    /// Applies an operator of the table in the place of `op`. The contents of operands that decide are known.
    fn apply(
        &mut self,
        op: &Op,
        name: &str,
        attrs: Attrs,
        inputs: &[Option<Val>],
        results: usize,
    ) -> Result<Vec<Val>, RunError> {
        let def = lookup(name, 1).expect("the operator is in the table");
        let attrs = def.normalise(attrs).expect("the attributes are those of the operator");
        let (attrs, asked) = (Arc::new(attrs), vec![true; results]);
        let call = Call { def, attrs: &attrs, path: &op.path, asked: &asked };
        match call.apply(inputs, &mut self.builder)? {
            Applied::Results(vals) => Ok(vals.into_iter().flatten().collect()),
            // Sizes are known; strings may not be.
            Applied::Needs(_) | Applied::OnHost => {
                let why = "strings are put together and taken apart only where a plan knows them";
                Err(op.error(&[], why))
            }
        }
    }

    /// The integers that are operand `i`, for which the walk waits.
    fn numbers(&self, op: &Op, operands: &[Option<Item>], i: usize) -> Result<Vec<i64>, Stop> {
        let val = self.tensor(op, operands, i)?;
        if !val.meta.dtype.is_int() {
            return Err(op.error(operands, format!("operand {i}: expected integers")).into());
        }
        let Some(tensor) = val.value else { return Err(Stop::contents(op, i)) };
        let beyond = || op.error(operands, format!("operand {i}: a number beyond those of i64"));
        Ok(tensor.to_i64s().ok_or_else(beyond)?)
    }
}
