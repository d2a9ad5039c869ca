//! Pad: elements added around a tensor, or cut off.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep, planned};
use crate::fill::filled;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::collected;
use crate::operand::{INTEGERS, ONE};
use crate::strided::StridedCopy;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, for_size, mapped};
use engine_format::{Attr, Attrs, Dim, Tensor};

/// Pad.
pub static PAD: OpDef = OpDef {
    name: "Pad",
    doc: "`pads` elements added in front of each of `axes` (all, if omitted), then behind each of them; negative counts cut \
          off. `mode` says what they hold: `constant` (the operand `constant_value`, or 0), `reflect` (mirrored at the edge \
          element), `edge` (the edge element) or `wrap` (the other end).",
    onnx: &[OnnxName::since("Pad", 11)],
    attrs: &[AttrDef::str("mode", "constant")],
    inputs: &[
        Operand::data("data"),
        Operand::shape("pads"),
        Operand::opt_data("constant_value").like(0).shaped(ONE),
        Operand::opt_shape("axes").of(INTEGERS),
    ],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::Planned(step),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

/// Axes that the shader has room for.
const GPU_AXES: usize = 8;

/// What lies outside the operand. The numbers are the shader's.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant = 0,
    Reflect = 1,
    Edge = 2,
    Wrap = 3,
}

impl Mode {
    fn of(attrs: &Attrs) -> Result<Self, OpError> {
        match attrs.str("mode") {
            "constant" => Ok(Mode::Constant),
            "reflect" => Ok(Mode::Reflect),
            "edge" => Ok(Mode::Edge),
            "wrap" => Ok(Mode::Wrap),
            other => Err(OpError::new(format!(
                "mode {other:?}, expected \"constant\", \"reflect\", \"edge\" or \"wrap\""
            ))),
        }
    }

    /// The element of an axis of `size` that stands at position `at`; `None` for the constant.
    fn source(self, at: i64, size: i64) -> Option<usize> {
        let inside = (0..size).contains(&at);
        let found = match self {
            Mode::Constant => return inside.then_some(at as usize),
            Mode::Reflect => {
                let period = (2 * (size - 1)).max(1);
                let at = at.rem_euclid(period);
                if at < size { at } else { period - at }
            }
            Mode::Edge => at.clamp(0, size - 1),
            Mode::Wrap => at.rem_euclid(size),
        };
        Some(found as usize)
    }
}

/// Per axis of a tensor of rank `rank`, what is added in front and behind.
fn pairs<T: Clone>(
    pads: &[T],
    axes: Option<&[i64]>,
    rank: usize,
    zero: T,
) -> Result<Vec<(T, T)>, OpError> {
    let count = axes.map_or(rank, <[i64]>::len);
    if pads.len() != 2 * count {
        return Err(OpError::new(format!(
            "{} pads for {count} axes, expected two each",
            pads.len()
        )));
    }
    let mut out = vec![(zero.clone(), zero); rank];
    for i in 0..count {
        let at = axes.map_or(Ok(i), |a| axis(a[i], rank))?;
        out[at] = (pads[i].clone(), pads[count + i].clone());
    }
    Ok(out)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (shape, pads) = (ctx.shape(0)?, ctx.dims(1)?);
    let mode = Mode::of(ctx.attrs)?;
    let axes = ctx.opt(3).map(|_| ctx.ints(3)).transpose()?;
    let pairs = pairs(&pads, axes.as_deref(), shape.len(), Dim::from(0))?;
    let padded = |(dim, (before, behind)): (&Dim, &(Dim, Dim))| {
        let out = &(dim + before) + behind;
        let from_nothing = dim.known() == Some(0) && mode != Mode::Constant;
        if out.known().is_some_and(|n| n < 0 || (n > 0 && from_nothing)) {
            return Err(InferError::invalid(format!(
                "pads {before} and {behind} on an axis of size {dim}"
            )));
        }
        Ok(out)
    };
    let out = shape.iter().zip(&pairs).map(padded).collect::<Result<_, _>>()?;
    Ok(vec![Facts::new(ctx.dtype(0)?, out)])
}

/// For every position on an axis of the result, where its element stands on the axis of the operand.
fn sources(mode: Mode, from: usize, to: usize, before: i64) -> Result<Vec<Option<usize>>, OpError> {
    let source = |at: usize| mode.source((at as i64).saturating_sub(before), from as i64);
    collected((0..to).map(source))
}

/// By axis of the result, where its elements stand in the operand.
type Maps = Vec<Vec<Option<usize>>>;

fn step(shapes: &CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError> {
    let (x, y) = (shapes.input(0), shapes.output());
    let mode = Mode::of(shapes.attrs)?;
    let pads = shapes.ints(1);
    let pads = pads.ok_or_else(|| OpError::new("the contents of pads are not known"))?;
    let pairs = pairs(&pads, shapes.ints(3).as_deref(), x.shape.len(), 0)?;
    let axes = x.shape.iter().zip(&y.shape).zip(&pairs);
    let maps = axes.map(|((&from, &to), &(before, _))| sources(mode, from, to, before));
    planned(maps.collect::<Result<Maps, OpError>>()?, 0, run)
}

fn run(maps: &Maps, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, value) = (ctx.input(0), ctx.opt_input(2));
    let y = ctx.output();
    for_size!(x.dtype, T => {
        let fill = value.map_or(0, |v| v.raw::<T>()[0]);
        mapped::copy(x.raw::<T>(), x.shape, y.raw::<T>(), maps, fill);
    });
    Ok(())
}

/// The program that pads nothing: all elements are the value.
fn only_value(ctx: &GpuCtx<'_>) -> Option<GpuProgram> {
    let y = ctx.output();
    if ctx.opt_input(2).is_none() {
        return filled(ctx, [0; 2]);
    }
    let mut program = GpuProgram { dispatches: Vec::new(), scratch: Vec::new() };
    let binds = (Bind::In(2), Bind::Out(0));
    let spread = StridedCopy::gather(&[y.len()], 0, &[0]);
    spread.record(&mut program, "Pad", y.dtype, binds, ctx.limits).then_some(program)
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let mode = Mode::of(ctx.attrs)?;
    let integers = |i: usize| ctx.value(i).and_then(Tensor::to_i64s);
    let (Some(width), Some(pads)) = (words(x.dtype), integers(1)) else { return Ok(None) };
    let pairs = pairs(&pads, integers(3).as_deref(), x.shape.len(), 0)?;
    if y.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    if x.is_empty() && mode == Mode::Constant {
        return Ok(only_value(ctx));
    }
    if x.is_empty() || x.shape.len() >= GPU_AXES {
        return Ok(None);
    }
    // The words of an element are one more axis, which nothing is added to.
    let axes = x.shape.iter().zip(&y.shape).zip(&pairs);
    let axes = axes.map(|((&from, &to), &(before, _))| (from, to, before));
    let axes: Vec<_> = axes.chain([(width, width, 0)]).collect();
    let n = y.len() * width;
    let Some(mut params) = numbers([n, axes.len(), mode as usize, width]) else {
        return Ok(None);
    };
    for &(from, to, before) in axes.iter().rev() {
        let (Some(sizes), Ok(before)) = (numbers([from, to]), i32::try_from(before)) else {
            return Ok(None);
        };
        params.extend([sizes[0], sizes[1], before as u32, 0]);
    }
    params.resize(4 + 4 * GPU_AXES, 0);
    let (declared, read, out, uniform, mut binds) = match ctx.opt_input(2) {
        Some(_) => (VALUE, "value[i % params.width]", "2", "3", vec![Bind::In(0), Bind::In(2)]),
        None => ("", "0u", "1", "2", vec![Bind::In(0)]),
    };
    binds.push(Bind::Out(0));
    let parts = [("value", declared), ("fill", read), ("y", out), ("params", uniform)];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: GPU_AXES,
        label: "Pad".into(),
        wgsl: render(include_str!("pad.wgsl"), &parts).into(),
        binds,
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}

/// The declaration of the operand that holds the constant.
const VALUE: &str = "@group(0) @binding(1) var<storage, read> value: array<u32>;";

fn numbers<const N: usize>(values: [usize; N]) -> Option<Vec<u32>> {
    values.into_iter().map(|v| i32::try_from(v).ok().map(|v| v as u32)).collect()
}

fn cases() -> Vec<Case> {
    let mode = |mode: &str| Attr::Str(mode.to_owned());
    let line = |values: &[i32]| Tensor::from_slice(&[values.len()], values);
    let padded = |name, pads: &[i64], expected: &[i32]| {
        Case::new(name, vec![line(&[1, 2, 3]), ints(pads)]).expect(vec![line(expected)])
    };
    vec![
        padded("zeros", &[1, 2], &[0, 1, 2, 3, 0, 0]),
        padded("cut off", &[-1, 1], &[2, 3, 0]),
        padded("reflected", &[2, 1], &[3, 2, 1, 2, 3, 2]).attr("mode", mode("reflect")),
        padded("reflected twice", &[0, 4], &[1, 2, 3, 2, 1, 2, 3]).attr("mode", mode("reflect")),
        padded("edges", &[2, 1], &[1, 1, 1, 2, 3, 3]).attr("mode", mode("edge")),
        padded("wrapped", &[2, 1], &[2, 3, 1, 2, 3, 1]).attr("mode", mode("wrap")),
        Case::new(
            "a two-word constant on one axis",
            vec![
                Tensor::from_slice(&[2, 1], &[5i64, 6]),
                ints(&[0, 1]),
                Tensor::from_slice(&[], &[-1i64]),
                ints(&[-1]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2, 2], &[5i64, -1, 6, -1])]),
        Case::new("images", vec![ramp(&[2, 3, 20, 21]), ints(&[0, 0, 3, 1, 0, 1, 2, 4])]),
        Case::new("reflected images", vec![ramp(&[1, 2, 9, 8]), ints(&[0, 0, 3, 2, 0, 0, 1, 4])])
            .attr("mode", mode("reflect")),
        Case::new(
            "rows of a constant",
            vec![ramp(&[3, 40]), ints(&[2, 0, 1, 0]), Tensor::from_slice(&[], &[0.5f32])],
        ),
        Case::new("of nothing", vec![ramp(&[0]), ints(&[1, 1])])
            .expect(vec![Tensor::from_slice(&[2], &[0f32, 0.0])]),
        Case::new("to nothing", vec![ramp(&[2]), ints(&[-1, -1])]).expect(vec![ramp(&[0])]),
    ]
}
