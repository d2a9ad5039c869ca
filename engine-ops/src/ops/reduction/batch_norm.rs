//! Batch normalisation with statistics that are given: its form at inference.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, CpuShapes, TensorRef};
use crate::dtypes::FLOATS;
use crate::float::Float;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::parallel::pieces;
use crate::reduction::{calc_scratch, in_calc};
use crate::{AttrDef, OpDef, OpError, Operand, Tolerance};
use engine_format::{DType, Tensor};

pub static BATCH_NORMALIZATION: OpDef = OpDef {
    name: "BatchNormalization",
    doc: "`(x − mean) / √(variance + epsilon) · scale + B` with one of each for every channel (axis 1). The form used in training \
          is a composition.",
    attrs: &[AttrDef::float("epsilon", 1e-5)],
    inputs: &[
        Operand::data("X").of(FLOATS),
        Operand::data("scale").of(FLOATS).shaped("C").learned(),
        Operand::data("B").of(FLOATS).shaped("C").learned(),
        Operand::data("input_mean").of(FLOATS).shaped("C").learned(),
        Operand::data("input_var").of(FLOATS).shaped("C").learned(),
    ],
    infer,
    cpu: Cpu::Kernel { run, scratch },
    gpu: Some(gpu),
    tolerance: Tolerance::ELEMENTWISE,
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let channels = x.shape.as_ref().map(|s| s.get(1).map_or(Some(1), |d| d.known()));
    for i in 1..5 {
        let facts = ctx.facts(i)?;
        let n = facts.shape.as_ref().and_then(|s| s.first()?.known());
        let differs = matches!((channels.flatten(), n), (Some(c), Some(n)) if c != n);
        if differs {
            return Err(InferError::invalid(format!(
                "operand {i} is {facts}, expected one for each channel of {x}"
            )));
        }
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// Channels, and elements of one channel that lie together.
fn layout(shape: &[usize]) -> (usize, usize) {
    (shape.get(1).copied().unwrap_or(1), shape.get(2..).unwrap_or(&[]).iter().product())
}

fn scratch(shapes: &CpuShapes<'_>) -> usize {
    let Some(x) = &shapes.inputs[0] else { return 0 };
    let direct = matches!(x.dtype, DType::F32 | DType::F64);
    let converted = if direct { 0 } else { calc_scratch::<f32>(x.len(), x.len()) };
    converted + layout(&x.shape).0 * 2 * size_of::<f64>()
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    match ctx.input(0).dtype {
        DType::F64 => apply::<f64>(ctx),
        _ => apply::<f32>(ctx),
    }
}

fn apply<W: Float>(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let (channels, space) = layout(x.shape);
    let epsilon = W::of(ctx.attrs.float("epsilon"));
    let operands = [1, 2, 3, 4].map(|i| ctx.input(i));
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let (lines, scratch) = ctx.scratch.split_at_mut(channels * 2 * size_of::<f64>());
    let lines: &mut [W] = &mut bytemuck::cast_slice_mut(lines)[..channels * 2];
    for (c, line) in lines.chunks_exact_mut(2).enumerate() {
        let [scale, shift, mean, variance] = operands.map(|x| at::<W>(x, c));
        let factor = scale.div(variance.add(epsilon).sqrt());
        line.copy_from_slice(&[factor, shift.sub(mean.mul(factor))]);
    }
    in_calc::<W>(x, y, scratch, |x, y| {
        pieces(y, space, 1, |start, y| {
            for (i, y) in y.chunks_exact_mut(space.max(1)).enumerate() {
                let from = start + i * space;
                let c = from / space % channels;
                let (factor, shift) = (lines[2 * c], lines[2 * c + 1]);
                let x = &x[from..from + space];
                x.iter().zip(y).for_each(|(&x, y)| *y = x.mul(factor).add(shift));
            }
        });
        Ok(())
    })
}

/// One element, in the calculating type; the statistics may have another type than `x`.
fn at<W: Float>(x: TensorRef<'_>, i: usize) -> W {
    let mut value = [0.0f64];
    f64::load(x.dtype, x.bytes, i, &mut value);
    W::of64(value[0])
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    if ctx.inputs.iter().flatten().any(|m| element_type(m.dtype) != Some("f32")) {
        return Ok(None);
    }
    let x = ctx.input(0);
    let (channels, space) = layout(&x.shape);
    let y = rounded(x.dtype, "((x - m_in[c]) * factor + b_in[c])");
    let n = x.len();
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "BatchNormalization".into(),
        wgsl: render(include_str!("batch_norm.wgsl"), &[("functions", PRELUDE), ("y", &y)]).into(),
        binds: (0..5).map(Bind::In).chain([Bind::Out(0)]).collect(),
        params: vec![n as u32, channels as u32, space as u32, ctx.attrs.float("epsilon").to_bits()],
        groups: ctx.limits.linear(n, 256),
    })))
}

fn cases() -> Vec<Case> {
    let f = |shape: &[usize], v: &[f32]| Tensor::from_slice(shape, v);
    let x = f(&[1, 2, 2], &[1.0, 2.0, 3.0, f32::NAN]);
    let lines = |v: [[f32; 2]; 4]| v.map(|v| f(&[2], &v));
    let [scale, shift, mean, variance] =
        lines([[2.0, 1.0], [0.5, -1.0], [1.0, 2.0], [3.99999, 0.24999]]);
    let positive = Tensor::from_slice(&[3], &[0.5f32, 1.25, 4.0]);
    let of =
        |shape: &[usize]| vec![ramp(shape), ramp(&[3]), ramp(&[3]), ramp(&[3]), positive.clone()];
    vec![
        Case::new("two channels", vec![x, scale, shift, mean, variance])
            .expect(vec![f(&[1, 2, 2], &[0.5, 1.5, 1.0, f32::NAN])]),
        Case::new("image", of(&[2, 3, 17, 5])),
        Case::new("without space", of(&[4, 3])),
    ]
}
