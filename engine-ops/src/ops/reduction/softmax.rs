//! Softmax and its logarithm along one axis.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx, CpuShapes};
use crate::float::Float;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::parallel::pieces;
use crate::reduction::{Folded, calc_scratch, fold_slice, in_calc};
use crate::wide::{Loop, wide};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Tensor};
use half::f16;

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    attrs: &[AttrDef::int("axis", -1)],
    inputs: &[Operand::data("input")],
    outputs: &["output"],
    infer,
    tolerance: Tolerance::ELEMENTWISE,
    ..OpDef::BASE
};

pub static SOFTMAX: OpDef = OpDef {
    name: "Softmax",
    doc: "`e^(x−m) / Σ e^(x−m)` along `axis`, `m` the largest element.",
    onnx: &[OnnxName::since("Softmax", 13)],
    cpu: Cpu::Kernel { run: |ctx| run(ctx, false), scratch },
    gpu: Some(|ctx| gpu(ctx, "Softmax", "exp(x - most) / sum")),
    cases: || cases([0.090_030_57, 0.244_728_47, 0.665_240_96]),
    ..ROW
};

pub static LOG_SOFTMAX: OpDef = OpDef {
    name: "LogSoftmax",
    doc: "`x − m − ln Σ e^(x−m)` along `axis`, `m` the largest element.",
    onnx: &[OnnxName::since("LogSoftmax", 13)],
    cpu: Cpu::Kernel { run: |ctx| run(ctx, true), scratch },
    gpu: Some(|ctx| gpu(ctx, "LogSoftmax", "x - most - log(sum)")),
    cases: || cases([-2.407_606, -1.407_606, -0.407_605_96]),
    ..ROW
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if !x.dtype.is_float() {
        let found = x.dtype;
        return Err(InferError::invalid(format!(
            "operand input is {found}, expected a float type"
        )));
    }
    if let Some(shape) = &x.shape {
        axis(ctx.attrs.int("axis"), shape.len().max(1))?;
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// Elements before, along and after the axis. A scalar is one row of one element.
fn split(shape: &[usize], along: i64) -> Result<[usize; 3], OpError> {
    if shape.is_empty() {
        return Ok([1, 1, 1]);
    }
    let at = axis(along, shape.len())?;
    Ok([shape[..at].iter().product(), shape[at], shape[at + 1..].iter().product()])
}

fn scratch(shapes: &CpuShapes<'_>) -> usize {
    match &shapes.inputs[0] {
        Some(x) if !matches!(x.dtype, DType::F32 | DType::F64) => {
            calc_scratch::<f32>(x.len(), x.len())
        }
        _ => 0,
    }
}

fn run(ctx: &mut CpuCtx<'_>, log: bool) -> Result<(), OpError> {
    let x = ctx.input(0);
    let sizes = split(x.shape, ctx.attrs.int("axis"))?;
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let scratch = &mut *ctx.scratch;
    match x.dtype {
        DType::F64 => in_calc::<f64>(x, y, scratch, |x, y| {
            softmax(sizes, x, y, log);
            Ok(())
        }),
        _ => in_calc::<f32>(x, y, scratch, |x, y| {
            softmax(sizes, x, y, log);
            Ok(())
        }),
    }
}

fn softmax<W: Float>([_, along, inner]: [usize; 3], x: &[W], y: &mut [W], log: bool) {
    // An exponential costs about as much as ten additions.
    pieces(y, along * inner, 10, |start, y| {
        let x = &x[start..start + y.len()];
        if inner == 1 && along > 0 {
            x.chunks_exact(along).zip(y.chunks_exact_mut(along)).for_each(|(x, y)| row(x, y, log));
        } else if along * inner > 0 {
            let planes = x.chunks_exact(along * inner).zip(y.chunks_exact_mut(along * inner));
            planes.for_each(|(x, y)| plane(inner, x, y, log));
        }
    });
}

/// Maps a slice, in wide vectors.
struct Map<'a, W, F> {
    x: &'a [W],
    y: &'a mut [W],
    f: F,
}

impl<W: Copy, F: Fn(W) -> W> Loop for Map<'_, W, F> {
    #[inline(always)]
    fn run(self) {
        self.x.iter().zip(self.y).for_each(|(&x, y)| *y = (self.f)(x));
    }
}

/// Divides a slice, in wide vectors.
struct Divide<'a, W> {
    y: &'a mut [W],
    by: W,
}

impl<W: Float> Loop for Divide<'_, W> {
    #[inline(always)]
    fn run(self) {
        self.y.iter_mut().for_each(|y| *y = y.div(self.by));
    }
}

/// The axis is the innermost one.
fn row<W: Float>(x: &[W], y: &mut [W], log: bool) {
    let more = |a: W, b: W| if a > b || a.is_nan() { a } else { b };
    let most = fold_slice(x, Folded { start: x[0], step: more, merge: more });
    wide(Map { x, y, f: move |x: W| x.sub(most).exp() });
    let sum = fold_slice(y, Folded { start: W::ZERO, step: W::add, merge: W::add });
    if log {
        let off = sum.ln();
        wide(Map { x, y, f: move |x: W| x.sub(most).sub(off) });
    } else {
        wide(Divide { y, by: sum });
    }
}

/// Columns that are worked on together where the axis is not the innermost one.
const COLUMNS: usize = 64;

fn plane<W: Float>(inner: usize, x: &[W], y: &mut [W], log: bool) {
    for from in (0..inner).step_by(COLUMNS) {
        let n = COLUMNS.min(inner - from);
        let (mut most, mut sum) = ([W::ZERO; COLUMNS], [W::ZERO; COLUMNS]);
        let (most, sum) = (&mut most[..n], &mut sum[..n]);
        most.copy_from_slice(&x[from..from + n]);
        for x in x.chunks_exact(inner) {
            for (most, &x) in most.iter_mut().zip(&x[from..from + n]) {
                *most = if *most > x || most.is_nan() { *most } else { x };
            }
        }
        for (x, y) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)) {
            let (x, y) = (&x[from..from + n], &mut y[from..from + n]);
            for (((&x, y), &most), sum) in x.iter().zip(y).zip(&*most).zip(&mut *sum) {
                let shifted = x.sub(most);
                let exponential = shifted.exp();
                *sum = sum.add(exponential);
                *y = if log { shifted } else { exponential };
            }
        }
        if log {
            sum.iter_mut().for_each(|sum| *sum = sum.ln());
        }
        for y in y.chunks_exact_mut(inner) {
            for (y, &sum) in y[from..from + n].iter_mut().zip(&*sum) {
                *y = if log { y.sub(sum) } else { y.div(sum) };
            }
        }
    }
}

fn gpu(ctx: &GpuCtx<'_>, label: &'static str, y: &str) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    if element_type(x.dtype) != Some("f32") {
        return Ok(None);
    }
    let [outer, along, inner] = split(&x.shape, ctx.attrs.int("axis"))?;
    // A workgroup for each row if rows are long, else one invocation.
    let team = along > 32;
    let text =
        if team { include_str!("softmax_team.wgsl") } else { include_str!("softmax_single.wgsl") };
    let y = rounded(x.dtype, &format!("({y})"));
    let wgsl = render(text, &[("functions", PRELUDE), ("y", &y)]);
    let rows = if along == 0 { 0 } else { outer * inner };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + 3 * if team { along.div_ceil(128) } else { along },
        label: label.into(),
        wgsl: wgsl.into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params: vec![rows as u32, along as u32, inner as u32],
        groups: ctx.limits.linear(rows, if team { 1 } else { 64 }),
    })))
}

/// Cases, given the result for (1, 2, 3).
fn cases(expected: [f32; 3]) -> Vec<Case> {
    let x = |shape: &[usize], v: &[f32]| Tensor::from_slice(shape, v);
    let halves = |v: [f32; 3]| Tensor::from_slice(&[3], &v.map(f16::from_f32));
    let [a, b, c] = expected;
    let n = f32::NAN;
    vec![
        Case::new("row", vec![x(&[1, 3], &[1.0, 2.0, 3.0])]).expect(vec![x(&[1, 3], &expected)]),
        Case::new("large numbers", vec![x(&[3], &[1001.0, 1002.0, 1003.0])])
            .expect(vec![x(&[3], &expected)]),
        Case::new("columns", vec![x(&[3, 2], &[1.0, 3.0, 2.0, 2.0, 3.0, 1.0])])
            .attr("axis", Attr::Int(0))
            .expect(vec![x(&[3, 2], &[a, c, b, b, c, a])]),
        Case::new("f16", vec![halves([1.0, 2.0, 3.0])]).expect(vec![halves(expected)]),
        Case::new("not a number", vec![x(&[2, 2], &[n, 1.0, 1.0, n])])
            .expect(vec![x(&[2, 2], &[n; 4])]),
        Case::new("masked", vec![x(&[3], &[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY])]),
        Case::new("attention", vec![ramp(&[2, 3, 5, 128])]),
        Case::new("odd rows", vec![ramp(&[4, 1001])]),
        Case::new("middle axis", vec![ramp(&[3, 40, 70])]).attr("axis", Attr::Int(1)),
        Case::new("short middle axis", vec![ramp(&[3, 4, 70])]).attr("axis", Attr::Int(1)),
        Case::new("empty", vec![ramp(&[0, 4])]),
    ]
}
