//! EyeLike: ones on a diagonal.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::cast;
use crate::cpu::{Cpu, CpuCtx, TensorMut, TensorRef};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, words};
use crate::infer::{Facts, InferCtx, InferError};
use crate::onnx_dtype;
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, DType, Tensor};

/// EyeLike.
pub static EYE_LIKE: OpDef = OpDef {
    name: "EyeLike",
    doc: "A matrix of the operand's shape, of type `dtype` (ONNX's number of it; the operand's, if absent), with ones on the `k`-th \
          diagonal and zeros elsewhere.",
    onnx: &[OnnxName::since("EyeLike", 9)],
    attrs: &[
        AttrDef { name: "dtype", kind: AttrKind::Int, default: Default::Absent },
        AttrDef::int("k", 0),
    ],
    inputs: &[Operand::typed("input")],
    outputs: &["output"],
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let shape = ctx.shape(0)?;
    if shape.len() != 2 {
        return Err(InferError::invalid(format!("input of shape {shape:?}, expected a matrix")));
    }
    let dtype = match ctx.attrs.opt_int("dtype") {
        Some(number) => onnx_dtype(number)?,
        None => ctx.dtype(0)?,
    };
    Ok(vec![Facts::new(dtype, shape.to_vec())])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let k = ctx.attrs.int("k");
    let y = ctx.output();
    let (rows, columns) = (y.shape[0] as i64, y.shape[1] as i64);
    let size = y.dtype.width();
    // A word, so that the element is aligned for every type.
    let mut word = 0u64;
    let one = &mut bytemuck::bytes_of_mut(&mut word)[..size];
    cast(
        TensorRef { dtype: DType::F32, shape: &[], bytes: bytemuck::bytes_of(&1f32) },
        &mut TensorMut { dtype: y.dtype, shape: &[], bytes: one },
    );
    y.bytes.fill(0);
    for row in 0..rows {
        let column = row.saturating_add(k);
        if (0..columns).contains(&column) {
            let at = (row * columns + column) as usize * size;
            y.bytes[at..at + size].copy_from_slice(one);
        }
    }
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let y = ctx.output();
    let Some(width) = words(y.dtype).filter(|_| !y.dtype.is_compact()) else { return Ok(None) };
    let one = if y.dtype.is_float() { 1f32.to_bits() } else { 1 };
    let sizes = [y.len() * width, y.shape[1]].map(u32::try_from);
    let (Ok(n), Ok(columns)) = (sizes[0], sizes[1]) else { return Ok(None) };
    // A diagonal farther out than an i32 is outside of every matrix that fits, as is the farthest.
    let farthest = i64::from(i32::MAX / 2);
    let k = ctx.attrs.int("k").clamp(-farthest, farthest) as i32;
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "EyeLike".into(),
        wgsl: include_str!("eye_like.wgsl").into(),
        binds: vec![Bind::Out(0)],
        params: vec![n, columns, k as u32, width as u32, one, 0],
        groups: ctx.limits.linear(y.len() * width, 256),
    })))
}

fn cases() -> Vec<Case> {
    vec![
        Case::new("one up", vec![ramp(&[2, 3])])
            .attr("k", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[2, 3], &[0f32, 1.0, 0.0, 0.0, 0.0, 1.0])]),
        Case::new("of another type", vec![ramp(&[2, 2])])
            .attr("dtype", Attr::Int(7))
            .expect(vec![Tensor::from_slice(&[2, 2], &[1i64, 0, 0, 1])]),
        Case::new("large", vec![ramp(&[40, 30])]).attr("k", Attr::Int(-3)),
        Case::new("outside", vec![Tensor::zeros(DType::Bool, &[2, 1])])
            .attr("k", Attr::Int(-2))
            .expect(vec![Tensor::from_bools(&[2, 1], &[false; 2])]),
    ]
}
