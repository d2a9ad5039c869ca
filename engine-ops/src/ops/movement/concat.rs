//! Concat: operands one after the other along an axis.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuShapes, CpuStep, TensorMeta};
use crate::gpu::{Bind, GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::kernels::nchwc::BLOCK;
use crate::strided::{self, Loop, StridedCopy};
use crate::{AttrDef, AttrKind, Kind, OnnxName, OpDef, OpError, Operand};
use crate::{Blocked, Takes};
use engine_format::{Attr, Attrs, Dim, Tensor};
use std::sync::Arc;

/// Concat.
pub static CONCAT: OpDef = OpDef {
    name: "Concat",
    doc: "The operands one after the other along `axis`; their other dimensions are equal.",
    onnx: &[OnnxName::since("Concat", 4)],
    attrs: &[AttrDef::required("axis", AttrKind::Int)],
    inputs: &[Operand::data("inputs")],
    variadic_input: true,
    outputs: &["concat_result"],
    kind: Kind::Move,
    infer,
    blocked: Some(blocked),
    cpu: Cpu::Planned(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

/// Whole blocks of channels one after the other.
fn blocked(attrs: &Arc<Attrs>, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let channels = axis(attrs.int("axis"), 4).ok()? == 1;
    let whole = |meta: &Option<TensorMeta>| meta.as_ref().is_some_and(|m| m.shape[1] % BLOCK == 0);
    if !channels || !shapes.inputs.iter().all(whole) {
        return None;
    }
    let mut attrs = Attrs::clone(attrs);
    attrs.insert("axis".to_owned(), Attr::Int(1));
    let takes = vec![Takes::Blocks; shapes.inputs.len()];
    Some(Blocked { def: &CONCAT, attrs: Arc::new(attrs), takes, leads: false })
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let mut out = ctx.shape(0)?.to_vec();
    let at = axis(ctx.attrs.int("axis"), out.len())?;
    for i in 1..ctx.inputs.len() {
        let shape = ctx.shape(i)?;
        let other = |j: usize, d: &Dim| match (out[j].known(), d.known()) {
            (Some(a), Some(b)) => j != at && a != b,
            _ => false,
        };
        if ctx.dtype(i)? != dtype
            || shape.len() != out.len()
            || shape.iter().enumerate().any(|(j, d)| other(j, d))
        {
            return Err(InferError::invalid(format!(
                "operand {i} is {} {shape:?} and operand 0 {dtype} {:?}, expected the same but for axis {at}",
                ctx.dtype(i)?,
                ctx.shape(0)?
            )));
        }
        out[at] = &out[at] + &shape[at];
        // A number says more than a symbol that must be equal to it.
        for (j, dim) in shape.iter().enumerate() {
            if j != at && out[j].known().is_none() && dim.known().is_some() {
                out[j] = dim.clone();
            }
        }
    }
    let contents: Option<Vec<Vec<Dim>>> =
        (0..ctx.inputs.len()).map(|i| ctx.known_dims(i)).collect();
    Ok(vec![match contents {
        Some(parts) if out.len() == 1 => Facts::vector(parts.concat()),
        _ => Facts::new(dtype, out),
    }])
}

/// The copy of an operand of shape `part` to where `before` elements of the axis lie in front of it.
fn part(part: &[usize], whole: &[usize], at: usize, before: usize) -> StridedCopy {
    let inner: usize = whole[at + 1..].iter().product();
    let outer: usize = whole[..at].iter().product();
    let run = part[at] * inner;
    StridedCopy::new(
        0,
        before * inner,
        [
            Loop { size: outer, from: run as isize, to: whole[at] * inner },
            Loop { size: run, from: 1, to: 1 },
        ],
    )
}

fn cpu(shapes: &CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError> {
    let y = shapes.output();
    let at = axis(shapes.attrs.int("axis"), y.shape.len())?;
    let mut before = 0;
    let mut copies = Vec::new();
    for (i, x) in shapes.inputs.iter().enumerate() {
        let Some(x) = x else { continue };
        copies.push((i, 0, part(&x.shape, &y.shape, at, before)));
        before += x.shape[at];
    }
    strided::copies(copies)
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let y = ctx.output();
    let at = axis(ctx.attrs.int("axis"), y.shape.len())?;
    let mut program = GpuProgram { dispatches: Vec::new(), scratch: Vec::new() };
    let mut before = 0;
    for (i, x) in ctx.inputs.iter().enumerate() {
        let Some(x) = x else { continue };
        let copy = part(&x.shape, &y.shape, at, before);
        let binds = (Bind::In(i), Bind::Out(0));
        if !copy.record(&mut program, "Concat", x.dtype, binds, ctx.limits) {
            return Ok(None);
        }
        before += x.shape[at];
    }
    Ok(Some(program))
}

fn cases() -> Vec<Case> {
    let at = |axis| Attr::Int(axis);
    let many = (0..12).map(|i| Tensor::from_slice(&[1], &[i as f32])).collect();
    let all: Vec<f32> = (0..12).map(|i| i as f32).collect();
    vec![
        Case::new(
            "columns",
            vec![
                Tensor::from_slice(&[2, 1], &[1i32, 4]),
                Tensor::from_slice(&[2, 2], &[2i32, 3, 5, 6]),
            ],
        )
        .attr("axis", at(-1))
        .expect(vec![Tensor::from_slice(&[2, 3], &[1i32, 2, 3, 4, 5, 6])]),
        Case::new("i64", vec![ints(&[1, -2]), ints(&[]), ints(&[3])])
            .attr("axis", at(0))
            .expect(vec![ints(&[1, -2, 3])]),
        Case::new("more operands than a stage has bindings", many)
            .attr("axis", at(0))
            .expect(vec![Tensor::from_slice(&[12], &all)]),
        Case::new("the middle axis", vec![ramp(&[2, 3, 50]), ramp(&[2, 4, 50])])
            .attr("axis", at(1)),
        Case::new("one operand", vec![ramp(&[3])]).attr("axis", at(0)).expect(vec![ramp(&[3])]),
        Case::new("nothing", vec![ramp(&[0, 2]), ramp(&[0, 2])])
            .attr("axis", at(0))
            .expect(vec![ramp(&[0, 2])]),
    ]
}
