//! Split: an axis cut into pieces.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuShapes, CpuStep};
use crate::gpu::{Bind, GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::strided::{self, Loop, StridedCopy};
use crate::{AttrDef, AttrKind, Default, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, Dim, Tensor};

/// Split.
pub static SPLIT: OpDef = OpDef {
    name: "Split",
    doc: "Pieces of the operand along `axis`, of the sizes `split`; without them equal pieces (as many as `num_outputs`, \
          or as the node has results), of which the last is smaller where the axis does not divide.",
    onnx: &[OnnxName::since("Split", 13)],
    attrs: &[
        AttrDef::int("axis", 0),
        AttrDef { name: "num_outputs", kind: AttrKind::Int, default: Default::Absent },
    ],
    inputs: &[Operand::data("input"), Operand::opt_shape("split")],
    outputs: &["outputs"],
    variadic_output: true,
    kind: Kind::Move,
    infer,
    cpu: Cpu::Planned(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let shape = ctx.shape(0)?;
    let at = axis(ctx.attrs.int("axis"), shape.len())?;
    let sizes = match ctx.opt(1) {
        Some(_) => given(ctx, &shape[at])?,
        None => equal(ctx, &shape[at])?,
    };
    if sizes.len() != ctx.outputs {
        return Err(InferError::invalid(format!(
            "a split into {} pieces gives {} results",
            sizes.len(),
            ctx.outputs
        )));
    }
    let contents = ctx.known_dims(0).filter(|_| shape.len() == 1);
    let mut before = 0;
    let mut piece = |size: Dim| {
        let len = size.known().map(|n| n as usize);
        if let (Some(all), Some(len)) = (&contents, len) {
            before += len;
            return Facts::vector(all[before - len..before].to_vec());
        }
        let mut out = shape.to_vec();
        out[at] = size;
        Facts {
            dtype: ctx.inputs[0].as_ref().expect("checked above").dtype,
            shape: Some(out),
            value: None,
        }
    };
    Ok(sizes.into_iter().map(&mut piece).collect())
}

fn given(ctx: &InferCtx<'_>, whole: &Dim) -> Result<Vec<Dim>, InferError> {
    let sizes = ctx.dims(1)?;
    let sum = sizes.iter().fold(Dim::from(0), |a, b| &a + b);
    let negative = sizes.iter().any(|s| s.known().is_some_and(|s| s < 0));
    let differs = matches!((sum.known(), whole.known()), (Some(a), Some(b)) if a != b);
    if negative || differs {
        return Err(InferError::invalid(format!(
            "split {sizes:?} of an axis of size {whole}, expected sizes that add up to it"
        )));
    }
    Ok(sizes)
}

fn equal(ctx: &InferCtx<'_>, whole: &Dim) -> Result<Vec<Dim>, InferError> {
    let pieces = ctx.attrs.opt_int("num_outputs").unwrap_or(ctx.outputs as i64);
    if pieces < 1 {
        return Err(InferError::invalid(format!("num_outputs is {pieces}, expected at least 1")));
    }
    if usize::try_from(pieces) != Ok(ctx.outputs) {
        return Err(InferError::invalid(format!(
            "a split into {pieces} pieces gives {} results",
            ctx.outputs
        )));
    }
    let up = whole + &Dim::from(pieces - 1);
    let each = up.floor_div(&Dim::from(pieces));
    let last = whole - &(&each * &Dim::from(pieces - 1));
    if last.known().is_some_and(|n| n < 0) {
        return Err(InferError::invalid(format!("{pieces} pieces of an axis of size {whole}")));
    }
    let mut sizes = vec![each; pieces as usize - 1];
    sizes.push(last);
    Ok(sizes)
}

/// The copy of the piece of size `size` that lies behind `before` elements of the axis.
fn piece(whole: &[usize], at: usize, before: usize, size: usize) -> StridedCopy {
    let inner: usize = whole[at + 1..].iter().product();
    let outer: usize = whole[..at].iter().product();
    StridedCopy::new(
        (before * inner) as isize,
        0,
        [
            Loop { size: outer, from: (whole[at] * inner) as isize, to: size * inner },
            Loop { size: size * inner, from: 1, to: 1 },
        ],
    )
}

/// Where each result begins and how long it is, also of those that nobody asked for.
fn pieces(
    whole: usize,
    given: Option<Vec<i64>>,
    num_outputs: Option<i64>,
    outputs: usize,
) -> Vec<(usize, usize)> {
    let count = num_outputs.map_or(outputs, |n| n as usize);
    let each = whole.div_ceil(count.max(1));
    let sizes: Vec<usize> = match given {
        Some(sizes) => sizes.into_iter().map(|s| s as usize).collect(),
        None => (0..count).map(|i| each.min(whole.saturating_sub(i * each))).collect(),
    };
    let mut before = 0;
    let mut next = |size| {
        before += size;
        (before - size, size)
    };
    sizes.into_iter().map(&mut next).collect()
}

fn cpu(shapes: &CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError> {
    let x = shapes.input(0);
    let at = axis(shapes.attrs.int("axis"), x.shape.len())?;
    let num_outputs = shapes.attrs.opt_int("num_outputs");
    let pieces = pieces(x.shape[at], shapes.ints(1), num_outputs, shapes.outputs.len());
    let copy = |(i, (before, size))| (0, i, piece(&x.shape, at, before, size));
    strided::copies(pieces.into_iter().enumerate().take(shapes.outputs.len()).map(copy).collect())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    let given = ctx.value(1).and_then(Tensor::to_i64s);
    let num_outputs = ctx.attrs.opt_int("num_outputs");
    let pieces = pieces(x.shape[at], given, num_outputs, ctx.outputs.len());
    let mut program = GpuProgram { dispatches: Vec::new(), scratch: Vec::new() };
    for (i, (before, size)) in pieces.into_iter().enumerate() {
        if ctx.outputs.get(i).is_none_or(Option::is_none) {
            continue;
        }
        let copy = piece(&x.shape, at, before, size);
        let binds = (Bind::In(0), Bind::Out(i));
        if !copy.record(&mut program, "Split", x.dtype, binds, ctx.limits) {
            return Ok(None);
        }
    }
    Ok(Some(program))
}

fn cases() -> Vec<Case> {
    let columns = Tensor::from_slice(&[2, 3], &[1i32, 2, 3, 4, 5, 6]);
    vec![
        Case::new("sizes", vec![columns, ints(&[1, 2])]).attr("axis", Attr::Int(1)).expect(vec![
            Tensor::from_slice(&[2, 1], &[1i32, 4]),
            Tensor::from_slice(&[2, 2], &[2i32, 3, 5, 6]),
        ]),
        Case::new("the last is smaller", vec![ints(&[1, 2, 3, 4, 5])])
            .attr("num_outputs", Attr::Int(2))
            .expect(vec![ints(&[1, 2, 3]), ints(&[4, 5])]),
        Case { outputs: 4, ..Case::new("equal", vec![ramp(&[3, 4, 50])]) }
            .attr("axis", Attr::Int(-2)),
        Case::new("an empty piece", vec![ramp(&[3]), ints(&[0, 3])])
            .expect(vec![ramp(&[0]), ramp(&[3])]),
    ]
}
