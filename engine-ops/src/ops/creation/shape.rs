//! Shape and Size: what is known of a value before its contents are.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use std::ops::Range;

/// Shape.
pub static SHAPE: OpDef = OpDef {
    name: "Shape",
    doc: "The dimensions `start..end` of the operand as a vector of i64. Bounds count from the end where negative and are \
          clamped to the rank.",
    onnx: &[OnnxName::since("Shape", 1)],
    attrs: &[
        AttrDef::int("start", 0),
        AttrDef { name: "end", kind: AttrKind::Int, default: Default::Absent },
    ],
    inputs: &[Operand::typed("data")],
    outputs: &["shape"],
    infer: |ctx| {
        let shape = ctx.shape(0)?;
        Ok(vec![Facts::vector(shape[range(ctx.attrs, shape.len())].to_vec())])
    },
    cpu: Cpu::kernel(shape_cpu),
    cases: shape_cases,
    ..OpDef::BASE
};

/// Size.
pub static SIZE: OpDef = OpDef {
    name: "Size",
    doc: "The number of elements of the operand as a scalar i64.",
    onnx: &[OnnxName::since("Size", 1)],
    inputs: &[Operand::typed("data")],
    outputs: &["size"],
    infer: size,
    cpu: Cpu::kernel(size_cpu),
    cases: size_cases,
    ..OpDef::BASE
};

/// The axes that `start` and `end` select.
fn range(attrs: &Attrs, rank: usize) -> Range<usize> {
    let signed = rank as i64;
    let clamp = |at: i64| (if at < 0 { at + signed } else { at }).clamp(0, signed) as usize;
    let start = clamp(attrs.int("start"));
    start..clamp(attrs.opt_int("end").unwrap_or(signed)).max(start)
}

fn shape_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let shape = ctx.input(0).shape;
    let dims = &shape[range(ctx.attrs, shape.len())];
    for (to, &dim) in ctx.output().slice::<i64>().iter_mut().zip(dims) {
        *to = dim as i64;
    }
    Ok(())
}

fn size(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    // Even of an operand of unknown rank the size is a scalar of i64.
    Ok(vec![match &ctx.facts(0)?.shape {
        Some(shape) => Facts::scalar(shape.iter().fold(Dim::from(1), |a, b| &a * b)),
        None => Facts::new(DType::I64, Vec::new()),
    }])
}

fn size_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let n = ctx.input(0).len();
    ctx.output().slice::<i64>()[0] = n as i64;
    Ok(())
}

fn shape_cases() -> Vec<Case> {
    let case = |name, expected: &[i64]| {
        Case::new(name, vec![ramp(&[2, 3, 4])]).expect(vec![ints(expected)])
    };
    vec![
        case("all", &[2, 3, 4]),
        case("from the second on", &[3, 4]).attr("start", Attr::Int(1)),
        case("the last", &[4]).attr("start", Attr::Int(-1)),
        case("but the last", &[2, 3]).attr("end", Attr::Int(-1)),
        case("bounds are clamped", &[2, 3, 4])
            .attr("start", Attr::Int(-9))
            .attr("end", Attr::Int(9)),
        case("nothing", &[]).attr("start", Attr::Int(2)).attr("end", Attr::Int(1)),
    ]
}

fn size_cases() -> Vec<Case> {
    let case = |name, shape: &[usize], n: i64| {
        Case::new(name, vec![ramp(shape)]).expect(vec![Tensor::from_slice(&[], &[n])])
    };
    vec![case("matrix", &[3, 5], 15), case("scalar", &[], 1), case("empty", &[0, 5], 0)]
}
