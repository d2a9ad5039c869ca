//! Normalisations: older forms of those in the table, and compositions.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("BatchNormalization", ALL, batch_normalization),
    row("InstanceNormalization", (1, 5), |call| {
        call.ignore("consumed_inputs");
        let inputs = call.inputs();
        call.same(inputs)
    }),
    row("GroupNormalization", (18, 20), group_normalization),
    row("MeanVarianceNormalization", ALL, mean_variance_normalization),
    row("LpNormalization", ALL, lp_normalization),
    row("Hardmax", (13, ALL.1), |call| {
        let (x, axis) = (call.input(0)?, call.int("axis", -1)?);
        hardmax(call, x, axis)
    }),
    row("Hardmax", (1, 12), |call| over_all_from_axis(call, |call, x| hardmax(call, x, -1))),
    row("Softmax", (1, 12), flat_softmax),
    row("LogSoftmax", (1, 12), flat_softmax),
];

/// Until opset 13 training was asked for by the number of results, and statistics could be per element.
fn batch_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    for name in ["is_test", "consumed_inputs"] {
        call.ignore(name);
    }
    if call.int("spatial", 1)? != 1 {
        return Err(OpError::new("spatial is 0: statistics per element are not taken"));
    }
    let momentum = call.float("momentum", 0.9)?;
    if call.int("training_mode", 0)? != 0 {
        return batch_normalization_in_training(call, momentum);
    }
    if call.asks_for(1) {
        return Err(OpError::new("statistics are results in training mode alone"));
    }
    let inputs = call.inputs();
    call.same(inputs)
}

/// Normalised by the batch's own statistics; those that were given move towards them by `1 − momentum`.
fn batch_normalization_in_training(call: &mut Call<'_>, momentum: f32) -> Result<Last, OpError> {
    let own = call.facts(call.input(0)?).dtype;
    let x = call.widened(call.input(0)?)?;
    let rank = call.rank(x)? as i64;
    if rank < 2 {
        return Err(OpError::new(format!("X has rank {rank}, expected a batch and channels")));
    }
    let axes: Vec<i64> = (0..rank).filter(|&axis| axis != 1).collect();
    let axes = call.vector(&axes);
    let mean = call.emit("ReduceMean", [x, axes], vec![])?;
    let centred = call.emit("Sub", [x, mean], vec![])?;
    let squares = call.emit("Mul", [centred, centred], vec![])?;
    let variance = call.emit("ReduceMean", [squares, axes], vec![])?;
    for (result, (given, found)) in [(3, mean), (4, variance)].into_iter().enumerate() {
        let given = call.input(given)?;
        let moved = towards(call, given, found, f64::from(momentum))?;
        call.give(result + 1, moved);
    }
    let epsilon = call.float("epsilon", 1e-5)?;
    let deviation = deviation(call, variance, epsilon)?;
    let unit = call.emit("Div", [centred, deviation], vec![])?;
    let mut column = vec![1; rank as usize];
    column[1] = -1;
    let column = call.vector(&column);
    let dtype = call.facts(x).dtype;
    let line = |call: &mut Call<'_>, operand: ValueId| {
        let operand = call.cast(operand, dtype)?;
        call.emit("Reshape", [operand, column], vec![])
    };
    let (scale, shift) = (line(call, call.input(1)?)?, line(call, call.input(2)?)?);
    let scaled = call.emit("Mul", [unit, scale], vec![])?;
    let y = call.finish("Add", [scaled, shift], vec![])?;
    call.narrowed(y, own)
}

/// `given · share + found · (1 − share)`, one for each channel, in the type of `given`.
fn towards(
    call: &mut Call<'_>,
    given: ValueId,
    found: ValueId,
    share: f64,
) -> Result<ValueId, OpError> {
    let flat = call.vector(&[-1]);
    let found = call.emit("Reshape", [found, flat], vec![])?;
    let dtype = call.facts(given).dtype;
    let found = call.cast(found, dtype)?;
    let (kept, new) = (call.scalar_of(dtype, share)?, call.scalar_of(dtype, 1.0 - share)?);
    let kept = call.emit("Mul", [given, kept], vec![])?;
    let new = call.emit("Mul", [found, new], vec![])?;
    call.emit("Add", [kept, new], vec![])
}

/// Until opset 20 scale and bias were per group; now they are per channel.
fn group_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let shape = call.facts(x).shape.clone().unwrap_or_default();
    let channels = shape.get(1).and_then(engine_format::Dim::known);
    let channels =
        channels.ok_or_else(|| OpError::new("the number of channels is needed and not known"))?;
    let groups = call.int("num_groups", 1)?;
    if groups <= 0 || channels % groups != 0 {
        return Err(OpError::new(format!("{channels} channels in {groups} groups of equal size")));
    }
    let scale = per_channel(call, 1, groups, channels / groups)?;
    let shift = per_channel(call, 2, groups, channels / groups)?;
    let mut last = call.same(vec![Some(x), Some(scale), Some(shift)])?;
    last.attrs.insert("num_groups".to_owned(), Attr::Int(groups));
    Ok(last)
}

/// Operand `i`, of one element per group, with each element repeated for the group's channels.
fn per_channel(call: &mut Call<'_>, i: usize, groups: i64, size: i64) -> Result<ValueId, OpError> {
    let (axis, target) = (call.vector(&[1]), call.vector(&[groups, size]));
    let column = call.emit("Unsqueeze", [call.input(i)?, axis], vec![])?;
    let table = call.emit("Expand", [column, target], vec![])?;
    let flat = call.vector(&[-1]);
    call.emit("Reshape", [table, flat], vec![])
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
    let dtype = call.facts(call.input(0)?).dtype;
    let x = call.widened(call.input(0)?)?;
    let axes = call.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = call.vector(axes);
    let unit = unit(call, x, axes, 1e-9)?;
    let unit = call.cast(unit, dtype)?;
    call.finish("Identity", [unit], vec![])
}

/// `x` over the norm of order 1 or 2 along one axis; where that is 0, so is `x`, and it stays.
fn lp_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let dtype = call.facts(call.input(0)?).dtype;
    let x = call.widened(call.input(0)?)?;
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
    let y = call.finish("Div", [x, norm], vec![])?;
    call.narrowed(y, dtype)
}

/// 1 at the first greatest element along an axis, 0 elsewhere.
fn hardmax(call: &mut Call<'_>, x: ValueId, axis: i64) -> Result<Last, OpError> {
    let rank = call.rank(x)?;
    let axis = engine_ops::infer::axis(axis, rank)? as i64;
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

fn flat_softmax(call: &mut Call<'_>) -> Result<Last, OpError> {
    let op = call.op();
    over_all_from_axis(call, |call, x| call.finish(op, [x], vec![("axis", Attr::Int(-1))]))
}

/// Until opset 12 all axes from `axis` on were one: what `along_last` ends with, for an operand of which these are the last.
fn over_all_from_axis(
    call: &mut Call<'_>,
    along_last: impl FnOnce(&mut Call<'_>, ValueId) -> Result<Last, OpError>,
) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let rank = call.rank(x)?;
    let axis = engine_ops::infer::axis(call.int("axis", 1)?, rank.max(1))?;
    if axis + 1 >= rank {
        return along_last(call, x);
    }
    let flat = call.emit("Flatten", [x], vec![("axis", Attr::Int(axis as i64))])?;
    let last = along_last(call, flat)?;
    let y = call.emit_last(last)?;
    let shape = call.emit("Shape", [x], vec![])?;
    call.finish("Reshape", [y, shape], vec![])
}
