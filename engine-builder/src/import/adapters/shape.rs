//! Operators that move or make data: older spellings, and tensors as attributes.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last, scalar};
use engine_format::{Attr, DType};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Reshape", (1, 4), reshape),
    row("Concat", (1, 3), concat),
    row("Tile", (1, 5), tile),
    row("Pad", (1, 10), pad),
    row("ConstantOfShape", ALL, constant_of_shape),
    row("Range", (27, ALL.1), |call| {
        // The type in which halves are calculated, f32 if nothing is said, is never a narrower one.
        call.ignore("stash_type");
        let inputs = call.inputs();
        call.same(inputs)
    }),
    row("Scatter", ALL, |call| {
        let inputs = call.inputs();
        call.same_as("ScatterElements", inputs)
    }),
];

fn reshape(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let shape = call.required_ints("shape")?;
    let shape = call.vector(shape);
    call.finish("Reshape", [call.input(0)?, shape], vec![])
}

/// `axis` had a default, 1, that later opsets dropped.
fn concat(call: &mut Call<'_>) -> Result<Last, OpError> {
    let axis = call.int("axis", 1)?;
    call.last("Concat", call.inputs(), vec![("axis", Attr::Int(axis))])
}

/// Until opset 5 one axis was repeated, `tiles` times along `axis`, both operands.
fn tile(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let (tiles, axis) = (call.input(1)?, call.input(2)?);
    let at = call.decide(axis).and_then(|t| t.to_i64s()).and_then(|v| v.first().copied());
    let at = at.ok_or_else(|| OpError::new("operand axis must be a constant integer"))?;
    let rank = call.rank(x)?;
    let before = usize::try_from(at).ok().filter(|&at| at < rank);
    let before = before.ok_or_else(|| OpError::new(format!("axis {at}, expected 0..{rank}")))?;
    let (left, right) = (call.vector(&vec![1; before]), call.vector(&vec![1; rank - before - 1]));
    let one = call.vector(&[1]);
    let tiles = call.emit("Reshape", [tiles, one], vec![])?;
    let tiles = call.cast(tiles, DType::I64)?;
    let repeats = call.emit("Concat", [left, tiles, right], vec![("axis", Attr::Int(0))])?;
    call.finish("Tile", [x, repeats], vec![])
}

/// `pads` (`paddings` in opset 1) and `value` were attributes.
fn pad(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let pads = match call.ints("paddings")? {
        Some(pads) => pads,
        None => call.required_ints("pads")?,
    };
    let value = call.float("value", 0.0)?;
    let pads = call.vector(pads);
    let value = call.scalar_like(x, f64::from(value))?;
    call.same(vec![Some(x), Some(pads), Some(value)])
}

/// A tensor as an attribute has no form in engines: one element, stretched.
fn constant_of_shape(call: &mut Call<'_>) -> Result<Last, OpError> {
    let value = match call.tensor("value")? {
        None => scalar(DType::F32, 0.0)?,
        Some(tensor) => tensor.reshaped(&[]).map_err(|_| {
            let shape = tensor.shape();
            OpError::new(format!("attribute \"value\" has shape {shape:?}, expected one element"))
        })?,
    };
    let value = call.literal(value);
    call.finish("Expand", [value, call.input(0)?], vec![])
}
