//! DepthToSpace and SpaceToDepth: channels unfolded into blocks of the picture, and back.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuShapes, CpuStep};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::strided::{self, StridedCopy, strides};
use crate::{AttrDef, AttrKind, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, Attrs, Dim, Tensor};

/// DepthToSpace.
pub static DEPTH_TO_SPACE: OpDef = OpDef {
    name: "DepthToSpace",
    doc: "Each pixel becomes a block of `blocksize`² pixels made of its channels, of which the block's position is the slowest index \
          (`mode` DCR) or the fastest (CRD).",
    onnx: &[OnnxName::since("DepthToSpace", 1)],
    attrs: &[AttrDef::required("blocksize", AttrKind::Int), AttrDef::str("mode", "DCR")],
    inputs: &[Operand::data("input").shaped("N C H W")],
    outputs: &["output"],
    kind: Kind::Move,
    infer: |ctx| infer(ctx, [unfolded, folded]),
    cpu: Cpu::Planned(|shapes| cpu(shapes, unfold)),
    gpu: Some(|ctx| gpu(ctx, unfold)),
    cases: unfold_cases,
    ..OpDef::BASE
};

/// SpaceToDepth.
pub static SPACE_TO_DEPTH: OpDef = OpDef {
    name: "SpaceToDepth",
    doc: "Each block of `blocksize`² pixels becomes the channels of one, the position in the block being the slowest index (`mode` DCR) \
          or the fastest (CRD).",
    onnx: &[OnnxName::since("SpaceToDepth", 1)],
    attrs: &[AttrDef::required("blocksize", AttrKind::Int), AttrDef::str("mode", "DCR")],
    inputs: &[Operand::data("input").shaped("N C H W")],
    outputs: &["output"],
    kind: Kind::Move,
    infer: |ctx| infer(ctx, [folded, unfolded]),
    cpu: Cpu::Planned(|shapes| cpu(shapes, fold)),
    gpu: Some(|ctx| gpu(ctx, fold)),
    cases: fold_cases,
    ..OpDef::BASE
};

type Plan = fn(&Attrs, [usize; 4]) -> Result<StridedCopy, OpError>;

fn block(attrs: &Attrs) -> Result<usize, OpError> {
    let size = attrs.int("blocksize");
    usize::try_from(size)
        .ok()
        .filter(|&b| b > 0)
        .ok_or_else(|| OpError::new(format!("blocksize {size}, expected at least 1")))
}

/// The shape that one becomes with blocks of a size.
type Shape = fn([Dim; 4], &Dim) -> [Dim; 4];

fn unfolded([n, c, h, w]: [Dim; 4], b: &Dim) -> [Dim; 4] {
    [n, c.floor_div(&(b * b)), &h * b, &w * b]
}

fn folded([n, c, h, w]: [Dim; 4], b: &Dim) -> [Dim; 4] {
    [n, &(&c * b) * b, h.floor_div(b), w.floor_div(b)]
}

/// The shape there, if the one back from there is the operand's: else its blocks are not whole.
fn infer(ctx: &InferCtx<'_>, [there, back]: [Shape; 2]) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let own: [Dim; 4] = ctx.shape(0)?.to_vec().try_into().map_err(|shape: Vec<Dim>| {
        InferError::invalid(format!("input of shape {shape:?}, expected rank 4"))
    })?;
    let size = Dim::from(block(ctx.attrs)?);
    let out = there(own.clone(), &size);
    let is_known = own.iter().all(|dim| dim.known().is_some());
    if is_known && back(out.clone(), &size) != own {
        return Err(InferError::invalid(format!(
            "input {x} has no whole blocks of size {}",
            block(ctx.attrs)?
        )));
    }
    Ok(vec![Facts::new(x.dtype, out.to_vec())])
}

fn unfold(attrs: &Attrs, [n, c, h, w]: [usize; 4]) -> Result<StridedCopy, OpError> {
    let b = block(attrs)?;
    let deep = c / (b * b);
    let (from, order) = match attrs.str("mode") {
        "DCR" => ([n, b, b, deep, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, deep, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(unknown_mode(other)),
    };
    Ok(permuted(&from, order))
}

fn fold(attrs: &Attrs, [n, c, h, w]: [usize; 4]) -> Result<StridedCopy, OpError> {
    let b = block(attrs)?;
    let order = match attrs.str("mode") {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(unknown_mode(other)),
    };
    Ok(permuted(&[n, c, h / b, b, w / b, b], order))
}

fn unknown_mode(mode: &str) -> OpError {
    OpError::new(format!("mode {mode:?}, expected \"DCR\" or \"CRD\""))
}

fn permuted(from: &[usize; 6], order: [usize; 6]) -> StridedCopy {
    let own = strides(from);
    StridedCopy::gather(&order.map(|i| from[i]), 0, &order.map(|i| own[i] as isize))
}

fn plan(plan: Plan, attrs: &Attrs, shape: &[usize]) -> Result<StridedCopy, OpError> {
    let shape = shape
        .try_into()
        .map_err(|_| OpError::new(format!("input of shape {shape:?}, expected rank 4")))?;
    plan(attrs, shape)
}

fn cpu(shapes: &CpuShapes<'_>, of: Plan) -> Result<Box<dyn CpuStep>, OpError> {
    strided::one(plan(of, shapes.attrs, &shapes.input(0).shape)?)
}

fn gpu(ctx: &GpuCtx<'_>, of: Plan) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    Ok(plan(of, ctx.attrs, &x.shape)?.program("Depth and space", x.dtype, ctx.limits))
}

fn unfold_cases() -> Vec<Case> {
    let two = || Attr::Int(2);
    let deep = || Tensor::from_slice(&[1, 8, 1, 1], &[0i32, 1, 2, 3, 4, 5, 6, 7]);
    let mode = |mode: &str| Attr::Str(mode.to_owned());
    vec![
        Case::new("slowest", vec![deep()])
            .attr("blocksize", two())
            .expect(vec![Tensor::from_slice(&[1, 2, 2, 2], &[0i32, 2, 4, 6, 1, 3, 5, 7])]),
        Case::new("fastest", vec![deep()])
            .attr("blocksize", two())
            .attr("mode", mode("CRD"))
            .expect(vec![Tensor::from_slice(&[1, 2, 2, 2], &[0i32, 1, 2, 3, 4, 5, 6, 7])]),
        Case::new("pictures", vec![ramp(&[2, 12, 5, 6])]).attr("blocksize", two()),
    ]
}

fn fold_cases() -> Vec<Case> {
    let two = || Attr::Int(2);
    let wide = || Tensor::from_slice(&[1, 2, 2, 2], &[0i32, 2, 4, 6, 1, 3, 5, 7]);
    vec![
        Case::new("one block", vec![wide()])
            .attr("blocksize", two())
            .expect(vec![Tensor::from_slice(&[1, 8, 1, 1], &[0i32, 1, 2, 3, 4, 5, 6, 7])]),
        Case::new("one block, channel by channel", vec![wide()])
            .attr("blocksize", two())
            .attr("mode", Attr::Str("CRD".to_owned()))
            .expect(vec![Tensor::from_slice(&[1, 8, 1, 1], &[0i32, 2, 4, 6, 1, 3, 5, 7])]),
        Case::new("pictures", vec![ramp(&[2, 3, 10, 8])]).attr("blocksize", two()),
        Case::new("empty", vec![ramp(&[0, 3, 4, 4])])
            .attr("blocksize", two())
            .expect(vec![ramp(&[0, 12, 2, 2])]),
    ]
}
