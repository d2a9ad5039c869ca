//! Elementwise operators of one operand that also take integers or bools.

use crate::AttrsExt;
use crate::Function;
use crate::case::{Case, ramp};
use crate::convert::{Calc, map_blocks};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{Formula, INT64, PRELUDE, element_type, program, rounded};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, Known};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, DType, Dim, Tensor};

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef { inputs: &[Operand::data("X")], elementwise: true, ..OpDef::BASE };

/// Applies an expression of `x` to operands of any numeric type: one for floats, one for signed integers; unsigned ones give
/// the last.
macro_rules! numeric {
    ($ctx:expr, |$x:ident| float $float:expr, int $int:expr, unsigned $unsigned:expr) => {
        match $ctx.input(0).dtype {
            DType::F64 => each($ctx, |$x: f64| -> f64 { $float }),
            dtype if dtype.is_float() => each($ctx, |$x: f32| -> f32 { $float }),
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => {
                each($ctx, |$x: u64| -> u64 { $unsigned })
            }
            _ => each($ctx, |$x: i64| -> i64 { $int }),
        }
    };
}

/// Declares the loop over `f32` of a row that is a stage of chains.
macro_rules! function {
    ($wgsl:literal, |$x:ident| $y:expr) => {
        Some(Function {
            block: |x, y, p| super::unary::block(x, y, p, |$x: f32, _| -> f32 { $y }),
            wgsl: $wgsl,
        })
    };
}

// Written so that NaN comes out as NaN: `max` would lose it.
pub static RELU: OpDef = OpDef {
    name: "Relu",
    doc: "`x < 0 ? 0 : x`.",
    onnx: &[OnnxName::since("Relu", 6)],
    infer: numbers,
    function: function!("select(select(x, 0.0, x < 0.0), x, is_nan(x))", |x| if x < 0.0 {
        0.0
    } else {
        x
    }),
    cpu: Cpu::kernel(
        |ctx| numeric!(ctx, |x| float if x < 0.0 { 0.0 } else { x }, int x.max(0), unsigned x),
    ),
    gpu: Some(|ctx| {
        let zero = "vec2<u32>(0u, 0u)";
        let pair = format!("select(a, {zero}, negative64(a))");
        gpu(ctx, "Relu", "select(select(a, 0.0, a < 0.0), a, is_nan(a))", "max(a, 0)", "a", &pair)
    }),
    cases: || cases([0.0, 3.5, f32::NAN, f32::INFINITY], [0, 5], [0, 1 << 40]),
    ..ROW
};

pub static ABS: OpDef = OpDef {
    name: "Abs",
    doc: "The magnitude; that of the lowest integer wraps to itself.",
    onnx: &[OnnxName::since("Abs", 6)],
    infer: numbers,
    function: function!("abs(x)", |x| x.abs()),
    cpu: Cpu::kernel(|ctx| numeric!(ctx, |x| float x.abs(), int x.wrapping_abs(), unsigned x)),
    gpu: Some(|ctx| gpu(ctx, "Abs", "abs(a)", "abs(a)", "a", "abs64(a)")),
    cases: || cases([2.0, 3.5, f32::NAN, f32::INFINITY], [7, 5], [1 << 41, 1 << 40]),
    ..ROW
};

pub static NEG: OpDef = OpDef {
    name: "Neg",
    doc: "`−x`; the lowest integer wraps to itself.",
    onnx: &[OnnxName::since("Neg", 6)],
    infer: |ctx| {
        let mut facts = signed(ctx)?;
        if let Some(dims) = super::binary::dims_of(ctx, 0) {
            facts[0].value = Some(Known::Dims(dims.iter().map(|d| &Dim::from(0) - d).collect()));
        }
        Ok(facts)
    },
    function: function!("-x", |x| -x),
    cpu: Cpu::kernel(
        |ctx| numeric!(ctx, |x| float -x, int x.wrapping_neg(), unsigned x.wrapping_neg()),
    ),
    gpu: Some(|ctx| gpu(ctx, "Neg", "-a", "-a", "a", "neg64(a)")),
    cases: || cases([2.0, -3.5, f32::NAN, -f32::INFINITY], [7, -5], [1 << 41, -(1 << 40)]),
    ..ROW
};

pub static SIGN: OpDef = OpDef {
    name: "Sign",
    doc: "−1, 0 or 1; of NaN it is NaN.",
    onnx: &[OnnxName::since("Sign", 9)],
    infer: numbers,
    cpu: Cpu::kernel(|ctx| {
        numeric!(
            ctx,
            |x| float if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
            int x.signum(),
            unsigned x.min(1)
        )
    }),
    gpu: Some(|ctx| {
        let pair =
            "select(vec2<u32>(u32((a.x | a.y) != 0u), 0u), vec2<u32>(~0u, ~0u), negative64(a))";
        gpu(ctx, "Sign", "select(sign(a), a, is_nan(a))", "sign(a)", "min(a, 1u)", pair)
    }),
    cases: || cases([-1.0, 1.0, f32::NAN, 1.0], [-1, 1], [-1, 1]),
    ..ROW
};

pub static NOT: OpDef = OpDef {
    name: "Not",
    doc: "Negation of bools.",
    onnx: &[OnnxName::since("Not", 1)],
    infer: |ctx| of_type(ctx, "bool", |d| d == DType::Bool),
    cpu: Cpu::kernel(|ctx| each(ctx, |x: u8| x ^ 1)),
    gpu: Some(|ctx| formula(ctx, "Not", "a ^ 1u")),
    cases: || {
        let x = [true, false, false];
        vec![
            Case::new("bools", vec![Tensor::from_bools(&[3], &x)])
                .expect(vec![Tensor::from_bools(&[3], &x.map(|x| !x))]),
        ]
    },
    ..ROW
};

pub static BITWISE_NOT: OpDef = OpDef {
    name: "BitwiseNot",
    doc: "Negation of the bits of integers.",
    onnx: &[OnnxName::since("BitwiseNot", 18)],
    infer: |ctx| of_type(ctx, "an integer type", DType::is_int),
    cpu: Cpu::kernel(|ctx| match ctx.input(0).dtype {
        DType::U64 => each(ctx, |x: u64| !x),
        _ => each(ctx, |x: i64| !x),
    }),
    gpu: Some(|ctx| formula(ctx, "BitwiseNot", &rounded(ctx.input(0).dtype, "~a"))),
    cases: || {
        let wide = [5i64, -1, 1 << 40];
        vec![
            Case::new("u8", vec![Tensor::from_slice(&[2], &[0u8, 200])])
                .expect(vec![Tensor::from_slice(&[2], &[255u8, 55])]),
            Case::new("i32", vec![Tensor::from_slice(&[2], &[5i32, -1])])
                .expect(vec![Tensor::from_slice(&[2], &[-6i32, 0])]),
            Case::new("i64", vec![Tensor::from_slice(&[3], &wide)])
                .expect(vec![Tensor::from_slice(&[3], &wide.map(|v| !v))]),
        ]
    },
    ..ROW
};

pub static IS_NAN: OpDef = OpDef {
    name: "IsNaN",
    doc: "Whether an element is NaN.",
    onnx: &[OnnxName::since("IsNaN", 9)],
    infer: test,
    cpu: Cpu::kernel(|ctx| match ctx.input(0).dtype {
        DType::F64 => each(ctx, |x: f64| u8::from(x.is_nan())),
        _ => each(ctx, |x: f32| u8::from(x.is_nan())),
    }),
    gpu: Some(|ctx| formula(ctx, "IsNaN", "u32(is_nan(a))")),
    cases: || {
        vec![
            Case::new("floats", vec![floats()])
                .expect(vec![Tensor::from_bools(&[4], &[false, false, true, false])]),
            Case::new("matrix", vec![ramp(&[3, 90])]),
        ]
    },
    ..ROW
};

pub static IS_INF: OpDef = OpDef {
    name: "IsInf",
    doc: "Whether an element is infinite; either sign can be left out.",
    onnx: &[OnnxName::since("IsInf", 10)],
    attrs: &[AttrDef::int("detect_negative", 1), AttrDef::int("detect_positive", 1)],
    infer: test,
    cpu: Cpu::kernel(|ctx| {
        let (negative, positive) = detected(ctx.attrs);
        match ctx.input(0).dtype {
            DType::F64 => each(ctx, move |x: f64| {
                u8::from(x == f64::INFINITY && positive || x == f64::NEG_INFINITY && negative)
            }),
            _ => each(ctx, move |x: f32| {
                u8::from(x == f32::INFINITY && positive || x == f32::NEG_INFINITY && negative)
            }),
        }
    }),
    gpu: Some(|ctx| {
        let (negative, positive) = detected(ctx.attrs);
        let sign = "bitcast<u32>(a) >> 31u";
        let y = format!("u32(is_inf(a) && select({positive}, {negative}, ({sign}) == 1u))");
        formula(ctx, "IsInf", &y)
    }),
    cases: || {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = || vec![Tensor::from_slice(&[4], &[1.0, inf, nan, -inf])];
        let y = |v: [bool; 4]| vec![Tensor::from_bools(&[4], &v)];
        vec![
            Case::new("either", x()).expect(y([false, true, false, true])),
            Case::new("positive", x())
                .attr("detect_negative", Attr::Int(0))
                .expect(y([false, true, false, false])),
            Case::new("negative", x())
                .attr("detect_positive", Attr::Int(0))
                .expect(y([false, false, false, true])),
        ]
    },
    ..ROW
};

fn detected(attrs: &engine_format::Attrs) -> (bool, bool) {
    (attrs.int("detect_negative") != 0, attrs.int("detect_positive") != 0)
}

fn of_type(
    ctx: &InferCtx<'_>,
    expected: &str,
    takes: impl Fn(DType) -> bool,
) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if !takes(x.dtype) {
        let found = x.dtype;
        return Err(InferError::invalid(format!("operand X is {found}, expected {expected}")));
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

fn numbers(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    of_type(ctx, "numbers", |d| d != DType::Bool)
}

fn signed(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let unsigned = [DType::U8, DType::U16, DType::U32, DType::U64, DType::Bool];
    of_type(ctx, "signed numbers", |d| !unsigned.contains(&d))
}

fn test(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let facts = of_type(ctx, "a float type", DType::is_float)?;
    Ok(facts.into_iter().map(|f| Facts { dtype: DType::Bool, ..f }).collect())
}

fn each<W: Calc, Y: Calc>(ctx: &mut CpuCtx<'_>, f: impl Fn(W) -> Y + Sync) -> Result<(), OpError> {
    let x = ctx.input(0);
    map_blocks(x, ctx.output(), &|x: &[W], y: &mut [Y]| {
        x.iter().zip(y).for_each(|(&x, y)| *y = f(x));
    });
    Ok(())
}

/// The program of an operator on numbers, given its WGSL for each kind of word.
fn gpu(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    float: &str,
    signed: &str,
    unsigned: &str,
    pair: &str,
) -> Result<Option<GpuProgram>, OpError> {
    let dtype = ctx.input(0).dtype;
    let y = match element_type(dtype) {
        None => return Ok(None),
        Some("f32") => float,
        Some("i32") => signed,
        Some("u32") => unsigned,
        Some(_) if dtype == DType::U64 => "a",
        Some(_) => pair,
    };
    formula(ctx, label, &rounded(dtype, y))
}

fn formula(ctx: &GpuCtx<'_>, label: &'static str, y: &str) -> Result<Option<GpuProgram>, OpError> {
    let functions = &[PRELUDE, INT64];
    program(ctx, &Formula { label, operands: [0], functions, y, params: [0; 3] })
}

fn floats() -> Tensor {
    Tensor::from_slice(&[4], &[-2.0f32, 3.5, f32::NAN, f32::INFINITY])
}

/// Cases, given the results for the operands written here.
fn cases(expected: [f32; 4], narrow: [i8; 2], wide: [i64; 2]) -> Vec<Case> {
    vec![
        Case::new("floats", vec![floats()]).expect(vec![Tensor::from_slice(&[4], &expected)]),
        Case::new("i8", vec![Tensor::from_slice(&[2], &[-7i8, 5])])
            .expect(vec![Tensor::from_slice(&[2], &narrow)]),
        Case::new("i64", vec![Tensor::from_slice(&[2], &[-(1i64 << 41), 1 << 40])])
            .expect(vec![Tensor::from_slice(&[2], &wide)]),
        Case::new("matrix", vec![ramp(&[3, 50])]),
        Case::new("longer than one workgroup", vec![ramp(&[700])]),
        Case::new("empty", vec![ramp(&[0, 4])]),
    ]
}
