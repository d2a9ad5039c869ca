//! Transpose: axes in another order.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, TensorMeta};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::strided::{self, StridedCopy, strides};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, Attrs, Tensor};

/// Transpose.
pub static TRANSPOSE: OpDef = OpDef {
    name: "Transpose",
    doc: "Axis `i` of the result is axis `perm[i]` of the operand; without `perm` the order is reversed.",
    onnx: &[OnnxName::since("Transpose", 1)],
    attrs: &[AttrDef::opt_ints("perm")],
    inputs: &[Operand::data("data")],
    outputs: &["transposed"],
    kind: Kind::Move,
    stays,
    infer,
    cpu: Cpu::Planned(|shapes| strided::one(plan(shapes.attrs, &shapes.input(0).shape)?)),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn permutation(attrs: &Attrs, rank: usize) -> Result<Vec<usize>, OpError> {
    let Some(perm) = attrs.ints("perm") else { return Ok((0..rank).rev().collect()) };
    let axes = perm.iter().map(|&p| axis(p, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(OpError::new(format!("perm {perm:?}, expected every axis of 0..{rank} once")));
    }
    Ok(axes)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    let perm = permutation(ctx.attrs, shape.len())?;
    let mut out = Facts::new(x.dtype, perm.iter().map(|&p| shape[p].clone()).collect());
    if shape.len() <= 1 {
        out.value.clone_from(&x.value);
    }
    Ok(vec![out])
}

/// Elements stay in their order where axes that are longer than 1 do.
fn stays(attrs: &Attrs, from: &TensorMeta, _to: &TensorMeta) -> bool {
    permutation(attrs, from.shape.len())
        .is_ok_and(|perm| perm.into_iter().filter(|&p| from.shape[p] != 1).is_sorted())
}

fn plan(attrs: &Attrs, shape: &[usize]) -> Result<StridedCopy, OpError> {
    let perm = permutation(attrs, shape.len())?;
    let from = strides(shape);
    let to: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    let distances: Vec<isize> = perm.iter().map(|&p| from[p] as isize).collect();
    Ok(StridedCopy::gather(&to, 0, &distances))
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    Ok(plan(ctx.attrs, &x.shape)?.program("Transpose", x.dtype, ctx.limits))
}

fn cases() -> Vec<Case> {
    let perm = |p: &[i64]| Attr::Ints(p.to_vec());
    vec![
        Case::new("reversed", vec![Tensor::from_slice(&[2, 3], &[1i64, 2, 3, 4, 5, 6])])
            .expect(vec![Tensor::from_slice(&[3, 2], &[1i64, 4, 2, 5, 3, 6])]),
        Case::new("bytes", vec![Tensor::from_slice(&[2, 1, 2], &[1u8, 2, 3, 4])])
            .attr("perm", perm(&[2, 1, 0]))
            .expect(vec![Tensor::from_slice(&[2, 1, 2], &[1u8, 3, 2, 4])]),
        Case::new("heads", vec![ramp(&[2, 7, 3, 5])]).attr("perm", perm(&[0, 2, 1, 3])),
        Case::new("channels last", vec![ramp(&[2, 40, 9, 11])]).attr("perm", perm(&[0, 2, 3, 1])),
        Case::new("scalar", vec![ramp(&[])]).expect(vec![ramp(&[])]),
        Case::new("empty", vec![ramp(&[3, 0, 2])]),
    ]
}
