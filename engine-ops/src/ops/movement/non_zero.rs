//! NonZero and Compress: as many results as the data says.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::{collected, room};
use crate::{AttrDef, AttrKind, Default, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{AlignedBuf, Attr, DType, Tensor};
use half::{bf16, f16};

/// NonZero.
pub static NON_ZERO: OpDef = OpDef {
    name: "NonZero",
    doc: "The positions of the elements that are not zero, in order: a column for each, a row for each axis.",
    onnx: &[OnnxName::since("NonZero", 9)],
    inputs: &[Operand::data("X")],
    infer: |_| Ok(vec![Facts::unranked(DType::I64)]),
    cpu: Cpu::Dynamic(non_zero),
    cases: non_zero_cases,
    ..OpDef::BASE
};

/// Compress.
pub static COMPRESS: OpDef = OpDef {
    name: "Compress",
    doc: "The slices along `axis` (of all elements in a row, if it is absent) for which `condition` is true; what is past the \
          condition's end is left out.",
    onnx: &[OnnxName::since("Compress", 9)],
    attrs: &[AttrDef { name: "axis", kind: AttrKind::Int, default: Default::Absent }],
    inputs: &[Operand::data("input"), Operand::index("condition").of(&[DType::Bool]).shaped("_")],
    outputs: &["output"],
    kind: Kind::Move,
    infer: compress_infer,
    cpu: Cpu::Dynamic(compress),
    cases: compress_cases,
    ..OpDef::BASE
};

/// Whether an element is not zero. Negative zero is zero, NaN is not.
fn truths(x: TensorRef<'_>) -> Result<Vec<bool>, OpError> {
    match x.dtype {
        DType::F32 => collected(x.slice::<f32>().iter().map(|&v| v != 0.0)),
        DType::F64 => collected(x.slice::<f64>().iter().map(|&v| v != 0.0)),
        DType::F16 => collected(x.slice::<f16>().iter().map(|&v| v != f16::ZERO)),
        DType::BF16 => collected(x.slice::<bf16>().iter().map(|&v| v != bf16::ZERO)),
        other => collected(x.bytes.chunks(other.width()).map(|v| v.iter().any(|&b| b != 0))),
    }
}

fn non_zero(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let truths = truths(x)?;
    let mut found = room(truths.iter().filter(|&&t| t).count())?;
    found.extend(truths.iter().enumerate().filter(|&(_, &t)| t).map(|(i, _)| i));
    let mut rows = room(x.shape.len() * found.len())?;
    for (i, &size) in x.shape.iter().enumerate() {
        let inner: usize = x.shape[i + 1..].iter().product();
        rows.extend(found.iter().map(|at| (at / inner % size) as i64));
    }
    Ok(vec![Tensor::from_slice(&[x.shape.len(), found.len()], &rows)])
}

fn compress_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    if ctx.dtype(1)? != DType::Bool {
        return Err(InferError::invalid(format!("condition is {}, expected bool", ctx.dtype(1)?)));
    }
    Ok(vec![Facts::unranked(ctx.dtype(0)?)])
}

fn compress(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, condition) = (ctx.input(0), ctx.input(1).slice::<u8>());
    // Without an axis the operand is one long line.
    let line = [x.len()];
    let (shape, at) = match ctx.attrs.opt_int("axis") {
        Some(at) => (x.shape, axis(at, x.shape.len())?),
        None => (&line[..], 0),
    };
    if condition.len() > shape[at] {
        return Err(OpError::new(format!(
            "a condition of {} elements for {} slices",
            condition.len(),
            shape[at]
        )));
    }
    let kept: Vec<usize> =
        condition.iter().enumerate().filter(|&(_, &c)| c != 0).map(|(i, _)| i).collect();
    let slice = shape[at + 1..].iter().product::<usize>() * x.dtype.width();
    let outer: usize = shape[..at].iter().product();
    let len = outer * kept.len() * slice;
    let mut out = AlignedBuf::try_zeroed(len).map_err(|why| OpError::new(why.to_string()))?;
    let places = (0..outer).flat_map(|o| kept.iter().map(move |k| (o * shape[at] + k) * slice));
    for (to, from) in out.chunks_mut(slice.max(1)).zip(places) {
        to.copy_from_slice(&x.bytes[from..from + slice]);
    }
    let mut shape = shape.to_vec();
    shape[at] = kept.len();
    let tensor = Tensor::new(x.dtype, &shape, out.into());
    Ok(vec![tensor.map_err(|e| OpError::new(e.to_string()))?])
}

fn non_zero_cases() -> Vec<Case> {
    let rows = |rows: usize, values: &[i64]| {
        vec![Tensor::from_slice(&[rows, values.len() / rows.max(1)], values)]
    };
    vec![
        Case::new("matrix", vec![Tensor::from_slice(&[2, 2], &[1i32, 0, 1, -1])])
            .expect(rows(2, &[0, 1, 1, 0, 0, 1])),
        Case::new("negative zero and NaN", vec![Tensor::from_slice(&[3], &[-0f32, f32::NAN, 0.0])])
            .expect(rows(1, &[1])),
        Case::new("bools", vec![Tensor::from_bools(&[3], &[true, false, true])])
            .expect(rows(1, &[0, 2])),
        Case::new("none", vec![Tensor::from_slice(&[2, 1], &[0u8, 0])]).expect(rows(2, &[])),
    ]
}

fn compress_cases() -> Vec<Case> {
    let x = || Tensor::from_slice(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let which = |v: &[bool]| Tensor::from_bools(&[v.len()], v);
    vec![
        Case::new("rows", vec![x(), which(&[false, true, true])])
            .attr("axis", Attr::Int(0))
            .expect(vec![Tensor::from_slice(&[2, 2], &[3f32, 4.0, 5.0, 6.0])]),
        Case::new("columns, the condition being short", vec![x(), which(&[true])])
            .attr("axis", Attr::Int(-1))
            .expect(vec![Tensor::from_slice(&[3, 1], &[1f32, 3.0, 5.0])]),
        Case::new("elements", vec![x(), which(&[false, true, false, false, true])])
            .expect(vec![Tensor::from_slice(&[2], &[2f32, 5.0])]),
        Case::new("nothing", vec![x(), which(&[false])]).expect(vec![ramp(&[0])]),
    ]
}
