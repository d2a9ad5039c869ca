//! Elementwise functions of one float operand. An operator is one row: its formula for the CPU and for WGSL.

use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{Kind, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{DType, Element, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

/// Declares one operator: constant, name, first opset of its present meaning, docs, the function for `f32` and `f64`, and
/// the WGSL expression of `x`, samples of operand and result.
macro_rules! unary {
    ($id:ident, $name:literal, $since:literal, $doc:literal, $f32:expr, $f64:expr, $wgsl:literal, $samples:expr) => {
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: $doc,
            onnx: &[OnnxName::since($name, $since)],
            inputs: &[Operand::data("X")],
            kind: Kind::Compute,
            infer,
            cpu: Cpu::kernel(|ctx| map(ctx, $f32, $f64)),
            gpu: Some(|ctx| gpu(ctx, $name, $wgsl)),
            tolerance: Tolerance::ELEMENTWISE,
            cases: || cases(&$samples),
            ..OpDef::BASE
        };
    };
}

// Written so that NaN comes out as NaN: `max` would lose it.
unary!(
    RELU,
    "Relu",
    6,
    "`x < 0 ? 0 : x`.",
    |x| if x < 0.0 { 0.0 } else { x },
    |x| if x < 0.0 { 0.0 } else { x },
    "select(select(x, 0.0, x < 0.0), x, is_nan(x))",
    [(-2.0, 0.0), (3.5, 3.5), (f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)]
);
unary!(
    SIGMOID,
    "Sigmoid",
    6,
    "`1 / (1 + e^-x)`.",
    |x| 1.0 / (1.0 + (-x).exp()),
    |x| 1.0 / (1.0 + (-x).exp()),
    "1.0 / (1.0 + exp(-x))",
    [(0.0, 0.5), (2.0, 0.880_797_1), (-100.0, 0.0), (f32::NAN, f32::NAN)]
);
// WGSL's tanh overflows to NaN on some drivers where |x| is large; beyond 15 the result is ±1 in f32.
unary!(
    TANH,
    "Tanh",
    6,
    "Hyperbolic tangent.",
    f32::tanh,
    f64::tanh,
    "select(tanh(clamp(x, -15.0, 15.0)), x, is_nan(x))",
    [(0.5, 0.462_117_17), (-40.0, -1.0), (f32::INFINITY, 1.0), (f32::NAN, f32::NAN)]
);
unary!(
    EXP,
    "Exp",
    6,
    "`e^x`.",
    f32::exp,
    f64::exp,
    "exp(x)",
    [(0.0, 1.0), (1.0, 2.718_281_7), (f32::NEG_INFINITY, 0.0), (f32::NAN, f32::NAN)]
);
unary!(
    SQRT,
    "Sqrt",
    6,
    "Square root.",
    f32::sqrt,
    f64::sqrt,
    "sqrt(x)",
    [(4.0, 2.0), (2.25, 1.5), (-1.0, f32::NAN), (f32::NAN, f32::NAN)]
);
unary!(
    RECIPROCAL,
    "Reciprocal",
    6,
    "`1 / x`.",
    |x| 1.0 / x,
    |x| 1.0 / x,
    "1.0 / x",
    [(4.0, 0.25), (-0.5, -2.0), (0.0, f32::INFINITY), (f32::NAN, f32::NAN)]
);
unary!(
    ERF,
    "Erf",
    9,
    "The Gauss error function.",
    libm::erff,
    libm::erf,
    "erf(x)",
    [(0.5, 0.520_499_9), (-3.0, -0.999_977_9), (f32::INFINITY, 1.0), (f32::NAN, f32::NAN)]
);

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if !x.dtype.is_float() {
        return Err(InferError::invalid(format!(
            "operand X is {}, expected a float type",
            x.dtype
        )));
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// Elements per rayon task: large enough to hide the task, small enough to spread.
const CHUNK: usize = 16 * 1024;

fn map(
    ctx: &mut CpuCtx<'_>,
    f32: impl Fn(f32) -> f32 + Sync,
    f64: impl Fn(f64) -> f64 + Sync,
) -> Result<(), OpError> {
    match ctx.input(0).dtype {
        DType::F32 => each(ctx, f32),
        DType::F64 => each(ctx, f64),
        DType::F16 => each(ctx, |x: f16| f16::from_f32(f32(x.to_f32()))),
        DType::BF16 => each(ctx, |x: bf16| bf16::from_f32(f32(x.to_f32()))),
        other => return Err(OpError::new(format!("operand X is {other}, expected a float type"))),
    }
    Ok(())
}

fn each<T: Element>(ctx: &mut CpuCtx<'_>, f: impl Fn(T) -> T + Sync) {
    let x = ctx.input(0).slice::<T>();
    let y = ctx.output().slice::<T>();
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    });
}

fn gpu(
    ctx: &GpuCtx<'_>,
    name: &'static str,
    expression: &str,
) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    if wgsl_type(x.dtype) != Some("f32") {
        return Ok(None);
    }
    let round = match x.dtype {
        DType::F16 => "quantizeToF16(y)",
        DType::BF16 => "to_bf16(y)",
        _ => "y",
    };
    let n = x.len();
    Ok(Some(GpuProgram::one(Dispatch {
        label: name.into(),
        wgsl: render(include_str!("unary.wgsl"), &[("f", expression), ("round", round)]).into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params: vec![n as u32],
        groups: ctx.limits.linear(n, 256),
    })))
}

fn cases(samples: &[(f32, f32)]) -> Vec<Case> {
    let (x, y): (Vec<f32>, Vec<f32>) = samples.iter().copied().unzip();
    vec![
        Case::new("samples", vec![Tensor::from_slice(&[x.len()], &x)])
            .expect(vec![Tensor::from_slice(&[y.len()], &y)]),
        Case::new("matrix", vec![ramp(&[3, 50])]),
        Case::new("longer than one workgroup", vec![ramp(&[700])]),
        Case::new("empty", vec![ramp(&[0, 4])]),
    ]
}
