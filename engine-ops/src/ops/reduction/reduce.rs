//! Sums, products, extremes and norms along axes.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep, planned};
use crate::dtypes::{FLOATS, NUMBERS, ORDERED};
use crate::fill::filled;
use crate::float::Float;
use crate::gpu::elementwise::{DIVIDE64, INT64, PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::parallel::pieces;
use crate::reduction::{Folded, Reduction, Run, calc_scratch, fold_at, in_calc, reduce};
use crate::{AttrDef, Blocked, OnnxName, OpDef, OpError, Operand, Takes, Tolerance};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use std::sync::Arc;

/// What is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

impl Op {
    /// What it folds. The largest of bools is whether one is true, the smallest whether all are.
    const fn types(self) -> &'static [DType] {
        match self {
            Op::LogSumExp => FLOATS,
            Op::Max | Op::Min => ORDERED,
            _ => NUMBERS,
        }
    }
}

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    attrs: &[AttrDef::int("keepdims", 1), AttrDef::int("noop_with_empty_axes", 0)],
    outputs: &["reduced"],
    tolerance: Tolerance::SUMS,
    ..OpDef::BASE
};

/// Declares one operator: constant, name, first opset with axes as an operand, what it is, its formula, its results for the
/// rows (1, −2, 3) and (0.5, 4, −1).
macro_rules! reduction {
    ($id:ident, $name:literal, $since:literal, $op:expr, $doc:literal, $rows:expr) => {
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: concat!($doc, " along `axes`, or along all of them if none are given."),
            onnx: &[OnnxName::since($name, $since)],
            inputs: &[Operand::data("data").of($op.types()), Operand::opt_shape("axes")],
            infer,
            cpu: Cpu::Planned(|shapes| step(shapes, $op)),
            blocked: Some(|attrs, shapes| blocked(&$id, attrs, shapes)),
            gpu: Some(|ctx| gpu(ctx, $name, $op)),
            cases: || cases($op, $rows),
            ..ROW
        };
    };
}

reduction!(SUM, "ReduceSum", 13, Op::Sum, "The sum", [2.0, 3.5]);
reduction!(
    MEAN,
    "ReduceMean",
    18,
    Op::Mean,
    "The sum divided by the number",
    [2.0 / 3.0, 3.5 / 3.0]
);
reduction!(MAX, "ReduceMax", 18, Op::Max, "The largest, NaN if there is one,", [3.0, 4.0]);
reduction!(MIN, "ReduceMin", 18, Op::Min, "The smallest, NaN if there is one,", [-2.0, -1.0]);
reduction!(PROD, "ReduceProd", 18, Op::Prod, "The product", [-6.0, -2.0]);
reduction!(L1, "ReduceL1", 18, Op::L1, "The sum of magnitudes", [6.0, 5.5]);
reduction!(
    L2,
    "ReduceL2",
    18,
    Op::L2,
    "The root of the sum of squares",
    [3.741_657_4, 4.153_311_9]
);
reduction!(
    LOG_SUM,
    "ReduceLogSum",
    18,
    Op::LogSum,
    "The logarithm of the sum",
    [std::f32::consts::LN_2, 1.252_763]
);
reduction!(
    LOG_SUM_EXP,
    "ReduceLogSumExp",
    18,
    Op::LogSumExp,
    "The logarithm of the sum of exponentials, taken relative to the largest,",
    [3.132_845_4, 4.036_337_4]
);
reduction!(SUM_SQUARE, "ReduceSumSquare", 18, Op::SumSquare, "The sum of squares", [14.0, 17.25]);

/// Which axes are reduced, given the contents of the operand `axes`.
fn reduced_axes(attrs: &Attrs, axes: Option<&[i64]>, rank: usize) -> Result<Vec<bool>, OpError> {
    let axes = axes.unwrap_or(&[]);
    let all = axes.is_empty() && attrs.int("noop_with_empty_axes") == 0;
    let mut reduced = vec![all; rank];
    for &a in axes {
        reduced[axis(a, rank)?] = true;
    }
    Ok(reduced)
}

/// The row itself where it reduces positions alone, whose axes have the same numbers in an image in blocks.
fn blocked(def: &'static OpDef, attrs: &Arc<Attrs>, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let axes = shapes.ints(1)?;
    let positions = !axes.is_empty() && axes.iter().all(|axis| matches!(axis, 2 | 3));
    (positions && attrs.int("keepdims") != 0).then(|| Blocked {
        def,
        attrs: attrs.clone(),
        takes: vec![Takes::Blocks, Takes::Rows],
        leads: false,
    })
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let shape = ctx.shape(0)?;
    let axes = ctx.opt(1).map(|_| ctx.ints(1)).transpose()?;
    let reduced = reduced_axes(ctx.attrs, axes.as_deref(), shape.len())?;
    let keep = ctx.attrs.int("keepdims") != 0;
    let shape = shape.iter().zip(reduced).filter_map(|(dim, reduced)| match (reduced, keep) {
        (false, _) => Some(dim.clone()),
        (true, true) => Some(Dim::from(1)),
        (true, false) => None,
    });
    Ok(vec![Facts::new(dtype, shape.collect())])
}

fn step(shapes: &CpuShapes<'_>, op: Op) -> Result<Box<dyn CpuStep>, OpError> {
    let (x, y) = (shapes.input(0), shapes.output());
    let axes = shapes.ints(1);
    let reduced = reduced_axes(shapes.attrs, axes.as_deref(), x.shape.len())?;
    let reduction = Reduction::new(&x.shape, |a| reduced[a])?;
    let scratch = match x.dtype {
        DType::F32 | DType::F64 | DType::I64 => 0,
        _ => calc_scratch::<i64>(x.len(), y.len()),
    };
    planned((op, reduction), scratch, run)
}

fn run((op, plan): &(Op, Reduction), ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (op, x) = (*op, ctx.input(0));
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let scratch = &mut *ctx.scratch;
    match x.dtype {
        DType::F32 | DType::F16 | DType::BF16 => {
            in_calc::<f32>(x, y, scratch, |x, y| float(op, plan, x, y))
        }
        DType::F64 => in_calc::<f64>(x, y, scratch, |x, y| float(op, plan, x, y)),
        DType::U64 => in_calc::<u64>(x, y, scratch, |x, y| whole(op, plan, x, y, [0, u64::MAX])),
        dtype => in_calc::<i64>(x, y, scratch, |x, y| whole(op, plan, x, y, limits(dtype))),
    }
}

fn float<W: Float>(op: Op, plan: &Reduction, x: &[W], y: &mut [W]) -> Result<(), OpError> {
    let zero = W::ZERO;
    let count = plan.reduced.len();
    match op {
        Op::Sum | Op::Mean | Op::LogSum => {
            reduce(plan, x, y, Folded { start: zero, step: W::add, merge: W::add });
        }
        Op::Prod => reduce(plan, x, y, Folded { start: W::ONE, step: W::mul, merge: W::mul }),
        Op::L1 => {
            let step = |a: W, x: W| a.add(x.abs());
            reduce(plan, x, y, Folded { start: zero, step, merge: W::add });
        }
        Op::L2 | Op::SumSquare => {
            let step = |a: W, x: W| a.add(x.mul(x));
            reduce(plan, x, y, Folded { start: zero, step, merge: W::add });
        }
        Op::Max | Op::LogSumExp => largest(plan, x, y),
        Op::Min => {
            let less = |a: W, b: W| if a < b || a.is_nan() { a } else { b };
            reduce(plan, x, y, Folded { start: W::INFINITY, step: less, merge: less });
        }
    }
    match op {
        Op::Mean => y.iter_mut().for_each(|y| *y = y.divided_by(count)),
        Op::L2 => y.iter_mut().for_each(|y| *y = y.sqrt()),
        Op::LogSum => y.iter_mut().for_each(|y| *y = y.ln()),
        Op::LogSumExp => exponentials(plan, x, y),
        _ => {}
    }
    Ok(())
}

fn largest<W: Float>(plan: &Reduction, x: &[W], y: &mut [W]) {
    let start = W::ZERO.sub(W::INFINITY);
    let more = |a: W, b: W| if a > b || a.is_nan() { a } else { b };
    reduce(plan, x, y, Folded { start, step: more, merge: more });
}

/// `y`, the largest of each fold, becomes `y + ln Σ e^(x−y)`. Where the largest is infinite or NaN nothing is taken off, and
/// the sum says what it must.
fn exponentials<W: Float>(plan: &Reduction, x: &[W], y: &mut [W]) {
    pieces(y, 1, plan.reduced.len() * 8, |start, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let most = if y.is_finite() { *y } else { W::ZERO };
            let step = move |a: W, x: W| a.add(x.sub(most).exp());
            let fold = Folded { start: W::ZERO, step, merge: W::add };
            let sum = fold_at(plan, x, start + i, fold);
            *y = most.add(sum.ln());
        }
    });
}

/// The least and the greatest number of an integer type: what nothing folds to.
fn limits(dtype: DType) -> [i64; 2] {
    match dtype {
        DType::I8 => [i8::MIN.into(), i8::MAX.into()],
        DType::I16 => [i16::MIN.into(), i16::MAX.into()],
        DType::I32 => [i32::MIN.into(), i32::MAX.into()],
        DType::U8 => [0, u8::MAX.into()],
        DType::U16 => [0, u16::MAX.into()],
        DType::U32 => [0, u32::MAX.into()],
        DType::Bool => [0, 1],
        _ => [i64::MIN, i64::MAX],
    }
}

/// Arithmetic that `i64` and `u64` share.
trait Whole: Calc + Ord {
    const ONE: Self;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn magnitude(self) -> Self;
    fn through(self, f: impl Fn(f64) -> f64) -> Self;
    fn divided_by(self, count: usize) -> Self;
}

macro_rules! whole {
    ($t:ty, $magnitude:expr) => {
        impl Whole for $t {
            const ONE: Self = 1;
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn magnitude(self) -> Self {
                $magnitude(self)
            }
            fn through(self, f: impl Fn(f64) -> f64) -> Self {
                f(self as f64) as $t
            }
            fn divided_by(self, count: usize) -> Self {
                if count == 0 { 0 } else { self / count as $t }
            }
        }
    };
}
whole!(i64, i64::wrapping_abs);
whole!(u64, |v| v);

fn whole<W: Whole>(
    op: Op,
    plan: &Reduction,
    x: &[W],
    y: &mut [W],
    [least, most]: [W; 2],
) -> Result<(), OpError> {
    let zero = W::default();
    match op {
        Op::Sum | Op::Mean | Op::LogSum => {
            reduce(plan, x, y, Folded { start: zero, step: W::add, merge: W::add });
        }
        Op::Prod => reduce(plan, x, y, Folded { start: W::ONE, step: W::mul, merge: W::mul }),
        Op::L1 => {
            let step = |a: W, x: W| a.add(x.magnitude());
            reduce(plan, x, y, Folded { start: zero, step, merge: W::add });
        }
        Op::L2 | Op::SumSquare => {
            let step = |a: W, x: W| a.add(x.mul(x));
            reduce(plan, x, y, Folded { start: zero, step, merge: W::add });
        }
        Op::Max => reduce(plan, x, y, Folded { start: least, step: W::max, merge: W::max }),
        Op::Min => reduce(plan, x, y, Folded { start: most, step: W::min, merge: W::min }),
        Op::LogSumExp => {
            return Err(OpError::new("ReduceLogSumExp of integers, expected a float type"));
        }
    }
    match op {
        Op::Mean => y.iter_mut().for_each(|y| *y = y.divided_by(plan.reduced.len())),
        Op::L2 => y.iter_mut().for_each(|y| *y = y.through(libm::sqrt)),
        Op::LogSum => y.iter_mut().for_each(|y| *y = y.through(libm::log)),
        _ => {}
    }
    Ok(())
}

/// What nothing folds to, in words of the GPU.
fn of_nothing(op: Op, dtype: DType) -> Result<[u32; 2], OpError> {
    let plan = Reduction::new(&[0], |_| true)?;
    if dtype.is_float() {
        let mut y = [0f32];
        float(op, &plan, &[], &mut y)?;
        return Ok([y[0].to_bits(), 0]);
    }
    let words = |y: i64| [y as u32, (y >> 32) as u32];
    if dtype == DType::U64 {
        let mut y = [0u64];
        whole(op, &plan, &[], &mut y, [0, u64::MAX])?;
        return Ok(words(y[0] as i64));
    }
    let mut y = [0i64];
    whole(op, &plan, &[], &mut y, limits(dtype))?;
    Ok(words(y[0]))
}

/// How one operator is said in WGSL, for one kind of word.
struct Text {
    /// The type of a fold, where it is not the element's word.
    sum: Option<&'static str>,
    start: &'static str,
    step: &'static str,
    merge: &'static str,
    finish: String,
}

/// `None` where the operator stays on the CPU for this type.
fn text(op: Op, dtype: DType) -> Option<Text> {
    let float = dtype.is_float();
    let word = element_type(dtype)?;
    let (zero, one) = match word {
        "f32" => ("0.0", "1.0"),
        "i32" => ("0", "1"),
        "u32" => ("0u", "1u"),
        _ => ("vec2<u32>(0u, 0u)", "vec2<u32>(1u, 0u)"),
    };
    let pair = matches!(dtype, DType::I64 | DType::U64);
    let add = if pair { "add64(a, b)" } else { "a + b" };
    let of_words = |start, step, merge, finish: &str| Text {
        sum: None,
        start,
        step,
        merge,
        finish: finish.to_owned(),
    };
    let plain = |start, step| of_words(start, step, step, "a");
    let of_floats = |step, finish| of_words(zero, step, add, finish);
    Some(match op {
        Op::Sum => plain(zero, add),
        Op::Prod if pair => plain(one, "mul64(a, b)"),
        Op::Prod => plain(one, "a * b"),
        Op::Max if float => plain("-infinity()", "larger(a, b)"),
        Op::Min if float => plain("infinity()", "smaller(a, b)"),
        Op::Max => match dtype {
            DType::I64 => plain("vec2<u32>(0u, 0x80000000u)", "select(a, b, less_i64(a, b))"),
            DType::U64 => plain(zero, "select(a, b, less_u64(a, b))"),
            DType::I8 | DType::I16 | DType::I32 => plain("-2147483647 - 1", "max(a, b)"),
            _ => plain(zero, "max(a, b)"),
        },
        Op::Min => match dtype {
            DType::I64 => plain("vec2<u32>(~0u, 0x7fffffffu)", "select(a, b, less_i64(b, a))"),
            DType::U64 => plain("vec2<u32>(~0u, ~0u)", "select(a, b, less_u64(b, a))"),
            DType::I8 | DType::I16 | DType::I32 => plain("2147483647", "min(a, b)"),
            _ => plain("0xffffffffu", "min(a, b)"),
        },
        Op::L1 if pair => match dtype {
            DType::I64 => of_words(zero, "add64(a, abs64(b))", add, "a"),
            _ => plain(zero, add),
        },
        Op::L1 if word == "u32" => plain(zero, add),
        Op::SumSquare if pair => of_words(zero, "add64(a, mul64(b, b))", add, "a"),
        Op::Mean | Op::L2 | Op::LogSum if !float => wide_text(op, dtype, word),
        Op::LogSumExp if !float => return None,
        Op::Mean => of_floats("a + b", "a / f32(params.count)"),
        Op::LogSum => of_floats("a + b", "log(a)"),
        Op::L1 => of_floats("a + abs(b)", "a"),
        Op::L2 => of_floats("a + b * b", "sqrt(a)"),
        Op::SumSquare => of_floats("a + b * b", "a"),
        Op::LogSumExp => of_floats("a + exp(b - most)", "most + log(a)"),
    })
}

/// Folds of integers whose end takes all 64 bits of the sum.
fn wide_text(op: Op, dtype: DType, word: &'static str) -> Text {
    let unsigned = dtype == DType::U64;
    let step = match (op, word) {
        (Op::L2, "i32") => "square64(vec2<u32>(bitcast<u32>(b), u32(b >> 31u)), a)",
        (Op::L2, "u32") => "square64(vec2<u32>(b, 0u), a)",
        (Op::L2, _) => "square64(b, a)",
        (_, "i32") => "add64(a, vec2<u32>(bitcast<u32>(b), u32(b >> 31u)))",
        (_, "u32") => "add64(a, vec2<u32>(b, 0u))",
        _ => "add64(a, b)",
    };
    let sum = if unsigned { "a" } else { "select(a, vec2<u32>(0u, 0u), negative64(a))" };
    let end = match op {
        Op::L2 => format!("root64({sum})"),
        Op::LogSum => format!(
            "select(logarithm64({sum}), vec2<u32>(0u, {}), (a.x | a.y) == 0u)",
            // The logarithm of zero saturates.
            if unsigned { "0u" } else { "0x80000000u" }
        ),
        _ if unsigned => "div_u64(a, vec2<u32>(params.count, 0u))".to_owned(),
        _ => "div_i64(a, vec2<u32>(params.count, 0u))".to_owned(),
    };
    let finish = match word {
        "i32" => format!("bitcast<i32>(({end}).x)"),
        "u32" => format!("({end}).x"),
        _ => end,
    };
    Text { sum: Some("vec2<u32>"), start: "vec2<u32>(0u, 0u)", step, merge: "add64(a, b)", finish }
}

/// WGSL for the ends of folds of integers; the last function counts the powers of e that a number has reached.
fn ends_of_integers() -> String {
    let power = |k: i32| libm::exp(f64::from(k)).ceil() as u64;
    let powers: Vec<String> =
        (1..=44).map(power).map(|n| format!("vec2<u32>({}u, {}u)", n as u32, n >> 32)).collect();
    let table = [("count", powers.len().to_string()), ("powers", powers.join(", "))];
    let table = table.each_ref().map(|(key, value)| (*key, value.as_str()));
    DIVIDE64.to_owned() + &render(include_str!("reduce_integers.wgsl"), &table)
}

fn gpu(ctx: &GpuCtx<'_>, label: &'static str, op: Op) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    if x.is_empty() && !ctx.output().is_empty() {
        return Ok(filled(ctx, of_nothing(op, x.dtype)?));
    }
    let Some(text) = text(op, x.dtype) else { return Ok(None) };
    let axes = match (ctx.opt_input(1), ctx.values.get(1).cloned().flatten()) {
        (None, _) => None,
        (Some(_), Some(axes)) => axes.to_i64s(),
        (Some(_), None) => return Ok(None),
    };
    let reduced = reduced_axes(ctx.attrs, axes.as_deref(), x.shape.len())?;
    let plan = Reduction::new(&x.shape, |a| reduced[a])?;
    let mut dispatches = Vec::new();
    let mut before = "";
    if op == Op::LogSumExp {
        let most = Text {
            sum: None,
            start: "-infinity()",
            step: "larger(a, b)",
            merge: "larger(a, b)",
            finish: "a".to_owned(),
        };
        dispatches.push(dispatch(ctx, label, &plan, &most, ""));
        before = "most = y_out[out]; if (is_nan(most) || is_inf(most)) { most = 0.0; }";
    }
    dispatches.push(dispatch(ctx, label, &plan, &text, before));
    Ok(Some(GpuProgram { dispatches, scratch: Vec::new() }))
}

fn dispatch(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    plan: &Reduction,
    text: &Text,
    before: &str,
) -> Dispatch {
    let dtype = ctx.output().dtype;
    let word = element_type(dtype).expect("only types with a text come here");
    let (results, count) = (plan.kept.len(), plan.reduced.len());
    // A team reads neighbours together; where neighbours belong to different results, single invocations do.
    let team = count >= 64 && (plan.contiguous() || results < 2048);
    let (kept, reduced) = (plan.kept.get(), plan.reduced.get());
    let ends = text.sum.map(|_| ends_of_integers()).unwrap_or_default();
    let functions = [PRELUDE, INT64, &ends].concat();
    let wgsl = render(
        if team { include_str!("reduce_team.wgsl") } else { include_str!("reduce_single.wgsl") },
        &[
            ("common", include_str!("reduce.wgsl")),
            ("functions", &functions),
            ("word", word),
            ("sum", text.sum.unwrap_or(word)),
            ("kept", &kept.len().to_string()),
            ("reduced", &reduced.len().to_string()),
            ("start", text.start),
            ("step", text.step),
            ("merge", text.merge),
            ("before", before),
            ("finish", &rounded(dtype, &format!("({})", text.finish))),
        ],
    );
    let mut params = vec![results as u32, count as u32, 0, 0];
    let words = |run: &Run| [run.size as u32, run.stride as u32, 0, 0];
    params.extend(kept.iter().chain(reduced).flat_map(words));
    Dispatch {
        rounds: FEW_ROUNDS + if team { count.div_ceil(256) } else { count },
        label: label.into(),
        wgsl: wgsl.into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(results, if team { 1 } else { 64 }),
    }
}

/// Cases of an operator, given its results for two rows of three.
fn cases(op: Op, rows: [f32; 2]) -> Vec<Case> {
    let x = || Tensor::from_slice(&[2, 3], &[1.0f32, -2.0, 3.0, 0.5, 4.0, -1.0]);
    let axes = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
    let y = |shape: &[usize]| vec![Tensor::from_slice(shape, &rows)];
    let transposed = || Tensor::from_slice(&[3, 2], &[1.0f32, 0.5, -2.0, 4.0, 3.0, -1.0]);
    let nan = Tensor::from_slice(&[2, 2], &[f32::NAN, 1.0, 1.0, f32::NAN]);
    let mut cases = vec![
        Case::new("rows", vec![x(), axes(&[1])]).expect(y(&[2, 1])),
        Case::new("rows without the axis", vec![x(), axes(&[-1])])
            .attr("keepdims", Attr::Int(0))
            .expect(y(&[2])),
        Case::new("columns", vec![transposed(), axes(&[0])]).expect(y(&[1, 2])),
        Case::new("not a number", vec![nan, axes(&[1])])
            .expect(vec![Tensor::from_slice(&[2, 1], &[f32::NAN, f32::NAN])]),
        Case::new("long rows", vec![ramp(&[3, 1000]), axes(&[1])]),
        Case::new("long columns", vec![ramp(&[300, 70]), axes(&[0])]),
        Case::new("axes around a kept one", vec![ramp(&[3, 5, 7, 4]), axes(&[0, 2])]),
        Case::new("all axes", vec![ramp(&[3, 4])]).attr("keepdims", Attr::Int(0)),
        Case::new("no axes", vec![ramp(&[3, 4]), axes(&[])])
            .attr("noop_with_empty_axes", Attr::Int(1)),
        Case::new("nothing to keep", vec![ramp(&[0, 4]), axes(&[1])]),
        Case::new("nothing to fold", vec![Tensor::zeros(DType::F32, &[2, 0]), axes(&[1])]),
    ];
    if matches!(op, Op::Max | Op::Min) {
        let bools = Tensor::from_bools(&[3, 2], &[false, false, true, false, true, true]);
        let expected = if op == Op::Max { [false, true, true] } else { [false, false, true] };
        cases.push(
            Case::new("bools", vec![bools, axes(&[1])])
                .expect(vec![Tensor::from_bools(&[3, 1], &expected)]),
        );
        let least = if op == Op::Max { i8::MIN } else { i8::MAX };
        cases.push(
            Case::new("nothing to fold, i8", vec![Tensor::zeros(DType::I8, &[1, 0]), axes(&[1])])
                .expect(vec![Tensor::from_slice(&[1, 1], &[least])]),
        );
    }
    if op != Op::LogSumExp {
        let words = Tensor::from_slice(&[2, 3], &[3i32, 2_000_000_000, -1, 1_900_000_000, 7, 4]);
        cases.push(Case::new("i32", vec![words, axes(&[1])]));
        let wide = Tensor::from_slice(&[2, 3], &[3i64, 5 << 33, -1, 2, 7, 4]);
        cases.push(Case::new("i64", vec![wide, axes(&[1])]));
        let bytes = Tensor::from_slice(&[2, 3], &[3u8, 50, 1, 2, 7, 4]);
        cases.push(Case::new("u8", vec![bytes, axes(&[0])]));
    }
    cases
}
