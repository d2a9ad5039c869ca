//! Pools over all spatial axes at once.

use crate::Blocked;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx, CpuShapes};
use crate::dtypes::FLOATS;
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, narrowing, render, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError};
use crate::ops::image::pool::{self, AVERAGE_POOL, Greatest, IS_NAN, MAX_POOL};
use crate::parallel;
use crate::{Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{Attr, Attrs, DType, Dim, Element, Tensor};
use half::{bf16, f16};
use std::sync::Arc;

pub static GLOBAL_MAX_POOL: OpDef = OpDef {
    name: "GlobalMaxPool",
    doc: "The greatest element over all spatial axes, which become 1; NaN if one is.",
    onnx: &[OnnxName::since("GlobalMaxPool", 1)],
    inputs: &[Operand::data("X").of(FLOATS).shaped("N C ...")],
    kind: Kind::Compute,
    infer,
    blocked: Some(|_, shapes| blocked(&MAX_POOL, shapes)),
    cpu: Cpu::kernel(max),
    gpu: Some(|ctx| Ok(gpu(ctx, "GlobalMaxPool", MAX, "best"))),
    tolerance: Tolerance::EXACT,
    cases: max_cases,
    ..OpDef::BASE
};

pub static GLOBAL_AVERAGE_POOL: OpDef = OpDef {
    name: "GlobalAveragePool",
    doc: "The mean over all spatial axes, which become 1.",
    onnx: &[OnnxName::since("GlobalAveragePool", 1)],
    inputs: &[Operand::data("X").of(FLOATS).shaped("N C ...")],
    kind: Kind::Compute,
    infer,
    blocked: Some(|_, shapes| blocked(&AVERAGE_POOL, shapes)),
    cpu: Cpu::kernel(average),
    gpu: Some(|ctx| Ok(gpu(ctx, "GlobalAveragePool", "a + b", "best / f32(params.size)"))),
    tolerance: Tolerance::SUMS,
    cases: average_cases,
    ..OpDef::BASE
};

/// NaN wins, whichever side it is on.
const MAX: &str = "select(a, b, b > a || is_nan(b))";

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (dtype, x) = (ctx.dtype(0)?, ctx.shape(0)?);
    if x.len() < 3 {
        return Err(InferError::invalid(format!("X {x:?}, expected at least 3 dimensions")));
    }
    let mut shape = x[..2].to_vec();
    shape.resize(x.len(), Dim::from(1));
    Ok(vec![Facts::new(dtype, shape)])
}

/// One window as large as the image.
fn blocked(def: &'static OpDef, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let sizes = shapes.inputs[0].as_ref()?.shape[2..].iter().map(|&size| size as i64).collect();
    let attrs = Attrs::from([("kernel_shape".to_owned(), Attr::Ints(sizes))]);
    pool::blocked(def, &Arc::new(def.normalise(attrs).ok()?), shapes)
}

/// Elements of one channel of one image.
fn size(shape: &[usize]) -> usize {
    shape[2..].iter().product()
}

/// Sums (or greatest elements) that run side by side, so that they fill a vector; their order is part of the result.
const LANES: usize = 16;

/// Folds each channel: element `i` into lane `i mod LANES`, then the lanes in order.
fn fold<T: Element, A: Copy + Send + Sync>(
    size: usize,
    (x, y): (&[T], &mut [T]),
    init: A,
    step: impl Fn(A, T) -> A + Sync,
    join: impl Fn(A, A) -> A + Sync,
    finish: impl Fn(A) -> T + Sync,
) {
    parallel::rows(y, 1, size, |i, y| {
        let mut lanes = [init; LANES];
        for run in x[i * size..(i + 1) * size].chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(run) {
                *lane = step(*lane, x);
            }
        }
        y[0] = finish(lanes[1..].iter().fold(lanes[0], |a, &b| join(a, b)));
    });
}

fn max(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let size = size(x.shape);
    for_dtype!(x.dtype, [F32 => f32, F64 => f64, F16 => f16, BF16 => bf16], T => {
        let pick = |best: T, x: T| if x.beats(best) { x } else { best };
        let data = (x.slice::<T>(), ctx.output().slice::<T>());
        fold(size, data, <T as Greatest>::LEAST, pick, pick, |best| best);
        Ok(())
    })
}

fn average(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let size = size(x.shape);
    let y = ctx.output();
    let add = |a: f32, b: f32| a + b;
    match x.dtype {
        DType::F32 => {
            let data = (x.slice::<f32>(), y.slice());
            fold(size, data, 0.0f32, add, add, |sum| sum / size as f32);
        }
        DType::F64 => {
            let add = |a: f64, b: f64| a + b;
            fold(size, (x.slice::<f64>(), y.slice()), 0.0, add, add, |sum| sum / size as f64);
        }
        DType::F16 => {
            let (step, data) = (|a, x: f16| a + x.to_f32(), (x.slice::<f16>(), y.slice()));
            fold(size, data, 0.0, step, add, |sum| f16::from_f32(sum / size as f32));
        }
        DType::BF16 => {
            let (step, data) = (|a, x: bf16| a + x.to_f32(), (x.slice::<bf16>(), y.slice()));
            fold(size, data, 0.0, step, add, |sum| bf16::from_f32(sum / size as f32));
        }
        other => return Err(OpError::new(format!("operand X is {other}, expected a float type"))),
    }
    Ok(())
}

/// Channels up to this size have a workgroup for several of them.
const SMALL: usize = 1024;

/// A workgroup for one channel, or for several small ones. An empty channel has nothing to bind: the CPU writes what it gives.
fn gpu(ctx: &GpuCtx<'_>, label: &'static str, join: &str, finish: &str) -> Option<GpuProgram> {
    let (x, y) = (ctx.input(0), ctx.output());
    if wgsl_type(x.dtype) != Some("f32") || (x.is_empty() && !y.is_empty()) {
        return None;
    }
    let least = if label == GLOBAL_MAX_POOL.name { f32::NEG_INFINITY } else { 0.0 };
    let narrow = narrowing(x.dtype);
    let size = size(&x.shape);
    let team = if size <= SMALL { 16 } else { 256 };
    let team_text = team.to_string();
    let values = [
        ("join", join),
        ("finish", finish),
        ("narrow", narrow),
        ("is_nan", IS_NAN),
        ("team", &team_text),
    ];
    Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + size.div_ceil(team),
        label: label.into(),
        wgsl: render(include_str!("global_pool.wgsl"), &values).into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params: vec![y.len() as u32, size as u32, least.to_bits(), 0],
        groups: ctx.limits.linear(y.len(), (256 / team) as u32),
    }))
}

fn max_cases() -> Vec<Case> {
    vec![
        Case::new(
            "worked by hand",
            vec![Tensor::from_slice(
                &[1, 3, 1, 2],
                &[-5.0f32, -2.0, 1.0, f32::NAN, f32::INFINITY, 0.0],
            )],
        )
        .expect(vec![Tensor::from_slice(&[1, 3, 1, 1], &[-2.0f32, f32::NAN, f32::INFINITY])]),
        Case::new("longer than a workgroup", vec![ramp(&[2, 5, 30, 41])]),
        Case::new("one axis", vec![ramp(&[3, 2, 7])]),
        Case::new("no images", vec![ramp(&[0, 2, 7])]),
    ]
}

fn average_cases() -> Vec<Case> {
    vec![
        Case::new(
            "worked by hand",
            vec![Tensor::from_slice(&[1, 2, 3], &[1.0f32, 2.0, 6.0, -1.0, 0.0, f32::NAN])],
        )
        .expect(vec![Tensor::from_slice(&[1, 2, 1], &[3.0f32, f32::NAN])]),
        Case::new("longer than a workgroup", vec![ramp(&[2, 5, 30, 41])]),
        Case::new("three axes", vec![ramp(&[1, 2, 3, 4, 5])]),
        Case::new("no channels", vec![ramp(&[2, 0, 7])]),
    ]
}
