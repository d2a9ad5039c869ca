//! Normalisations as compositions, so that what depends on weights alone moves to `prepare`.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row(
        "BatchNormalization",
        ALL,
        &["Add", "Sqrt", "Div", "Mul", "Sub", "Unsqueeze", "Cast"],
        batch_normalization,
    ),
    row(
        "InstanceNormalization",
        ALL,
        &["ReduceMean", "Add", "Sqrt", "Div", "Mul", "Sub", "Unsqueeze"],
        instance_normalization,
    ),
    row("Softmax", (1, 12), &["Softmax", "Flatten", "Shape", "Reshape"], flat_softmax),
    row("LogSoftmax", (1, 12), &["LogSoftmax", "Flatten", "Shape", "Reshape"], flat_softmax),
];

/// `x · a + b` with `a = scale / √(var + ε)` and `b = B − mean · a`, one of each per channel.
fn batch_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    for name in ["momentum", "is_test", "consumed_inputs"] {
        call.ignore(name);
    }
    if call.int("training_mode", 0)? != 0 {
        return Err(OpError::new("training_mode is 1; engines are for inference"));
    }
    if call.int("spatial", 1)? != 1 {
        return Err(OpError::new("spatial is 0: statistics per element are not taken"));
    }
    let epsilon = call.float("epsilon", 1e-5)?;
    let (x, scale, shift) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (mean, variance) = (call.input(3)?, call.input(4)?);
    let deviation = deviation(call, variance, epsilon)?;
    let (scale, shift) = (cast_like(call, scale, mean)?, cast_like(call, shift, mean)?);
    let a = call.emit("Div", [scale, deviation], vec![])?;
    let moved = call.emit("Mul", [mean, a], vec![])?;
    let b = call.emit("Sub", [shift, moved], vec![])?;
    let (a, b) = (per_channel(call, x, a)?, per_channel(call, x, b)?);
    let (a, b) = (cast_like(call, a, x)?, cast_like(call, b, x)?);
    let scaled = call.emit("Mul", [x, a], vec![])?;
    call.finish("Add", [scaled, b], vec![])
}

fn instance_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let epsilon = call.float("epsilon", 1e-5)?;
    let (x, scale, shift) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let axes: Vec<i64> = (2..call.rank(x)? as i64).collect();
    let axes = call.vector(&axes);
    let mean = call.emit("ReduceMean", [x, axes], vec![])?;
    let centred = call.emit("Sub", [x, mean], vec![])?;
    let squares = call.emit("Mul", [centred, centred], vec![])?;
    let variance = call.emit("ReduceMean", [squares, axes], vec![])?;
    let deviation = deviation(call, variance, epsilon)?;
    let unit = call.emit("Div", [centred, deviation], vec![])?;
    let (scale, shift) = (per_channel(call, x, scale)?, per_channel(call, x, shift)?);
    let scaled = call.emit("Mul", [unit, scale], vec![])?;
    call.finish("Add", [scaled, shift], vec![])
}

/// `√(variance + ε)`
fn deviation(call: &mut Call<'_>, variance: ValueId, epsilon: f32) -> Result<ValueId, OpError> {
    let epsilon = call.scalar_like(variance, f64::from(epsilon))?;
    let shifted = call.emit("Add", [variance, epsilon], vec![])?;
    call.emit("Sqrt", [shifted], vec![])
}

/// A vector over channels with axes of size 1 behind, so that it meets axis 1 of `x`.
fn per_channel(call: &mut Call<'_>, x: ValueId, vector: ValueId) -> Result<ValueId, OpError> {
    let behind = call.rank(x)?.saturating_sub(2) as i64;
    if behind == 0 {
        return Ok(vector);
    }
    let axes: Vec<i64> = (1..=behind).collect();
    let axes = call.vector(&axes);
    call.emit("Unsqueeze", [vector, axes], vec![])
}

/// `value` in the element type of `like`: newer opsets keep statistics in another one.
fn cast_like(call: &mut Call<'_>, value: ValueId, like: ValueId) -> Result<ValueId, OpError> {
    let dtype = call.facts(like).dtype;
    call.cast(value, dtype)
}

/// Until opset 12 all axes from `axis` on were one.
fn flat_softmax(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let rank = call.rank(x)?;
    let axis = engine_ops::infer::axis(call.int("axis", 1)?, rank.max(1))?;
    let last = ("axis", Attr::Int(-1));
    if axis + 1 >= rank {
        return call.finish(call.op(), [x], vec![last]);
    }
    let flat = call.emit("Flatten", [x], vec![("axis", Attr::Int(axis as i64))])?;
    let op = if call.op() == "Softmax" { "Softmax" } else { "LogSoftmax" };
    let y = call.emit(op, [flat], vec![last])?;
    let shape = call.emit("Shape", [x], vec![])?;
    call.finish("Reshape", [y, shape], vec![])
}
