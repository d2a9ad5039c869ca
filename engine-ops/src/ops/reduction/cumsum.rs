//! Running sums and products along an axis.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, TensorMut, TensorRef};
use crate::dtypes::NUMBERS;
use crate::gpu::elementwise::{INT64, PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::operand::{INTEGERS, ONE};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Tensor};

pub static CUM_SUM: OpDef = OpDef {
    name: "CumSum",
    doc: "The sum of the elements up to each position along `axis`; without the element itself if `exclusive`, from the end if \
          `reverse`.",
    onnx: &[OnnxName::since("CumSum", 11)],
    attrs: &[AttrDef::int("exclusive", 0), AttrDef::int("reverse", 0)],
    inputs: &[Operand::data("x").of(NUMBERS), Operand::shape("axis").of(INTEGERS).shaped(ONE)],
    outputs: &["y"],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(|ctx| gpu(ctx, &SUM_WGSL)),
    tolerance: Tolerance::SUMS,
    cases,
    ..OpDef::BASE
};

pub static CUM_PROD: OpDef = OpDef {
    name: "CumProd",
    doc: "The product of the elements up to each position along `axis`; without the element itself if `exclusive`, from the \
          end if `reverse`.",
    onnx: &[OnnxName::since("CumProd", 26)],
    cpu: Cpu::kernel(run_products),
    gpu: Some(|ctx| gpu(ctx, &PRODUCT_WGSL)),
    cases: || {
        let x = || Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let axis = |v: i64| Tensor::from_slice(&[], &[v]);
        let y = |v: [f32; 6]| vec![Tensor::from_slice(&[2, 3], &v)];
        vec![
            Case::new("rows", vec![x(), axis(1)]).expect(y([1.0, 2.0, 6.0, 4.0, 20.0, 120.0])),
            Case::new("exclusive, from the end", vec![x(), axis(0)])
                .attr("exclusive", Attr::Int(1))
                .attr("reverse", Attr::Int(1))
                .expect(y([4.0, 5.0, 6.0, 1.0, 1.0, 1.0])),
        ]
    },
    ..CUM_SUM
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if let (Some(shape), Ok([along])) = (&x.shape, ctx.ints(1).as_deref()) {
        axis(*along, shape.len())?;
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// Rows before the axis, elements along it, elements after it.
fn split(shape: &[usize], along: &[i64]) -> Result<[usize; 3], OpError> {
    let &[along] = along else {
        return Err(OpError::new(format!("operand axis holds {along:?}, expected one number")));
    };
    let at = axis(along, shape.len())?;
    Ok([shape[..at].iter().product(), shape[at], shape[at + 1..].iter().product()])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, sizes, order) = plan(ctx)?;
    let y = ctx.output();
    match x.dtype {
        DType::F64 => fold(x, y, sizes, order, 0.0, |a: f64, b| a + b),
        DType::U64 => fold(x, y, sizes, order, 0, u64::wrapping_add),
        dtype if dtype.is_float() => fold(x, y, sizes, order, 0.0, |a: f32, b| a + b),
        _ => fold(x, y, sizes, order, 0, i64::wrapping_add),
    }
    Ok(())
}

fn run_products(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, sizes, order) = plan(ctx)?;
    let y = ctx.output();
    match x.dtype {
        DType::F64 => fold(x, y, sizes, order, 1.0, |a: f64, b| a * b),
        DType::U64 => fold(x, y, sizes, order, 1, u64::wrapping_mul),
        dtype if dtype.is_float() => fold(x, y, sizes, order, 1.0, |a: f32, b| a * b),
        _ => fold(x, y, sizes, order, 1, i64::wrapping_mul),
    }
    Ok(())
}

/// The operand, its sizes around the axis, and the order: exclusive, reverse.
type Plan<'a> = (TensorRef<'a>, [usize; 3], (bool, bool));

fn plan<'a>(ctx: &CpuCtx<'a>) -> Result<Plan<'a>, OpError> {
    let (x, along) = (ctx.input(0), ctx.input(1));
    let along = match along.dtype {
        DType::I32 => along.slice::<i32>().iter().map(|&a| i64::from(a)).collect(),
        _ => along.slice::<i64>().to_vec(),
    };
    let sizes = split(x.shape, &along)?;
    let order = (ctx.attrs.int("exclusive") != 0, ctx.attrs.int("reverse") != 0);
    Ok((x, sizes, order))
}

/// One running result, from `zero` on, for each position beside the axis, kept in the calculating type.
fn fold<W: Calc>(
    x: TensorRef<'_>,
    y: &mut TensorMut<'_>,
    [outer, along, inner]: [usize; 3],
    (exclusive, reverse): (bool, bool),
    zero: W,
    add: fn(W, W) -> W,
) {
    let size = y.dtype.width();
    for row in 0..outer * inner {
        let start = row / inner * along * inner + row % inner;
        let mut sum = zero;
        for step in 0..along {
            let at = start + inner * if reverse { along - 1 - step } else { step };
            let mut next = [W::default()];
            W::load(x.dtype, x.bytes, at, &mut next);
            let with = add(sum, next[0]);
            let out = if exclusive { sum } else { with };
            W::store(y.dtype, &[out], &mut y.bytes[at * size..(at + 1) * size]);
            sum = with;
        }
    }
}

/// How the two differ in WGSL.
struct Wgsl {
    label: &'static str,
    /// What nothing folds to, in words of 32 bits and of 64.
    start: &'static str,
    step: &'static str,
    step64: &'static str,
}

static SUM_WGSL: Wgsl =
    Wgsl { label: "CumSum", start: "0", step: "sum + next", step64: "add64(sum, next)" };
static PRODUCT_WGSL: Wgsl =
    Wgsl { label: "CumProd", start: "1", step: "sum * next", step64: "mul64(sum, next)" };

fn gpu(ctx: &GpuCtx<'_>, wgsl: &Wgsl) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let Some(word) = element_type(x.dtype) else { return Ok(None) };
    let Some(along) = ctx.values[1].as_ref().and_then(Tensor::to_i64s) else { return Ok(None) };
    let [outer, along, inner] = split(&x.shape, &along)?;
    let wide = word == "vec2<u32>";
    let zero = match wide {
        true => format!("vec2<u32>({}u, 0u)", wgsl.start),
        false => format!("{word}({})", wgsl.start),
    };
    let text = render(
        include_str!("cumsum.wgsl"),
        &[
            ("functions", &[PRELUDE, INT64].concat()),
            ("word", word),
            ("zero", &zero),
            ("add", if wide { wgsl.step64 } else { wgsl.step }),
            ("sum", &rounded(x.dtype, "sum")),
            ("with", &rounded(x.dtype, "with_next")),
        ],
    );
    let flags = ctx.attrs.int("exclusive") != 0;
    let reverse = ctx.attrs.int("reverse") != 0;
    let rows = if along == 0 { 0 } else { outer * inner };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + along,
        label: wgsl.label.into(),
        wgsl: text.into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params: vec![rows as u32, along as u32, inner as u32, flags.into(), reverse.into()],
        groups: ctx.limits.linear(rows, 64),
    })))
}

fn cases() -> Vec<Case> {
    let x = || Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let axis = |v: i64| Tensor::from_slice(&[], &[v]);
    let y = |v: [f32; 6]| vec![Tensor::from_slice(&[2, 3], &v)];
    let (one, wide) = (Attr::Int(1), Tensor::from_slice(&[3], &[u32::MAX as i64, 1, -7]));
    vec![
        Case::new("rows", vec![x(), axis(1)]).expect(y([1.0, 3.0, 6.0, 4.0, 9.0, 15.0])),
        Case::new("columns", vec![x(), axis(0)]).expect(y([1.0, 2.0, 3.0, 5.0, 7.0, 9.0])),
        Case::new("exclusive", vec![x(), axis(-1)])
            .attr("exclusive", one.clone())
            .expect(y([0.0, 1.0, 3.0, 0.0, 4.0, 9.0])),
        Case::new("from the end", vec![x(), axis(1)])
            .attr("reverse", one.clone())
            .expect(y([6.0, 5.0, 3.0, 15.0, 11.0, 6.0])),
        Case::new("from the end, exclusive", vec![x(), axis(1)])
            .attr("reverse", one.clone())
            .attr("exclusive", one)
            .expect(y([5.0, 3.0, 0.0, 11.0, 6.0, 0.0])),
        Case::new("i64", vec![wide, Tensor::from_slice(&[1], &[0i32])])
            .expect(vec![Tensor::from_slice(&[3], &[u32::MAX as i64, 1 << 32, (1 << 32) - 7])]),
        Case::new("middle axis", vec![ramp(&[3, 40, 5]), axis(1)]),
        Case::new("empty", vec![ramp(&[3, 0]), axis(1)]),
    ]
}
