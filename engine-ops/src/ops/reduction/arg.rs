//! Where along an axis the largest or smallest element is.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{INT64, PRELUDE, element_type};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::parallel::pieces;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, DType, Dim, Tensor};

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    attrs: &[
        AttrDef::int("axis", 0),
        AttrDef::int("keepdims", 1),
        AttrDef::int("select_last_index", 0),
    ],
    inputs: &[Operand::data("data")],
    outputs: &["reduced"],
    infer,
    ..OpDef::BASE
};

pub static ARG_MAX: OpDef = OpDef {
    name: "ArgMax",
    doc: "The index of the largest element along `axis`: the first of several, or the last if `select_last_index`; NaN counts \
          as larger than every number.",
    onnx: &[OnnxName::since("ArgMax", 13)],
    cpu: Cpu::kernel(|ctx| run(ctx, true)),
    gpu: Some(|ctx| gpu(ctx, "ArgMax", true)),
    cases: || cases([[2, 0], [3, 2]]),
    ..ROW
};

pub static ARG_MIN: OpDef = OpDef {
    name: "ArgMin",
    doc: "The index of the smallest element along `axis`: the first of several, or the last if `select_last_index`; NaN counts \
          as smaller than every number.",
    onnx: &[OnnxName::since("ArgMin", 13)],
    cpu: Cpu::kernel(|ctx| run(ctx, false)),
    gpu: Some(|ctx| gpu(ctx, "ArgMin", false)),
    cases: || cases([[0, 1], [0, 3]]),
    ..ROW
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    if ctx.dtype(0)? == DType::Bool {
        return Err(InferError::invalid("operand data is bool, expected numbers"));
    }
    let mut shape = ctx.shape(0)?.to_vec();
    let at = axis(ctx.attrs.int("axis"), shape.len())?;
    if shape[at].known() == Some(0) {
        return Err(InferError::invalid(format!("axis {at} of {shape:?} has no elements")));
    }
    match ctx.attrs.int("keepdims") {
        0 => drop(shape.remove(at)),
        _ => shape[at] = Dim::from(1),
    }
    Ok(vec![Facts::new(DType::I64, shape)])
}

fn split(shape: &[usize], along: i64) -> Result<[usize; 3], OpError> {
    let at = axis(along, shape.len())?;
    Ok([shape[..at].iter().product(), shape[at], shape[at + 1..].iter().product()])
}

fn run(ctx: &mut CpuCtx<'_>, largest: bool) -> Result<(), OpError> {
    match ctx.input(0).dtype {
        DType::F64 => search(ctx, largest, |v: f64| v.is_nan()),
        DType::F32 | DType::F16 | DType::BF16 => search(ctx, largest, |v: f32| v.is_nan()),
        DType::U64 => search(ctx, largest, |_: u64| false),
        _ => search(ctx, largest, |_: i64| false),
    }
}

fn search<W: Calc + PartialOrd>(
    ctx: &mut CpuCtx<'_>,
    largest: bool,
    is_nan: fn(W) -> bool,
) -> Result<(), OpError> {
    let last = ctx.attrs.int("select_last_index") != 0;
    let x = ctx.input(0);
    let [_, along, inner] = split(x.shape, ctx.attrs.int("axis"))?;
    pieces(ctx.output().slice::<i64>(), 1, along, |start, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let out = start + i;
            let base = out / inner * along * inner + out % inner;
            let load = |k: usize| {
                let mut value = [W::default()];
                W::load(x.dtype, x.bytes, base + k * inner, &mut value);
                value[0]
            };
            let (mut best, mut found) = (load(0), 0);
            for k in 1..along {
                let value = load(k);
                let beats = if largest { value > best } else { value < best };
                let ties = value == best || (is_nan(value) && is_nan(best));
                if (beats && !is_nan(best)) || (is_nan(value) && !is_nan(best)) || (last && ties) {
                    (best, found) = (value, k);
                }
            }
            *y = found as i64;
        }
    });
    Ok(())
}

fn gpu(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    largest: bool,
) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let Some(word) = element_type(x.dtype) else { return Ok(None) };
    let [outer, along, inner] = split(&x.shape, ctx.attrs.int("axis"))?;
    let (less, same, nan) = match x.dtype {
        d if d.is_float() => ("a < b", "a == b", "is_nan(a)"),
        DType::I64 => ("less_i64(a, b)", "equal64(a, b)", "false"),
        DType::U64 => ("less_u64(a, b)", "equal64(a, b)", "false"),
        _ => ("a < b", "a == b", "false"),
    };
    let wgsl = render(
        include_str!("arg.wgsl"),
        &[
            ("functions", &[PRELUDE, INT64].concat()),
            ("word", word),
            ("less", less),
            ("same", same),
            ("nan", nan),
            ("beats", if largest { "less(b, a)" } else { "less(a, b)" }),
        ],
    );
    let last = ctx.attrs.int("select_last_index") != 0;
    let rows = outer * inner;
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + along.div_ceil(128),
        label: label.into(),
        wgsl: wgsl.into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params: vec![rows as u32, along as u32, inner as u32, last.into()],
        groups: ctx.limits.linear(rows, 1),
    })))
}

/// Cases, given the first index in each of two rows, and the last one.
fn cases([first, last]: [[i64; 2]; 2]) -> Vec<Case> {
    let rows = || Tensor::from_slice(&[2, 4], &[1.0f32, 2.0, 5.0, 5.0, 7.0, 1.0, 7.0, 1.0]);
    let wide = Tensor::from_slice(&[2, 3], &[1i64 << 40, -(1 << 40), 3, 1, 2, 1 << 33]);
    vec![
        Case::new("rows", vec![rows()])
            .attr("axis", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[2, 1], &first)]),
        Case::new("the last of several", vec![rows()])
            .attr("axis", Attr::Int(-1))
            .attr("select_last_index", Attr::Int(1))
            .attr("keepdims", Attr::Int(0))
            .expect(vec![Tensor::from_slice(&[2], &last)]),
        Case::new("i64", vec![wide]).attr("axis", Attr::Int(1)),
        Case::new("not a number", vec![Tensor::from_slice(&[3], &[1.0f32, f32::NAN, 2.0])])
            .expect(vec![Tensor::from_slice(&[1], &[1i64])]),
        Case::new("long rows", vec![ramp(&[3, 1000])]).attr("axis", Attr::Int(1)),
        Case::new("columns", vec![ramp(&[9, 5])]),
    ]
}
