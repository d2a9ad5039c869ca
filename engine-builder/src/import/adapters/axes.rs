//! Lists that were attributes and became operands: axes, sizes, bounds.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Squeeze", (1, 12), &["Squeeze"], axes_operand),
    row("Unsqueeze", (1, 12), &["Unsqueeze"], axes_operand),
    row("ReduceSum", (1, 12), &["ReduceSum"], axes_operand),
    row("ReduceMean", (1, 17), &["ReduceMean"], axes_operand),
    row("ReduceMax", (1, 17), &["ReduceMax"], axes_operand),
    row("ReduceMin", (1, 17), &["ReduceMin"], axes_operand),
    row("ReduceProd", (1, 17), &["ReduceProd"], axes_operand),
    row("ReduceL1", ALL, &["Abs", "ReduceSum"], |call| reduce(call, &["Abs"], &[])),
    row("ReduceL2", ALL, &["Mul", "ReduceSum", "Sqrt"], |call| reduce(call, &["Mul"], &["Sqrt"])),
    row("ReduceLogSum", ALL, &["ReduceSum", "Log"], |call| reduce(call, &[], &["Log"])),
    row("ReduceSumSquare", ALL, &["Mul", "ReduceSum"], |call| reduce(call, &["Mul"], &[])),
    row("Slice", (1, 9), &["Slice"], slice),
    row("Split", (1, 12), &["Split"], split),
    row("TopK", (1, 9), &["TopK"], top_k),
];

/// Operands of a node whose `axes` may be an attribute (until opset 12 or 17) or the second operand (since).
fn with_axes(call: &mut Call<'_>) -> Result<Vec<Option<engine_format::ValueId>>, OpError> {
    let axes = match call.ints("axes")? {
        Some(axes) => Some(call.vector(axes)),
        None => call.opt(1),
    };
    Ok(vec![Some(call.input(0)?), axes])
}

fn axes_operand(call: &mut Call<'_>) -> Result<Last, OpError> {
    let inputs = with_axes(call)?;
    call.same(inputs)
}

/// `after(ReduceSum(before(x)))`, where `Mul` multiplies its operand by itself.
fn reduce(
    call: &mut Call<'_>,
    before: &[&'static str],
    after: &[&'static str],
) -> Result<Last, OpError> {
    let mut inputs = with_axes(call)?;
    let mut x = call.input(0)?;
    for &op in before {
        x = match op {
            "Mul" => call.emit("Mul", [x, x], vec![])?,
            op => call.emit(op, [x], vec![])?,
        };
    }
    inputs[0] = Some(x);
    let sum = call.same_as("ReduceSum", inputs)?;
    let Some((&op, between)) = after.split_last() else { return Ok(sum) };
    let mut y = call.emit_last(sum)?;
    for &op in between {
        y = call.emit(op, [y], vec![])?;
    }
    call.finish(op, [y], vec![])
}

fn slice(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (starts, ends) = (call.required_ints("starts")?, call.required_ints("ends")?);
    let axes = call.ints("axes")?;
    let (starts, ends) = (call.vector(starts), call.vector(ends));
    let axes = axes.map(|axes| call.vector(axes));
    let inputs = vec![Some(call.input(0)?), Some(starts), Some(ends), axes];
    call.last("Slice", inputs, vec![])
}

fn split(call: &mut Call<'_>) -> Result<Last, OpError> {
    let sizes = match call.ints("split")? {
        Some(sizes) => Some(call.vector(sizes)),
        None => call.opt(1),
    };
    let inputs = vec![Some(call.input(0)?), sizes];
    call.same(inputs)
}

fn top_k(call: &mut Call<'_>) -> Result<Last, OpError> {
    let k = call.int("k", 1)?;
    let k = call.vector(&[k]);
    let inputs = vec![Some(call.input(0)?), Some(k)];
    call.same(inputs)
}
