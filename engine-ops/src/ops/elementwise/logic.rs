//! Logic and bits of two operands with broadcasting.

use super::binary::{formula, pairs, same_types, wide_pairs};
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::rounded;
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, DType, Tensor};

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    inputs: &[Operand::data("A"), Operand::data("B")],
    outputs: &["C"],
    elementwise: true,
    tolerance: Tolerance::EXACT,
    ..OpDef::BASE
};

/// Declares an operator on bools and its sister on the bits of integers.
macro_rules! logic {
    ($id:ident, $name:literal, $bits:ident, $bits_name:literal, $op:tt, $truth:expr, $words:expr) => {
        pub static $id: OpDef = OpDef {
            name: $name,
            doc: concat!("`a ", stringify!($op), " b` of bools, with broadcasting."),
            onnx: &[OnnxName::since($name, 7)],
            infer: |ctx| of_type(ctx, "bool", |d| d == DType::Bool),
            cpu: Cpu::kernel(|ctx| pairs(ctx, |a: u8, b: u8| -> u8 { a $op b })),
            gpu: Some(|ctx| formula(ctx, $name, concat!("a ", stringify!($op), " b"))),
            cases: || truth_table($truth),
            ..ROW
        };
        pub static $bits: OpDef = OpDef {
            name: $bits_name,
            doc: concat!("`a ", stringify!($op), " b` of the bits of integers, with broadcasting."),
            onnx: &[OnnxName::since($bits_name, 18)],
            infer: |ctx| of_type(ctx, "an integer type", DType::is_int),
            cpu: Cpu::kernel(|ctx| match ctx.input(0).dtype {
                DType::U64 => wide_pairs(ctx, |a: u64, b: u64| a $op b),
                _ => wide_pairs(ctx, |a: i64, b: i64| a $op b),
            }),
            gpu: Some(|ctx| formula(ctx, $bits_name, concat!("a ", stringify!($op), " b"))),
            cases: || bit_cases($words),
            ..ROW
        };
    };
}

logic!(
    AND,
    "And",
    BITWISE_AND,
    "BitwiseAnd",
    &,
    [false, false, false, true],
    [0b1000, 5, -8 & 0x7fff_ffff_0000]
);
logic!(
    OR,
    "Or",
    BITWISE_OR,
    "BitwiseOr",
    |,
    [false, true, true, true],
    [0b1110, -1, -8 | 0x7fff_ffff_0000]
);
logic!(
    XOR,
    "Xor",
    BITWISE_XOR,
    "BitwiseXor",
    ^,
    [false, true, true, false],
    [0b0110, -6, -8 ^ 0x7fff_ffff_0000]
);

pub static BIT_SHIFT: OpDef = OpDef {
    name: "BitShift",
    doc: "Bits of integers `a` moved by `b` places to the left or right, with broadcasting; all bits are lost where `b` is negative or at \
          least their number. To the right of signed integers moves the sign, which then is all that is left.",
    onnx: &[OnnxName::since("BitShift", 11)],
    attrs: &[AttrDef::required("direction", AttrKind::Str)],
    infer: |ctx| {
        let direction = ctx.attrs.str("direction");
        if !matches!(direction, "LEFT" | "RIGHT") {
            return Err(InferError::invalid(format!(
                "direction is {direction:?}, expected \"LEFT\" or \"RIGHT\""
            )));
        }
        of_type(ctx, "an integer type", DType::is_int)
    },
    cpu: Cpu::kernel(shift),
    gpu: Some(shift_gpu),
    cases: || {
        let a = Tensor::from_slice(&[4], &[16u8, 4, 1, 255]);
        let b = Tensor::from_slice(&[4], &[1u8, 2, 8, 7]);
        let words = vec![
            Tensor::from_slice(&[3], &[16u32, 4, 1]),
            Tensor::from_slice(&[3], &[1u32, 32, 31]),
        ];
        let wide = |a: &[u64], b: &[u64]| [a, b].map(|v| Tensor::from_slice(&[4], v)).to_vec();
        let of_i8 = |a: &[i8], b: &[i8]| [a, b].map(|v| Tensor::from_slice(&[6], v)).to_vec();
        let of_i32 = |a: &[i32], b: &[i32]| [a, b].map(|v| Tensor::from_slice(&[4], v)).to_vec();
        let of_i64 = |a: &[i64], b: &[i64]| [a, b].map(|v| Tensor::from_slice(&[4], v)).to_vec();
        vec![
            Case::new("right", vec![a.clone(), b.clone()])
                .attr("direction", Attr::Str("RIGHT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[8u8, 1, 0, 1])]),
            Case::new("left", vec![a, b])
                .attr("direction", Attr::Str("LEFT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[32u8, 16, 0, 128])]),
            Case::new("by a whole word", words)
                .attr("direction", Attr::Str("LEFT".into()))
                .expect(vec![Tensor::from_slice(&[3], &[32u32, 0, 0x8000_0000])]),
            Case::new("of u64, left", wide(&[5, 5, 5, 5], &[0, 40, 63, 64]))
                .attr("direction", Attr::Str("LEFT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[5u64, 5 << 40, 1 << 63, 0])]),
            Case::new(
                "of u64, right",
                wide(&[u64::MAX, 5 << 40, 1 << 63, 9], &[1, 38, 63, 1 << 40]),
            )
            .attr("direction", Attr::Str("RIGHT".into()))
            .expect(vec![Tensor::from_slice(&[4], &[u64::MAX >> 1, 20, 1, 0])]),
            Case::new("of i8, right", of_i8(&[-7, 7, -128, 127, -1, 5], &[1, 1, 7, 8, -1, 64]))
                .attr("direction", Attr::Str("RIGHT".into()))
                .expect(vec![Tensor::from_slice(&[6], &[-4i8, 3, -1, 0, -1, 0])]),
            Case::new("of i8, left", of_i8(&[-7, 7, 65, -1, -1, 5], &[1, 5, 1, 7, -1, 8]))
                .attr("direction", Attr::Str("LEFT".into()))
                .expect(vec![Tensor::from_slice(&[6], &[-14i8, -32, -126, -128, 0, 0])]),
            Case::new("of i32, right", of_i32(&[i32::MIN, -9, 9, -9], &[31, 1, 40, -3]))
                .attr("direction", Attr::Str("RIGHT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[-1i32, -5, 0, -1])]),
            Case::new("of i64, right", of_i64(&[i64::MIN, -9 << 40, 9, -9], &[63, 39, 64, -1]))
                .attr("direction", Attr::Str("RIGHT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[-1i64, -18, 0, -1])]),
            Case::new("of i64, left", of_i64(&[-1, -3, 9, -9], &[63, 40, 64, -1]))
                .attr("direction", Attr::Str("LEFT".into()))
                .expect(vec![Tensor::from_slice(&[4], &[i64::MIN, -3 << 40, 0, 0])]),
        ]
    },
    ..ROW
};

/// The rule of operators on operands of one type, which `takes` must admit.
fn of_type(
    ctx: &InferCtx<'_>,
    expected: &str,
    takes: impl Fn(DType) -> bool,
) -> Result<Vec<Facts>, InferError> {
    let found = ctx.dtype(0)?;
    if !takes(found) {
        return Err(InferError::invalid(format!("operands are {found}, expected {expected}")));
    }
    same_types(ctx)
}

/// Calculated in 64 bits; what leaves the type is cut off when it is stored.
fn shift(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let left = ctx.attrs.str("direction") == "LEFT";
    if !is_unsigned(ctx.input(0).dtype) {
        let inside = |b: i64| u32::try_from(b).ok().filter(|&b| b < i64::BITS);
        return match left {
            true => wide_pairs(ctx, |a: i64, b: i64| inside(b).map_or(0, |b| a << b)),
            false => wide_pairs(ctx, |a: i64, b: i64| a >> inside(b).unwrap_or(i64::BITS - 1)),
        };
    }
    let by = |shift: fn(u64, u32) -> Option<u64>| {
        move |a: u64, b: u64| u32::try_from(b).ok().and_then(|b| shift(a, b)).unwrap_or(0)
    };
    match left {
        true => wide_pairs(ctx, by(u64::checked_shl)),
        false => wide_pairs(ctx, by(u64::checked_shr)),
    }
}

fn is_unsigned(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64)
}

fn shift_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let dtype = ctx.input(0).dtype;
    let wide = matches!(dtype, DType::U64 | DType::I64);
    let y = match (ctx.attrs.str("direction"), wide, is_unsigned(dtype)) {
        ("LEFT", false, true) => "select(a << (b & 31u), 0u, b > 31u)",
        (_, false, true) => "select(a >> (b & 31u), 0u, b > 31u)",
        ("LEFT", false, false) => "select(a << (u32(b) & 31u), 0, u32(b) > 31u)",
        (_, false, false) => "a >> min(u32(b), 31u)",
        ("LEFT", true, _) => {
            "select(shift_left64(a, b.x & 63u), vec2<u32>(0u, 0u), b.y != 0u || b.x > 63u)"
        }
        (_, true, true) => {
            "select(shift_right64(a, b.x & 63u), vec2<u32>(0u, 0u), b.y != 0u || b.x > 63u)"
        }
        // Of the bits as they differ from the sign, which is put back.
        (_, true, false) => {
            "select(shift_right64(a ^ vec2<u32>(u32(i32(a.y) >> 31u)), b.x & 63u), vec2<u32>(0u, 0u), \
             b.y != 0u || b.x > 63u) ^ vec2<u32>(u32(i32(a.y) >> 31u))"
        }
    };
    formula(ctx, "BitShift", &rounded(dtype, y))
}

fn truth_table(expected: [bool; 4]) -> Vec<Case> {
    let a = Tensor::from_bools(&[2, 1], &[false, true]);
    let b = Tensor::from_bools(&[2], &[false, true]);
    let expected = Tensor::from_bools(&[2, 2], &expected);
    vec![Case::new("truth table", vec![a, b]).expect(vec![expected])]
}

fn bit_cases(expected: [i64; 3]) -> Vec<Case> {
    let a = [0b1100, -1, -8];
    let b = [0b1010, 5, 0x7fff_ffff_0000];
    let narrow = |v: [i64; 3]| Tensor::from_slice(&[3], &v.map(|v| v as i32));
    let bytes = |v: [i64; 3]| Tensor::from_slice(&[3], &v.map(|v| v as u8));
    let wide = |v: [i64; 3]| Tensor::from_slice(&[3], &v);
    vec![
        Case::new("i64", vec![wide(a), wide(b)]).expect(vec![wide(expected)]),
        Case::new("i32", vec![narrow(a), narrow(b)]).expect(vec![narrow(expected)]),
        Case::new("u8", vec![bytes(a), bytes(b)]).expect(vec![bytes(expected)]),
    ]
}
