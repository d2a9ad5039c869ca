//! Choice between two operands.

use super::binary::dims_of;
use crate::broadcast::{Shaped, choose};
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{Formula, program};
use crate::infer::{Facts, InferCtx, InferError, Known, broadcast};
use crate::{OnnxName, OpDef, OpError, Operand, Text};
use engine_format::{DType, Element, Tensor};

pub static WHERE: OpDef = OpDef {
    name: "Where",
    doc: "`condition ? X : Y` at each position, with broadcasting of all three.",
    onnx: &[OnnxName::since("Where", 9)],
    inputs: &[
        Operand::data("condition").of(&[DType::Bool]),
        Operand::data("X"),
        Operand::data("Y").like(1),
    ],
    outputs: &["output"],
    elementwise: true,
    infer,
    text: Text::Ranks,
    cpu: Cpu::kernel(run),
    gpu: Some(|ctx| {
        let y = "select(c, b, a != 0u)";
        program(
            ctx,
            &Formula { label: "Where", operands: [0, 1, 2], functions: &[], y, params: [0; 3] },
        )
    }),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (c, x, y) = (ctx.facts(0)?, ctx.facts(1)?, ctx.facts(2)?);
    let (Some(cs), Some(xs), Some(ys)) = (&c.shape, &x.shape, &y.shape) else {
        return Ok(vec![Facts::unranked(x.dtype)]);
    };
    let mut facts = Facts::new(x.dtype, broadcast(&[cs, xs, ys])?);
    facts.value = known(ctx);
    Ok(vec![facts])
}

/// The chosen expressions, where the condition and both vectors of sizes are known.
fn known(ctx: &InferCtx<'_>) -> Option<Known> {
    let (x, y) = (dims_of(ctx, 1)?, dims_of(ctx, 2)?);
    let condition = ctx.tensor(0).ok().filter(|c| c.shape().len() <= 1)?.to_i64s()?;
    let n = [condition.len(), x.len(), y.len()].into_iter().find(|&n| n != 1).unwrap_or(1);
    let at = |len: usize, i: usize| if len == 1 { 0 } else { i };
    let pick = |i: usize| match condition[at(condition.len(), i)] {
        0 => y[at(y.len(), i)].clone(),
        _ => x[at(x.len(), i)].clone(),
    };
    Some(Known::Dims((0..n).map(pick).collect()))
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    match ctx.input(1).dtype.width() {
        1 => by_width::<u8>(ctx),
        2 => by_width::<u16>(ctx),
        4 => by_width::<u32>(ctx),
        _ => by_width::<u64>(ctx),
    }
}

/// Only the width of elements matters: they are copied, bit for bit.
fn by_width<T: Element>(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (c, x, y) = (ctx.input(0), ctx.input(1), ctx.input(2));
    let out = ctx.output();
    choose(
        out.shape,
        bytemuck::cast_slice_mut::<u8, T>(out.bytes),
        Shaped { shape: c.shape, data: c.bytes },
        Shaped { shape: x.shape, data: bytemuck::cast_slice::<u8, T>(x.bytes) },
        Shaped { shape: y.shape, data: bytemuck::cast_slice::<u8, T>(y.bytes) },
    )
}

fn cases() -> Vec<Case> {
    let mask = Tensor::from_bools(&[2, 3], &[true, false, true, false, false, true]);
    let row = Tensor::from_bools(&[3], &[true, false, true]);
    let x = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, f32::NAN, 4.0, 5.0, f32::INFINITY]);
    let picked = [1.0f32, -9.0, f32::NAN, -9.0, -9.0, f32::INFINITY];
    let wide = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
    vec![
        Case::new("masked fill", vec![mask.clone(), x, Tensor::from_slice(&[], &[-9.0f32])])
            .expect(vec![Tensor::from_slice(&[2, 3], &picked)]),
        Case::new("i64", vec![row.clone(), wide(&[1 << 40, -2, -3]), wide(&[7])])
            .expect(vec![wide(&[1 << 40, 7, -3])]),
        Case::new(
            "bool",
            vec![
                row.clone(),
                Tensor::from_bools(&[1], &[false]),
                Tensor::from_bools(&[1], &[true]),
            ],
        )
        .expect(vec![Tensor::from_bools(&[3], &[false, true, false])]),
        Case::new(
            "one condition for a row",
            vec![Tensor::from_bools(&[2, 1], &[true, false]), ramp(&[5]), ramp(&[2, 5])],
        ),
        Case::new("all three are repeated", vec![row, ramp(&[4, 1, 1]), ramp(&[2, 1])]),
        Case::new("a repeated value first", vec![mask, ramp(&[]), ramp(&[2, 3])]),
    ]
}
