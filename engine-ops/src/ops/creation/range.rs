//! Range: numbers at equal distances.

use crate::case::Case;
use crate::convert::cast;
use crate::cpu::{Cpu, CpuCtx, TensorMut, TensorRef};
use crate::gpu::elementwise::{INT64, PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, Known};
use crate::operand::ONE;
use crate::{OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{DType, Dim, Tensor};
use half::{bf16, f16};

/// Range.
pub static RANGE: OpDef = OpDef {
    name: "Range",
    doc: "`start + i·delta` for every i from 0 on that stays before `limit`, halves calculated in f32.",
    onnx: &[OnnxName { until: 26, ..OnnxName::since("Range", 11) }],
    inputs: &[
        Operand::shape("start").of(TYPES).shaped(ONE),
        Operand::shape("limit").like(0).shaped(ONE),
        Operand::shape("delta").like(0).shaped(ONE),
    ],
    outputs: &["output"],
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    tolerance: Tolerance::ELEMENTWISE,
    cases,
    ..OpDef::BASE
};

/// Types of numbers that ranges are made of.
const TYPES: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I16, DType::I32, DType::I64];

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let count = if dtype.is_float() { floats(ctx)? } else { integers(ctx)? };
    Ok(vec![Facts::new(dtype, vec![count])])
}

/// How many steps fit.
fn steps(start: f64, limit: f64, delta: f64) -> Result<Dim, OpError> {
    let steps = ((limit - start) / delta).ceil().max(0.0);
    if !steps.is_finite() {
        return Err(OpError::new(format!(
            "a range from {start} to {limit} by {delta}, expected finitely many steps"
        )));
    }
    // What does not fit becomes the largest number, which is no size that a tensor can have.
    Ok(Dim::from(steps as i64))
}

fn floats(ctx: &InferCtx<'_>) -> Result<Dim, InferError> {
    let one = |i: usize| match &ctx.facts(i)?.value {
        Some(Known::Tensor(t)) if t.len() == 1 => {
            let mut out = 0f64;
            let bytes = bytemuck::bytes_of_mut(&mut out);
            cast(TensorRef::from(t), &mut TensorMut { dtype: DType::F64, shape: &[], bytes });
            Ok(out)
        }
        Some(other) => {
            Err(InferError::invalid(format!("operand {i} is {other:?}, expected a scalar")))
        }
        None => Err(InferError::NeedsValue(i)),
    };
    Ok(steps(one(0)?, one(1)?, one(2)?)?)
}

fn integers(ctx: &InferCtx<'_>) -> Result<Dim, InferError> {
    let one = |i: usize| match ctx.dims(i)?.as_slice() {
        [dim] => Ok(dim.clone()),
        other => Err(InferError::invalid(format!("operand {i} is {other:?}, expected a scalar"))),
    };
    let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
    match (start.known(), limit.known(), delta.known()) {
        (_, _, Some(0)) => Err(InferError::invalid("delta is 0")),
        (Some(start), Some(limit), Some(delta)) => {
            let distance = if delta > 0 {
                i128::from(limit) - i128::from(start)
            } else {
                i128::from(start) - i128::from(limit)
            };
            let by = i128::from(delta.unsigned_abs());
            let count = (distance.max(0) + by - 1) / by;
            Ok(Dim::from(i64::try_from(count).ok()))
        }
        // A symbolic limit is supposed not to lie before the start.
        (_, _, Some(delta)) if delta > 0 => {
            let up = &(&limit - &start) + &Dim::from(delta - 1);
            Ok(up.floor_div(&Dim::from(delta)))
        }
        (_, _, Some(_)) => Err(InferError::NeedsValue(0)),
        _ => Err(InferError::NeedsValue(2)),
    }
}

/// `start + i·delta`; integers wrap.
trait Number: Copy {
    fn at(start: Self, i: usize, delta: Self) -> Self;
}

macro_rules! numbers {
    ($($t:ty: |$start:ident, $i:ident, $delta:ident| $e:expr),*) => {$(
        impl Number for $t {
            fn at($start: Self, $i: usize, $delta: Self) -> Self { $e }
        }
    )*};
}
numbers!(
    f32: |start, i, delta| start + i as f32 * delta,
    f64: |start, i, delta| start + i as f64 * delta,
    f16: |start, i, delta| f16::from_f32(start.to_f32() + i as f32 * delta.to_f32()),
    bf16: |start, i, delta| bf16::from_f32(start.to_f32() + i as f32 * delta.to_f32()),
    i16: |start, i, delta| start.wrapping_add((i as i16).wrapping_mul(delta)),
    i32: |start, i, delta| start.wrapping_add((i as i32).wrapping_mul(delta)),
    i64: |start, i, delta| start.wrapping_add((i as i64).wrapping_mul(delta))
);

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (start, delta) = (ctx.input(0), ctx.input(2));
    let y = ctx.output();
    for_dtype!(y.dtype, [
        F32 => f32, F64 => f64, F16 => f16, BF16 => bf16, I16 => i16, I32 => i32, I64 => i64,
    ], T => {
        let (start, delta) = (start.slice::<T>()[0], delta.slice::<T>()[0]);
        for (i, y) in y.slice::<T>().iter_mut().enumerate() {
            *y = T::at(start, i, delta);
        }
        Ok(())
    })
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let y = ctx.output();
    let Some(word) = element_type(y.dtype) else { return Ok(None) };
    let (Some(start), Some(delta)) = (ctx.value(0), ctx.value(2)) else { return Ok(None) };
    let value = match word {
        "f32" => "bitcast<f32>(params.start.x) + f32(i) * bitcast<f32>(params.delta.x)",
        "i32" => "bitcast<i32>(params.start.x) + i32(i) * bitcast<i32>(params.delta.x)",
        _ => "add64(params.start, mul64(vec2<u32>(i, 0u), params.delta))",
    };
    let text = render(
        include_str!("range.wgsl"),
        &[
            ("functions", &[PRELUDE, INT64].concat()),
            ("word", word),
            ("y", &rounded(y.dtype, &format!("({value})"))),
        ],
    );
    let mut params = vec![y.len() as u32, 0];
    for number in [start, delta] {
        params.extend(one_in_words(number));
    }
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS,
        label: "Range".into(),
        wgsl: text.into(),
        binds: vec![Bind::Out(0)],
        params,
        groups: ctx.limits.linear(y.len(), 256),
    })))
}

/// A scalar as the words of its element on the GPU, the second 0 where it has one.
fn one_in_words(number: &Tensor) -> [u32; 2] {
    let wide = if number.dtype().is_float() { DType::F32 } else { DType::I64 };
    let mut bytes = [0u64; 1];
    let out: &mut [u8] = &mut bytemuck::cast_slice_mut(&mut bytes)[..wide.width()];
    cast(TensorRef::from(number), &mut TensorMut { dtype: wide, shape: &[], bytes: out });
    [bytes[0] as u32, (bytes[0] >> 32) as u32]
}

fn cases() -> Vec<Case> {
    fn range<T: engine_format::Element>(name: &'static str, of: [T; 3], expected: &[T]) -> Case {
        let scalar = |v: &T| Tensor::from_slice(&[], &[*v]);
        Case::new(name, of.iter().map(scalar).collect())
            .expect(vec![Tensor::from_slice(&[expected.len()], expected)])
    }
    vec![
        range("upwards", [1i64, 8, 3], &[1, 4, 7]),
        range("downwards", [10i32, 4, -2], &[10, 8, 6]),
        range("fractions", [0.5f32, 2.0, 0.5], &[0.5, 1.0, 1.5]),
        range("doubles", [0f64, -1.0, -0.25], &[0.0, -0.25, -0.5, -0.75]),
        range(
            "halves",
            [0f32, 1.0, 0.25].map(f16::from_f32),
            &[0f32, 0.25, 0.5, 0.75].map(f16::from_f32),
        ),
        range("bf16", [1f32, 5.0, 2.0].map(bf16::from_f32), &[1f32, 3.0].map(bf16::from_f32)),
        range("short", [-1i16, 2, 1], &[-1, 0, 1]),
        range("nothing", [3i64, 3, 1], &[]),
        range("wide", [0xffff_ffff, 0x2_0000_0001, 1i64 << 32], &[0xffff_ffff, 0x1_ffff_ffff]),
        Case::new("many", [0f32, 700.0, 0.5].map(|v| Tensor::from_slice(&[], &[v])).to_vec()),
    ]
}
