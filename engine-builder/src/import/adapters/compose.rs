//! Operators that are compositions of others in every opset.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::Attr;
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("GlobalAveragePool", ALL, &["ReduceMean"], |call| global_pool(call, "ReduceMean")),
    row("GlobalMaxPool", ALL, &["ReduceMax"], |call| global_pool(call, "ReduceMax")),
    row("Sum", ALL, &["Add", "Identity"], sum),
    row("Mean", ALL, &["Add", "Mul"], mean),
];

/// A reduction over every axis behind batch and channels.
fn global_pool(call: &mut Call<'_>, reduction: &'static str) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let axes: Vec<i64> = (2..call.rank(x)? as i64).collect();
    let axes = call.vector(&axes);
    // Without this a batch of vectors, which has no axes to reduce, would lose the two it has.
    let nothing = ("noop_with_empty_axes", Attr::Int(1));
    call.finish(reduction, [x, axes], vec![("keepdims", Attr::Int(1)), nothing])
}

fn sum(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let operands: Vec<_> = call.inputs().into_iter().flatten().collect();
    let Some((&last, before)) = operands.split_last() else {
        return Err(OpError::new("takes at least one operand"));
    };
    let Some((&first, rest)) = before.split_first() else {
        return call.finish("Identity", [last], vec![]);
    };
    let mut total = first;
    for &operand in rest {
        total = call.emit("Add", [total, operand], vec![])?;
    }
    call.finish("Add", [total, last], vec![])
}

fn mean(call: &mut Call<'_>) -> Result<Last, OpError> {
    let count = call.inputs().len();
    let total = sum(call)?;
    let total = call.emit_last(total)?;
    let share = call.scalar_like(total, 1.0 / count as f64)?;
    call.finish("Mul", [total, share], vec![])
}
