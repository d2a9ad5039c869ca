//! Normalisations as compositions, so that what depends on weights alone moves to `prepare`.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
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
    row(
        "RMSNormalization",
        ALL,
        &["Add", "Cast", "Div", "Mul", "ReduceMean", "Sqrt"],
        rms_normalization,
    ),
    row(
        "GroupNormalization",
        (21, ALL.1),
        &[
            "Add",
            "Cast",
            "Div",
            "Mul",
            "ReduceMean",
            "Reshape",
            "Shape",
            "Sqrt",
            "Sub",
            "Unsqueeze",
        ],
        group_normalization,
    ),
    row(
        "MeanVarianceNormalization",
        ALL,
        &["Add", "Div", "Mul", "ReduceMean", "Sqrt", "Sub"],
        mean_variance_normalization,
    ),
    row(
        "LpNormalization",
        ALL,
        &["Abs", "Div", "Equal", "Mul", "ReduceSum", "Sqrt", "Where"],
        lp_normalization,
    ),
    row(
        "Hardmax",
        (13, ALL.1),
        &["ArgMax", "Cast", "CumSum", "Equal", "Expand", "Shape", "Unsqueeze"],
        hardmax,
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

/// `x / √(mean(x²) + ε) · scale` over the axes from `axis` on, computed in `stash_type`.
fn rms_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let epsilon = call.float("epsilon", 1e-5)?;
    let stash = call.element_type("stash_type")?.unwrap_or(DType::F32);
    let rank = call.rank(x)?;
    let axis = engine_ops::infer::axis(call.int("axis", -1)?, rank)?;
    let axes: Vec<i64> = (axis as i64..rank as i64).collect();
    let axes = call.vector(&axes);
    let wide = call.cast(x, stash)?;
    let squares = call.emit("Mul", [wide, wide], vec![])?;
    let mean = call.emit("ReduceMean", [squares, axes], vec![])?;
    let size = deviation(call, mean, epsilon)?;
    let unit = call.emit("Div", [wide, size], vec![])?;
    let unit = cast_like(call, unit, x)?;
    // Where the scale is wider than the operand the product is formed in the wider type.
    let dtype = call.facts(scale).dtype;
    let unit = call.cast(unit, dtype)?;
    let y = call.emit("Mul", [unit, scale], vec![])?;
    let y = cast_like(call, y, x)?;
    call.finish("Identity", [y], vec![])
}

/// Each group of channels on its own, then scale and shift by channel.
fn group_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, scale, shift) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let epsilon = call.float("epsilon", 1e-5)?;
    let stash = call.element_type("stash_type")?.unwrap_or(DType::F32);
    let groups = call.int("num_groups", 0)?;
    let shape = call.sizes(x, 0, i64::MAX)?;
    let grouped = call.vector(&[0, groups, -1]);
    let wide = call.cast(x, stash)?;
    let wide = call.emit("Reshape", [wide, grouped], vec![])?;
    let axes = call.vector(&[2]);
    let unit = unit(call, wide, axes, epsilon)?;
    let unit = call.emit("Reshape", [unit, shape], vec![])?;
    let unit = cast_like(call, unit, x)?;
    let (scale, shift) = (per_channel(call, x, scale)?, per_channel(call, x, shift)?);
    let scaled = call.emit("Mul", [unit, scale], vec![])?;
    call.finish("Add", [scaled, shift], vec![])
}

/// `(x − mean) / √(variance + ε)` over `axes`.
fn unit(call: &mut Call<'_>, x: ValueId, axes: ValueId, epsilon: f32) -> Result<ValueId, OpError> {
    let mean = call.emit("ReduceMean", [x, axes], vec![])?;
    let centred = call.emit("Sub", [x, mean], vec![])?;
    let squares = call.emit("Mul", [centred, centred], vec![])?;
    let variance = call.emit("ReduceMean", [squares, axes], vec![])?;
    let deviation = deviation(call, variance, epsilon)?;
    call.emit("Div", [centred, deviation], vec![])
}

fn mean_variance_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let axes = call.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = call.vector(axes);
    let unit = unit(call, x, axes, 1e-9)?;
    call.finish("Identity", [unit], vec![])
}

/// `x` over the norm of order 1 or 2 along one axis; where that is 0, so is `x`, and it stays.
fn lp_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let axis = call.int("axis", -1)?;
    let axes = call.vector(&[axis]);
    let norm = match call.int("p", 2)? {
        1 => {
            let sizes = call.emit("Abs", [x], vec![])?;
            call.emit("ReduceSum", [sizes, axes], vec![])?
        }
        2 => {
            let squares = call.emit("Mul", [x, x], vec![])?;
            let sum = call.emit("ReduceSum", [squares, axes], vec![])?;
            call.emit("Sqrt", [sum], vec![])?
        }
        p => return Err(OpError::new(format!("p is {p}, expected 1 or 2"))),
    };
    let (zero, one) = (call.scalar_like(x, 0.0)?, call.scalar_like(x, 1.0)?);
    let nothing = call.emit("Equal", [norm, zero], vec![])?;
    let norm = call.emit("Where", [nothing, one, norm], vec![])?;
    call.finish("Div", [x, norm], vec![])
}

/// 1 at the first greatest element along an axis, 0 elsewhere.
fn hardmax(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let rank = call.rank(x)?;
    let axis = engine_ops::infer::axis(call.int("axis", -1)?, rank)? as i64;
    let best = call.emit("ArgMax", [x], vec![("axis", Attr::Int(axis))])?;
    let count = call.sizes(x, axis, axis + 1)?;
    let mut places = super::attention::iota(call, count)?;
    let behind: Vec<i64> = (1..rank as i64 - axis).collect();
    if !behind.is_empty() {
        let behind = call.vector(&behind);
        places = call.emit("Unsqueeze", [places, behind], vec![])?;
    }
    let here = call.emit("Equal", [places, best], vec![])?;
    let dtype = call.facts(x).dtype;
    let y = call.cast(here, dtype)?;
    call.finish("Identity", [y], vec![])
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
