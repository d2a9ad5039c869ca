//! A table from keys to values.

use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::gpu::elementwise::{INT64, PRELUDE, element_type};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render, words};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::collected;
use crate::operand::ONE;
use crate::{OpDef, OpError, Operand, Text, for_dtype};
use engine_format::{AlignedBuf, DType, Dim, Tensor};
use std::collections::HashMap;

/// Types that are compared with keys.
const KEYS: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
    DType::String,
];

/// LabelEncoder.
pub static LABEL_ENCODER: OpDef = OpDef {
    name: "LabelEncoder",
    doc: "For each element the value at the place of the equal one of `keys`, the last if there are several, or `default`, of \
          one element. NaN equals NaN. Keys have the operand's type, values and default that of the result.",
    inputs: &[
        Operand::data("X").of(KEYS),
        Operand::index("keys").like(0).shaped("n"),
        Operand::data("values").shaped("n"),
        Operand::data("default").like(2).shaped(ONE),
    ],
    infer,
    text: Text::Kernel(run_strings),
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, keys, values, default) = (ctx.facts(0)?, ctx.facts(1)?, ctx.facts(2)?, ctx.facts(3)?);
    let length = |facts: &Facts| match facts.shape.as_deref() {
        Some([n]) => n.known(),
        _ => None,
    };
    let one = default.shape.as_ref().is_some_and(|dims| dims.iter().all(|d| *d == Dim::from(1i64)));
    let types = x.dtype == keys.dtype && values.dtype == default.dtype;
    if !types || !one || length(keys).is_none() || length(keys) != length(values) {
        return Err(InferError::invalid(format!(
            "X of {}, keys {keys}, values {values}, default {default}; expected keys of X's type, as many values, and a \
             default of one element of their type",
            x.dtype,
        )));
    }
    Ok(vec![Facts { dtype: values.dtype, shape: x.shape.clone(), value: None }])
}

/// What keys are compared by.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Number(u64),
    Text(&'a str),
}

/// The elements as keys: floats by their bits, all NaN being one and both zeros too.
fn keys(x: TensorRef<'_>) -> Result<Vec<Key<'_>>, OpError> {
    let float = |value: f64| match value {
        v if v.is_nan() => Key::Number(f64::NAN.to_bits()),
        0.0 => Key::Number(0),
        v => Key::Number(v.to_bits()),
    };
    match x.dtype {
        DType::String => collected(x.strings().into_iter().map(Key::Text)),
        DType::F32 => collected(x.slice::<f32>().iter().map(|&v| float(v.into()))),
        DType::F64 => collected(x.slice::<f64>().iter().map(|&v| float(v))),
        DType::U64 => collected(x.slice::<u64>().iter().map(|&v| Key::Number(v))),
        dtype => for_dtype!(
            dtype,
            [I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32, Bool => u8],
            T => collected(x.slice::<T>().iter().map(|&v| Key::Number(v as u64)))
        ),
    }
}

/// Where the value of each element stands, if it has one.
fn places(ctx: &CpuCtx<'_>) -> Result<Vec<Option<usize>>, OpError> {
    let table = keys(ctx.input(1))?.into_iter().enumerate().map(|(i, key)| (key, i));
    let table: HashMap<Key<'_>, usize> = table.collect();
    collected(keys(ctx.input(0))?.iter().map(|key| table.get(key).copied()))
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let places = places(ctx)?;
    let (values, default) = (ctx.input(2), ctx.input(3));
    write(&places, values, default, ctx.output().bytes);
    Ok(())
}

/// Copies the elements at `places` of `values`, or `default`.
fn write(places: &[Option<usize>], values: TensorRef<'_>, default: TensorRef<'_>, out: &mut [u8]) {
    let width = values.dtype.width();
    for (place, slot) in places.iter().zip(out.chunks_exact_mut(width)) {
        slot.copy_from_slice(match place {
            Some(at) => &values.bytes[at * width..][..width],
            None => &default.bytes[..width],
        });
    }
}

fn run_strings(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let places = places(ctx)?;
    let (x, values, default) = (ctx.input(0), ctx.input(2), ctx.input(3));
    if values.dtype == DType::String {
        let (texts, other) = (values.strings(), default.strings()[0]);
        let texts: Vec<&str> = places.iter().map(|at| at.map_or(other, |at| texts[at])).collect();
        return Ok(vec![Tensor::from_strings(x.shape, &texts)]);
    }
    let len = places.len() * values.dtype.width();
    let mut bytes = AlignedBuf::try_zeroed(len).map_err(|why| OpError::new(why.to_string()))?;
    write(&places, values, default, &mut bytes);
    let tensor = Tensor::new(values.dtype, x.shape, bytes.into());
    Ok(vec![tensor.map_err(|error| OpError::new(error.to_string()))?])
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, keys, y) = (ctx.input(0), ctx.input(1), ctx.output());
    let (Some(word), Some(width)) = (element_type(x.dtype), words(y.dtype)) else {
        return Ok(None);
    };
    let n = y.len() * width;
    // A table of nothing is not bound.
    if keys.is_empty() || i32::try_from(n).is_err() {
        return Ok(None);
    }
    let same = match word {
        "f32" => "bits(a) == bits(b) || (is_nan(a) && is_nan(b))",
        "vec2<u32>" => "equal64(a, b)",
        _ => "a == b",
    };
    let functions = [PRELUDE, INT64].concat();
    let parts = [("functions", functions.as_str()), ("same", same), ("word", word)];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + keys.len(),
        label: "LabelEncoder".into(),
        wgsl: render(include_str!("label_encoder.wgsl"), &parts).into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::In(2), Bind::In(3), Bind::Out(0)],
        params: [n, width, keys.len()].map(|n| n as u32).to_vec(),
        groups: ctx.limits.linear(n, 64),
    })))
}

fn cases() -> Vec<Case> {
    let text = |v: &[&str]| Tensor::from_strings(&[v.len()], v);
    let longs = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
    let floats = |v: &[f32]| Tensor::from_slice(&[v.len()], v);
    let n = f32::NAN;
    vec![
        Case::new("numbers for names", {
            let x = Tensor::from_strings(&[3, 1], &["a", "d", "b"]);
            vec![x, text(&["a", "b"]), longs(&[5, 7]), longs(&[-1])]
        })
        .expect(vec![Tensor::from_slice(&[3, 1], &[5i64, -1, 7])]),
        Case::new("names for numbers", {
            vec![longs(&[2, 9]), longs(&[1, 2]), text(&["one", "two"]), text(&["_"])]
        })
        .expect(vec![text(&["two", "_"])]),
        Case::new("NaN, zeros and a key twice", {
            let keys = floats(&[n, 0.0, 1.0, 1.0]);
            vec![floats(&[1.0, -n, -0.0, 2.0]), keys, longs(&[10, 20, 30, 40]), longs(&[0])]
        })
        .expect(vec![longs(&[40, 10, 20, 0])]),
        Case::new("of two words to bytes", {
            let values = Tensor::from_slice(&[3], &[7i8, -8, 9]);
            let x = Tensor::from_slice(&[2, 2], &[5i64 << 33, 5, -1, 6]);
            vec![x, longs(&[5 << 33, -1, 5]), values, Tensor::from_slice(&[1], &[0i8])]
        })
        .expect(vec![Tensor::from_slice(&[2, 2], &[7i8, 9, -8, 0])]),
        Case::new("i16 to f64", {
            let keys = Tensor::from_slice(&[2], &[-3i16, 3]);
            let values = Tensor::from_slice(&[2], &[0.5f64, 1.5]);
            vec![
                Tensor::from_slice(&[2], &[3i16, 4]),
                keys,
                values,
                Tensor::from_slice(&[], &[9f64]),
            ]
        })
        .expect(vec![Tensor::from_slice(&[2], &[1.5f64, 9.0])]),
        Case::new("nothing", vec![longs(&[]), longs(&[1]), floats(&[1.0]), floats(&[0.0])]),
    ]
}
