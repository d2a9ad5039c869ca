//! Values held between two bounds.

use crate::case::{Case, ramp};
use crate::convert::{Calc, map_blocks};
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::dtypes::NUMBERS;
use crate::gpu::elementwise::{Formula, INT64, PRELUDE, element_type, program};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::operand::ONE;
use crate::{OnnxName, OpDef, OpError, Operand};
use engine_format::{DType, Tensor};
use half::f16;

pub static CLIP: OpDef = OpDef {
    name: "Clip",
    doc: "`min(max(x, min), max)` with scalar bounds, of which either may be absent; the upper bound wins. NaN stays.",
    onnx: &[OnnxName::since("Clip", 11)],
    inputs: &[
        Operand::data("input").of(NUMBERS),
        Operand::opt_data("min").like(0).shaped(ONE),
        Operand::opt_data("max").like(0).shaped(ONE),
    ],
    outputs: &["output"],
    elementwise: true,
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    Ok(vec![Facts { value: None, ..x.clone() }])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    match ctx.input(0).dtype {
        DType::F32 | DType::F16 | DType::BF16 => clip::<f32>(ctx),
        DType::F64 => clip::<f64>(ctx),
        DType::U64 => clip::<u64>(ctx),
        _ => clip::<i64>(ctx),
    }
    Ok(())
}

fn clip<W: Calc + PartialOrd>(ctx: &mut CpuCtx<'_>) {
    let bound = |x: TensorRef<'_>| {
        let mut value = [W::default()];
        W::load(x.dtype, x.bytes, 0, &mut value);
        value[0]
    };
    let (x, low, high) = (ctx.input(0), ctx.opt_input(1).map(bound), ctx.opt_input(2).map(bound));
    // A bound that is absent compares with the value itself, so that one loop does for all.
    map_blocks(x, ctx.output(), &|x: &[W], y: &mut [W]| {
        for (&x, y) in x.iter().zip(y) {
            let low = low.unwrap_or(x);
            let raised = if x < low { low } else { x };
            let high = high.unwrap_or(raised);
            *y = if raised > high { high } else { raised };
        }
    });
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (low, high) = match ctx.input(0).dtype {
        DType::F64 => return Ok(None),
        DType::I64 => ("less_i64(a, {})", "less_i64({}, raised)"),
        DType::U64 => ("less_u64(a, {})", "less_u64({}, raised)"),
        DType::F32 | DType::F16 | DType::BF16 => {
            ("a < {} && !is_nan(a)", "raised > {} && !is_nan(raised)")
        }
        _ => ("a < {}", "raised > {}"),
    };
    let word = element_type(ctx.input(0).dtype).unwrap_or("f32");
    let raise = |bound: &str| format!("select(a, {bound}, {})", low.replace("{}", bound));
    let test = high.replace("{}", "bound");
    let lower = format!(
        "fn lower(raised: {word}, bound: {word}) -> {word} {{ return select(raised, bound, {test}); }}"
    );
    match (ctx.opt_input(1).is_some(), ctx.opt_input(2).is_some()) {
        (false, false) => formula(ctx, [0], "", "a"),
        (true, false) => formula(ctx, [0, 1], "", &raise("b")),
        (false, true) => formula(ctx, [0, 2], &lower, "lower(a, b)"),
        (true, true) => formula(ctx, [0, 1, 2], &lower, &format!("lower({}, c)", raise("b"))),
    }
}

fn formula<const N: usize>(
    ctx: &GpuCtx<'_>,
    operands: [usize; N],
    function: &str,
    y: &str,
) -> Result<Option<GpuProgram>, OpError> {
    let functions = &[PRELUDE, INT64, function];
    program(ctx, &Formula { label: "Clip", operands, functions, y, params: [0; 3] })
}

fn cases() -> Vec<Case> {
    let x = Tensor::from_slice(&[5], &[-3.0f32, 0.5, 9.0, f32::NAN, f32::NEG_INFINITY]);
    let one = |v: f32| Tensor::from_slice(&[], &[v]);
    let floats = |v: [f32; 5]| vec![Tensor::from_slice(&[5], &v)];
    let longs = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
    let scalar = |v: i64| Tensor::from_slice(&[], &[v]);
    vec![
        Case::new("both bounds", vec![x.clone(), one(-1.0), one(6.0)]).expect(floats([
            -1.0,
            0.5,
            6.0,
            f32::NAN,
            -1.0,
        ])),
        Case::new("lower bound", vec![x.clone(), one(0.0)]).expect(floats([
            0.0,
            0.5,
            9.0,
            f32::NAN,
            0.0,
        ])),
        Case::new("upper bound", vec![x.clone()])
            .input(None)
            .input(Some(one(0.0)))
            .expect(floats([-3.0, 0.0, 0.0, f32::NAN, f32::NEG_INFINITY])),
        Case::new("no bound", vec![x.clone()]).expect(floats([
            -3.0,
            0.5,
            9.0,
            f32::NAN,
            f32::NEG_INFINITY,
        ])),
        Case::new("crossed bounds", vec![x, one(2.0), one(1.0)]).expect(floats([
            1.0,
            1.0,
            1.0,
            f32::NAN,
            1.0,
        ])),
        Case::new("i64", vec![longs(&[-(1 << 40), 5, 1 << 40]), scalar(-7), scalar(1 << 33)])
            .expect(vec![longs(&[-7, 5, 1 << 33])]),
        Case::new("u8", vec![Tensor::from_slice(&[3], &[1u8, 100, 255])])
            .input(None)
            .input(Some(Tensor::from_slice(&[], &[200u8])))
            .expect(vec![Tensor::from_slice(&[3], &[1u8, 100, 200])]),
        Case::new(
            "f16",
            [-2.0f32, 0.1].map(f16::from_f32).map(|v| Tensor::from_slice(&[1], &[v])).to_vec(),
        )
        .expect(vec![Tensor::from_slice(&[1], &[f16::from_f32(0.1)])]),
        Case::new("matrix", vec![ramp(&[9, 80]), one(-0.5), one(0.75)]),
    ]
}
