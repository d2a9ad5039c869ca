//! Comparisons of two operands with broadcasting; the result is bool, and false wherever an operand is NaN.

use super::binary::{
    Wgsl, broadcast_of, dims_of, gpu_bool, pairs, same_types, wide_pairs, zip_dims,
};
use crate::case::{Case, ramp};
use crate::cpu::Cpu;
use crate::infer::{Facts, InferCtx, InferError, Known};
use crate::{OnnxName, OpDef, Operand, Text, Tolerance};
use engine_format::{DType, Dim, Tensor};

/// Applies a comparison to operands of any type. Bools compare as 0 and 1.
macro_rules! compare {
    ($ctx:expr, |$a:ident, $b:ident| $test:expr) => {
        match $ctx.input(0).dtype {
            DType::F32 => pairs($ctx, |$a: f32, $b: f32| u8::from($test)),
            DType::I32 => pairs($ctx, |$a: i32, $b: i32| u8::from($test)),
            DType::I64 => pairs($ctx, |$a: i64, $b: i64| u8::from($test)),
            DType::F16 | DType::BF16 => wide_pairs($ctx, |$a: f32, $b: f32| u8::from($test)),
            DType::F64 => wide_pairs($ctx, |$a: f64, $b: f64| u8::from($test)),
            DType::U64 => wide_pairs($ctx, |$a: u64, $b: u64| u8::from($test)),
            _ => wide_pairs($ctx, |$a: i64, $b: i64| u8::from($test)),
        }
    };
}

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    inputs: &[Operand::data("A"), Operand::data("B")],
    outputs: &["C"],
    elementwise: true,
    infer,
    tolerance: Tolerance::EXACT,
    ..OpDef::BASE
};

pub static EQUAL: OpDef = OpDef {
    name: "Equal",
    doc: "`a == b`.",
    onnx: &[OnnxName::since("Equal", 7)],
    infer: |ctx| {
        let mut facts = infer(ctx)?;
        facts[0].value = equal_dims(ctx);
        Ok(facts)
    },
    text: Text::Ranks,
    cpu: Cpu::kernel(|ctx| compare!(ctx, |a, b| a == b)),
    gpu: Some(|ctx| {
        let float = "a == b && !unordered(a, b)";
        let wgsl = Wgsl { float, boolean: "a == b", ..Wgsl::numeric("a == b", "equal64(a, b)") };
        gpu_bool(ctx, "Equal", &wgsl)
    }),
    cases: || {
        let mut cases = cases([false, true, false, false], [false, true, false]);
        let words = Tensor::from_strings(&[2, 2], &["a", "", "ab", "b"]);
        cases.push(
            Case::new("strings", vec![words, Tensor::from_strings(&[2], &["a", "b"])])
                .expect(vec![Tensor::from_bools(&[2, 2], &[true, false, false, true])]),
        );
        cases
    },
    ..ROW
};

/// Declares an ordering: constant, name, first opset, the comparison, how it is said of two words, expected results.
macro_rules! ordering {
    ($id:ident, $name:literal, $since:literal, $op:tt, $signed:literal, $unsigned:literal, $floats:expr, $ints:expr) => {
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: concat!("`a ", stringify!($op), " b`."),
            onnx: &[OnnxName::since($name, $since)],
            infer: infer_numbers,
    cpu: Cpu::kernel(|ctx| compare!(ctx, |a, b| a $op b)),
            gpu: Some(|ctx| {
                let plain = concat!("a ", stringify!($op), " b");
                let wgsl = Wgsl {
                    float: concat!("a ", stringify!($op), " b && !unordered(a, b)"),
                    signed: plain,
                    unsigned: plain,
                    signed64: $signed,
                    unsigned64: $unsigned,
                    boolean: "",
                };
                gpu_bool(ctx, $name, &wgsl)
            }),
            cases: || cases($floats, $ints),
            ..ROW
        };
    };
}

ordering!(
    GREATER,
    "Greater",
    7,
    >,
    "less_i64(b, a)",
    "less_u64(b, a)",
    [true, false, false, false],
    [false, false, true]
);
ordering!(
    GREATER_OR_EQUAL,
    "GreaterOrEqual",
    12,
    >=,
    "!less_i64(a, b)",
    "!less_u64(a, b)",
    [true, true, false, false],
    [false, true, true]
);
ordering!(
    LESS,
    "Less",
    7,
    <,
    "less_i64(a, b)",
    "less_u64(a, b)",
    [false, false, true, false],
    [true, false, false]
);
ordering!(
    LESS_OR_EQUAL,
    "LessOrEqual",
    12,
    <=,
    "!less_i64(b, a)",
    "!less_u64(b, a)",
    [false, true, true, false],
    [true, true, false]
);

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    same_types(ctx)?;
    broadcast_of(ctx, DType::Bool)
}

fn infer_numbers(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    if ctx.dtype(0)? == DType::Bool {
        return Err(InferError::invalid("operands are bool, expected numbers"));
    }
    infer(ctx)
}

/// What is known of the equality of two short vectors of sizes: equal expressions are equal, numbers compare, and the sizes of
/// axes and their sums and products are never negative.
fn equal_dims(ctx: &InferCtx<'_>) -> Option<Known> {
    let (a, b) = (dims_of(ctx, 0)?, dims_of(ctx, 1)?);
    let negative = |d: &Dim| d.known().is_some_and(|d| d < 0);
    let equal = |(a, b): (&Dim, &Dim)| match (a.known(), b.known()) {
        (Some(a), Some(b)) => Some(a == b),
        _ if a == b => Some(true),
        _ if negative(a) && b.is_size() => Some(false),
        _ if negative(b) && a.is_size() => Some(false),
        _ => None,
    };
    let equal: Vec<bool> = zip_dims(&a, &b).map(equal).collect::<Option<_>>()?;
    let scalar = |i: usize| ctx.opt(i)?.shape.as_ref().map(Vec::is_empty);
    let shape = [equal.len()];
    let rank = usize::from(!(scalar(0)? && scalar(1)?));
    Some(Known::Tensor(Tensor::from_bools(&shape[..rank], &equal)))
}

/// Cases of a comparison, given what it says of the pairs written here.
fn cases(floats: [bool; 4], ints: [bool; 3]) -> Vec<Case> {
    let a = Tensor::from_slice(&[4], &[2.0f32, f32::INFINITY, -0.5, f32::NAN]);
    let b = Tensor::from_slice(&[4], &[1.0f32, f32::INFINITY, 0.25, 1.0]);
    let words = |v: [i64; 3]| Tensor::from_slice(&[3], &v);
    let narrow = |v: [i64; 3]| Tensor::from_slice(&[3], &v.map(|v| (v >> 32) as i32));
    let (low, high) = ([-(7 << 32), 5 << 32, 9 << 32], [3 << 32, 5 << 32, 8 << 32]);
    let expected = || vec![Tensor::from_bools(&[3], &ints)];
    vec![
        Case::new("floats", vec![a, b]).expect(vec![Tensor::from_bools(&[4], &floats)]),
        Case::new("i64", vec![words(low), words(high)]).expect(expected()),
        Case::new("i32", vec![narrow(low), narrow(high)]).expect(expected()),
        Case::new("broadcast", vec![ramp(&[4, 1, 5]), ramp(&[7, 1])]),
        Case::new("empty", vec![ramp(&[0]), ramp(&[1])]),
    ]
}
