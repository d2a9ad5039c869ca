//! Any number of operands, broadcast together and folded from the first to the last.

use super::binary::Wgsl;
use crate::case::{Case, ramp};
use crate::convert::{Calc, fold_blocks};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{Formula, INT64, PRELUDE, dispatch, rounded};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, broadcast};
use crate::{OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{DType, Tensor};
use std::ops::{Add, Div};

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    inputs: &[Operand::data("data")],
    elementwise: true,
    variadic_input: true,
    tolerance: Tolerance::ELEMENTWISE,
    ..OpDef::BASE
};

/// The larger of `a` and `b`; NaN if one is.
pub(in crate::ops) const LARGEST: Wgsl = Wgsl {
    float: "select(b, a, a > b || is_nan(a)) + select(0.0, b, is_nan(b))",
    signed: "max(a, b)",
    unsigned: "max(a, b)",
    signed64: "select(a, b, less_i64(a, b))",
    unsigned64: "select(a, b, less_u64(a, b))",
    boolean: "",
};

/// The smaller of `a` and `b`; NaN if one is.
pub(in crate::ops) const SMALLEST: Wgsl = Wgsl {
    float: "select(b, a, a < b || is_nan(a)) + select(0.0, b, is_nan(b))",
    signed: "min(a, b)",
    unsigned: "min(a, b)",
    signed64: "select(b, a, less_i64(a, b))",
    unsigned64: "select(b, a, less_u64(a, b))",
    boolean: "",
};

/// Folds operands with an expression of `a` (so far) and `b` (the next): one for floats, one for integers.
macro_rules! fold {
    ($ctx:expr, |$a:ident, $b:ident| float $float:expr, int $int:expr) => {
        match $ctx.input(0).dtype {
            DType::U64 => fold($ctx, |$a: u64, $b: u64| -> u64 { $int }),
            dtype if dtype.is_int() => fold($ctx, |$a: i64, $b: i64| -> i64 { $int }),
            _ => fold!($ctx, |$a, $b| float $float),
        }
    };
    ($ctx:expr, |$a:ident, $b:ident| float $float:expr) => {
        match $ctx.input(0).dtype {
            DType::F64 => fold($ctx, |$a: f64, $b: f64| -> f64 { $float }),
            _ => fold($ctx, |$a: f32, $b: f32| -> f32 { $float }),
        }
    };
}

pub static MAX: OpDef = OpDef {
    name: "Max",
    doc: "The largest of all operands at each position, with broadcasting; NaN if one is NaN.",
    onnx: &[OnnxName::since("Max", 8)],
    infer: numbers,
    cpu: Cpu::kernel(
        |ctx| fold!(ctx, |a, b| float if a > b || a.is_nan() { a } else { b }, int a.max(b)),
    ),
    gpu: Some(|ctx| gpu(ctx, "Max", &LARGEST)),
    cases: || cases([[3.0, 2.5], [3.0, 5.0]], [4, 7]),
    ..ROW
};

pub static MIN: OpDef = OpDef {
    name: "Min",
    doc: "The smallest of all operands at each position, with broadcasting; NaN if one is NaN.",
    onnx: &[OnnxName::since("Min", 8)],
    infer: numbers,
    cpu: Cpu::kernel(
        |ctx| fold!(ctx, |a, b| float if a < b || a.is_nan() { a } else { b }, int a.min(b)),
    ),
    gpu: Some(|ctx| gpu(ctx, "Min", &SMALLEST)),
    cases: || cases([[1.0, -2.0], [1.5, -2.0]], [-5, 2]),
    ..ROW
};

pub static SUM: OpDef = OpDef {
    name: "Sum",
    doc: "The sum of all operands at each position, with broadcasting.",
    onnx: &[OnnxName::since("Sum", 8)],
    infer: floats,
    cpu: Cpu::kernel(|ctx| fold!(ctx, |a, b| float a + b)),
    gpu: Some(|ctx| gpu(ctx, "Sum", &Wgsl { float: "a + b", ..Wgsl::NONE })),
    cases: || float_cases([[5.5, 3.0], [6.5, 5.5]]),
    ..ROW
};

pub static MEAN: OpDef = OpDef {
    name: "Mean",
    doc: "The sum of all operands at each position, divided by their number, with broadcasting.",
    onnx: &[OnnxName::since("Mean", 8)],
    infer: floats,
    cpu: Cpu::kernel(|ctx| {
        let count = ctx.inputs.len() as f32;
        match ctx.input(0).dtype {
            DType::F64 => mean(ctx, f64::from(count)),
            _ => mean(ctx, count),
        }
    }),
    gpu: Some(mean_gpu),
    cases: || float_cases([[5.5 / 3.0, 1.0], [6.5 / 3.0, 5.5 / 3.0]]),
    ..ROW
};

fn infer(ctx: &InferCtx<'_>, takes: fn(DType) -> bool) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    if !takes(dtype) {
        return Err(InferError::invalid(format!("operand 0 is {dtype}, which is not taken")));
    }
    let mut shapes = Some(Vec::new());
    for i in 0..ctx.inputs.len() {
        let facts = ctx.facts(i)?;
        if facts.dtype != dtype {
            let found = facts.dtype;
            return Err(InferError::invalid(format!("operand {i} is {found}, expected {dtype}")));
        }
        shapes = shapes.zip(facts.shape.as_deref()).map(|(mut all, shape)| {
            all.push(shape);
            all
        });
    }
    match shapes {
        Some(shapes) => Ok(vec![Facts::new(dtype, broadcast(&shapes)?)]),
        None => Ok(vec![Facts::unranked(dtype)]),
    }
}

fn numbers(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    infer(ctx, |d| d != DType::Bool)
}

fn floats(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    infer(ctx, DType::is_float)
}

fn fold<W: Calc>(ctx: &mut CpuCtx<'_>, f: impl Fn(W, W) -> W + Sync) -> Result<(), OpError> {
    let operands = ctx.inputs;
    fold_blocks(
        operands,
        ctx.output(),
        &|so_far: &mut [W], next: &[W]| {
            so_far.iter_mut().zip(next).for_each(|(a, &b)| *a = f(*a, b));
        },
        &|_| {},
    )
}

/// The sum, divided by the number of operands.
fn mean<W: Calc + Add<Output = W> + Div<Output = W>>(
    ctx: &mut CpuCtx<'_>,
    count: W,
) -> Result<(), OpError> {
    let operands = ctx.inputs;
    fold_blocks(
        operands,
        ctx.output(),
        &|so_far: &mut [W], next: &[W]| {
            so_far.iter_mut().zip(next).for_each(|(a, &b)| *a = *a + b);
        },
        &|sum: &mut [W]| sum.iter_mut().for_each(|v| *v = *v / count),
    )
}

/// Two operands in the first dispatch, then one more in each, on top of the result so far. `last` may change the text of
/// the last dispatch.
fn chain(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    wgsl: &Wgsl,
    last: impl Fn(String) -> String,
) -> Result<Option<GpuProgram>, OpError> {
    let dtype = ctx.output().dtype;
    let Some(text) = wgsl.of(dtype) else { return Ok(None) };
    let functions = &[PRELUDE, INT64];
    let ends = ctx.inputs.len().max(2) - 1;
    let finish = |i: usize, y: String| if i >= ends { last(y) } else { y };
    let mut dispatches = Vec::new();
    let first = match ctx.inputs.len() {
        1 => {
            let y = finish(ends, "a".to_owned());
            dispatch(ctx, &Formula { label, operands: [0], functions, y: &y, params: [0; 3] })?
        }
        _ => {
            let y = finish(1, rounded(dtype, text));
            dispatch(ctx, &Formula { label, operands: [0, 1], functions, y: &y, params: [0; 3] })?
        }
    };
    let Some(first) = first else { return Ok(None) };
    dispatches.push(first);
    for i in 2..ctx.inputs.len() {
        let y = finish(i, rounded(dtype, "combine(y_out[i], a)"));
        let word = crate::gpu::elementwise::element_type(dtype).unwrap_or("f32");
        let combine = format!("fn combine(a: {word}, b: {word}) -> {word} {{ return {text}; }}");
        let functions = &[PRELUDE, INT64, &combine];
        let next = Formula { label, operands: [i], functions, y: &y, params: [0; 3] };
        let Some(next) = dispatch(ctx, &next)? else { return Ok(None) };
        dispatches.push(next);
    }
    Ok(Some(GpuProgram { dispatches, scratch: Vec::new() }))
}

fn gpu(ctx: &GpuCtx<'_>, label: &'static str, wgsl: &Wgsl) -> Result<Option<GpuProgram>, OpError> {
    chain(ctx, label, wgsl, |y| y)
}

fn mean_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (dtype, count) = (ctx.output().dtype, ctx.inputs.len());
    chain(ctx, "Mean", &Wgsl { float: "a + b", ..Wgsl::NONE }, |y| {
        rounded(dtype, &format!("(({y}) / {count}.0)"))
    })
}

/// Three operands of two rows and two columns, given what comes out; and what survives.
fn float_cases(expected: [[f32; 2]; 2]) -> Vec<Case> {
    let operands = vec![
        Tensor::from_slice(&[2, 2], &[1.0f32, 2.5, 2.0, 5.0]),
        Tensor::from_slice(&[2], &[3.0f32, -2.0]),
        Tensor::from_slice(&[1, 2], &[1.5f32, 2.5]),
    ];
    let nan = |i: usize| {
        let mut values = [1.0f32; 3];
        values[i] = f32::NAN;
        Tensor::from_slice(&[3], &values)
    };
    vec![
        Case::new("three operands", operands)
            .expect(vec![Tensor::from_slice(&[2, 2], &expected.concat())]),
        Case::new("not a number", vec![nan(0), nan(1), nan(2)])
            .expect(vec![Tensor::from_slice(&[3], &[f32::NAN; 3])]),
        Case::new("one operand", vec![ramp(&[3, 5])]),
        Case::new("two of one shape", vec![ramp(&[3, 100]), ramp(&[3, 100])]),
        Case::new(
            "the first is the smaller one",
            vec![ramp(&[4]), ramp(&[5, 1]), ramp(&[2, 1, 1])],
        ),
    ]
}

/// As [`float_cases`], and integers.
fn cases(expected: [[f32; 2]; 2], ints: [i64; 2]) -> Vec<Case> {
    let mut cases = float_cases(expected);
    let operands = [[4i64, 2], [-5, 7]];
    cases.push(
        Case::new("i64", operands.map(|v| Tensor::from_slice(&[2], &v)).to_vec())
            .expect(vec![Tensor::from_slice(&[2], &ints)]),
    );
    cases.push(Case::new(
        "u8",
        operands.map(|v| Tensor::from_slice(&[2], &v.map(|v| v.unsigned_abs() as u8))).to_vec(),
    ));
    cases
}
