//! Expand and Tile: the operand, repeated.

use crate::case::{Case, ints, ramp};
use crate::cpu::Cpu;
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, broadcast};
use crate::strided::{self, Loop, StridedCopy, strides};
use crate::{Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Dim, Tensor};

/// Expand.
pub static EXPAND: OpDef = OpDef {
    name: "Expand",
    doc: "The operand repeated along axes of size 1 until it has the shape that it and `shape` broadcast to.",
    onnx: &[OnnxName::since("Expand", 8)],
    inputs: &[Operand::data("input"), Operand::shape("shape")],
    outputs: &["output"],
    kind: Kind::Move,
    stays: |_, from, to| from.len() == to.len(),
    infer: expand,
    cpu: Cpu::Planned(|shapes| {
        strided::one(expand_copy(&shapes.input(0).shape, &shapes.output().shape))
    }),
    gpu: Some(expand_gpu),
    cases: expand_cases,
    ..OpDef::BASE
};

/// Tile.
pub static TILE: OpDef = OpDef {
    name: "Tile",
    doc: "The operand `repeats[i]` times in a row along axis `i`.",
    onnx: &[OnnxName::since("Tile", 6)],
    inputs: &[Operand::data("input"), Operand::shape("repeats")],
    outputs: &["output"],
    kind: Kind::Move,
    stays: |_, from, to| from.len() == to.len(),
    infer: tile,
    cpu: Cpu::Planned(|shapes| {
        strided::one(tile_copy(&shapes.input(0).shape, &shapes.output().shape))
    }),
    gpu: Some(tile_gpu),
    cases: tile_cases,
    ..OpDef::BASE
};

fn expand(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = broadcast(&[ctx.shape(0)?, &ctx.dims(1)?])?;
    if let Some(negative) = shape.iter().find(|d| d.known().is_some_and(|d| d < 0)) {
        return Err(InferError::invalid(format!("size {negative} in shape, expected at least 0")));
    }
    // A small vector of one repeated value keeps its contents: the way exporters fill shapes with a constant.
    let contents = match (&shape[..], ctx.known_dims(0).as_deref()) {
        ([], Some([value])) => Some(vec![value.clone()]),
        ([n], Some([value])) => {
            n.known().filter(|&n| n <= 16).map(|n| vec![value.clone(); n as usize])
        }
        _ => None,
    };
    Ok(vec![match contents {
        Some(contents) => Facts::of_dims(shape, contents),
        None => Facts::new(x.dtype, shape),
    }])
}

fn expand_copy(from: &[usize], to: &[usize]) -> StridedCopy {
    let mut distances = vec![0; to.len()];
    let own = distances[to.len() - from.len()..].iter_mut();
    for ((distance, &size), stride) in own.zip(from).zip(strides(from)) {
        *distance = if size == 1 { 0 } else { stride as isize };
    }
    StridedCopy::gather(to, 0, &distances)
}

fn expand_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    Ok(expand_copy(&x.shape, &ctx.output().shape).program("Expand", x.dtype, ctx.limits))
}

fn tile(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (shape, repeats) = (ctx.shape(0)?, ctx.dims(1)?);
    if repeats.len() != shape.len() || repeats.iter().any(|r| r.known().is_some_and(|r| r < 0)) {
        return Err(InferError::invalid(format!(
            "repeats {repeats:?} for a tensor of shape {shape:?}, expected one count per axis"
        )));
    }
    let out: Vec<Dim> = shape.iter().zip(&repeats).map(|(d, r)| d * r).collect();
    Ok(vec![Facts::new(ctx.dtype(0)?, out)])
}

/// Each axis becomes two loops: over the repetitions, which stay in place in the source, and over its elements.
fn tile_copy(from: &[usize], to: &[usize]) -> StridedCopy {
    if from.contains(&0) {
        return StridedCopy::gather(to, 0, &vec![0; to.len()]);
    }
    let axes = from.iter().zip(to).zip(strides(from)).zip(strides(to));
    StridedCopy::new(
        0,
        0,
        axes.flat_map(|(((&size, &total), from), to)| {
            [
                Loop { size: total / size, from: 0, to: to * size },
                Loop { size, from: from as isize, to },
            ]
        }),
    )
}

fn tile_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    Ok(tile_copy(&x.shape, &ctx.output().shape).program("Tile", x.dtype, ctx.limits))
}

fn expand_cases() -> Vec<Case> {
    let case = |name, x: Tensor, shape: &[i64]| Case::new(name, vec![x, ints(shape)]);
    vec![
        case("rows", Tensor::from_slice(&[2, 1], &[1i64, 2]), &[2, 3])
            .expect(vec![Tensor::from_slice(&[2, 3], &[1i64, 1, 1, 2, 2, 2])]),
        case("more axes", Tensor::from_slice(&[2], &[1u8, 2]), &[2, 1])
            .expect(vec![Tensor::from_slice(&[2, 2], &[1u8, 2, 1, 2])]),
        case("1 keeps the operand's size", ramp(&[3, 1, 5]), &[2, 1, 4, 1]),
        case("a scalar", ramp(&[]), &[700]),
        case("bools", Tensor::from_bools(&[1, 2], &[true, false]), &[2, 2])
            .expect(vec![Tensor::from_bools(&[2, 2], &[true, false, true, false])]),
        case("to nothing", ramp(&[1, 3]), &[0, 3]).expect(vec![ramp(&[0, 3])]),
    ]
}

fn tile_cases() -> Vec<Case> {
    let case = |name, x: Tensor, repeats: &[i64]| Case::new(name, vec![x, ints(repeats)]);
    vec![
        case("both axes", Tensor::from_slice(&[2, 2], &[1i32, 2, 3, 4]), &[2, 2]).expect(vec![
            Tensor::from_slice(&[4, 4], &[1i32, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4]),
        ]),
        case("long", ramp(&[3, 5, 7]), &[4, 1, 3]),
        case("two words", Tensor::from_slice(&[1, 2], &[-1i64, 1 << 40]), &[3, 1])
            .expect(vec![Tensor::from_slice(&[3, 2], &[-1i64, 1 << 40, -1, 1 << 40, -1, 1 << 40])]),
        case("never", ramp(&[2, 3]), &[0, 1]).expect(vec![ramp(&[0, 3])]),
        case("empty", ramp(&[0, 3]), &[2, 1]).expect(vec![ramp(&[0, 3])]),
    ]
}
