//! Lists that were attributes and became operands: axes, sizes, bounds.

use super::{Adapter, row};
use crate::import::call::{Call, Last};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Squeeze", (1, 12), axes_operand),
    row("Unsqueeze", (1, 12), axes_operand),
    row("ReduceSum", (1, 12), axes_operand),
    row("ReduceMean", (1, 17), axes_operand),
    row("ReduceMax", (1, 17), axes_operand),
    row("ReduceMin", (1, 17), axes_operand),
    row("ReduceProd", (1, 17), axes_operand),
    row("ReduceL1", (1, 17), axes_operand),
    row("ReduceL2", (1, 17), axes_operand),
    row("ReduceLogSum", (1, 17), axes_operand),
    row("ReduceLogSumExp", (1, 17), axes_operand),
    row("ReduceSumSquare", (1, 17), axes_operand),
    row("Slice", (1, 9), slice),
    row("Split", (1, 12), split),
    row("TopK", (1, 9), top_k),
];

fn axes_operand(call: &mut Call<'_>) -> Result<Last, OpError> {
    let axes = call.ints("axes")?.map(|axes| call.vector(axes));
    call.same(vec![Some(call.input(0)?), axes])
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
