//! Conversion between element types.

use crate::case::{Case, ramp};
use crate::convert::cast_rounded;
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{Formula, INT64, PRELUDE, element_type, program, rounded};
use crate::gpu::small_float::{decoder, encoder};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, Known};
use crate::onnx_dtype;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Text, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, Bytes, DType, Dim, Tensor};
use half::{bf16, f16};
use rounding::rounding;

mod rounding;
mod strings;

pub static CAST: OpDef = OpDef {
    name: "Cast",
    doc: "Converts each element to the type `to` (ONNX's number of it). Floats are rounded to nearest even; to integers \
          they are cut towards zero and saturate, NaN giving 0; integers wrap; everything but 0 is true. `saturate` and \
          `round_mode` (of F8E8M0) concern 8-bit floats only. A string is read as a number, plain or scientific, with blanks \
          around it, `inf` and `nan` in any case; a number becomes the shortest string that reads back as it, in the layout of \
          C's `%g`, with `INF` and `NaN`, a bool `1` or `0`.",
    onnx: &[OnnxName::since("Cast", 6)],
    attrs: &[
        AttrDef::required("to", AttrKind::Int),
        AttrDef::int("saturate", 1),
        AttrDef::str("round_mode", "up"),
    ],
    inputs: &[Operand::data("input")],
    outputs: &["output"],
    elementwise: true,
    infer: |ctx| infer(ctx, onnx_dtype(ctx.attrs.int("to"))?),
    compact: true,
    text: Text::Kernel(|ctx| strings::cast(ctx, onnx_dtype(ctx.attrs.int("to"))?)),
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::EXACT,
    cases,
    ..OpDef::BASE
};

pub static CAST_LIKE: OpDef = OpDef {
    name: "CastLike",
    doc: "As Cast, to the type of the second operand, whose contents decide nothing. ONNX's CastLike is a Cast on import.",
    onnx: &[],
    attrs: &[AttrDef::int("saturate", 1), AttrDef::str("round_mode", "up")],
    inputs: &[Operand::data("input"), Operand::typed("target_type")],
    elementwise: true,
    infer: |ctx| infer(ctx, ctx.dtype(1)?),
    text: Text::Kernel(|ctx| strings::cast(ctx, ctx.input(1).dtype)),
    cases: || {
        let like = Tensor::zeros(DType::I32, &[1]);
        let x = Tensor::from_slice(&[3], &[1.5f32, -1.5, 7.0]);
        vec![
            Case::new("to i32", vec![x, like])
                .expect(vec![Tensor::from_slice(&[3], &[1i32, -1, 7])]),
        ]
    },
    ..CAST
};

fn infer(ctx: &InferCtx<'_>, to: DType) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let same = to == x.dtype || (to == DType::I64 && x.dtype == DType::I32);
    // Sizes stay what they are in any integer type that holds them; only i64 is followed further.
    let value = match &x.value {
        Some(Known::Dims(dims)) if same => Some(Known::Dims(dims.clone())),
        Some(Known::Tensor(t)) if to == DType::I64 && t.shape().len() <= 1 => t
            .to_i64s()
            .filter(|v| v.len() <= super::binary::MAX_DIMS)
            .map(|v| Known::Dims(v.into_iter().map(Dim::from).collect())),
        _ => None,
    };
    Ok(vec![Facts { dtype: to, shape: x.shape.clone(), value }])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let rounding = rounding(ctx.attrs)?;
    cast_rounded(x, ctx.output(), rounding);
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (from, to) = (ctx.input(0).dtype, ctx.output().dtype);
    if element_type(from).is_none() || element_type(to).is_none() {
        return Ok(None);
    }
    // Floats of 8 and 4 bits are converted by way of f32, which holds all of them.
    let wide = |dtype: DType| if is_small_float(dtype) { DType::F32 } else { dtype };
    let (mut a, mut small) = ("a", String::new());
    if is_small_float(from) && from != to {
        a = "decoded(a)";
        small += &decoder(from);
    }
    let [x, y] = [from, to].map(|dtype| element_type(wide(dtype)).expect("kept on the GPU"));
    let mut result = match from == to {
        true => a.to_owned(),
        false => {
            let converted = expression(wide(from), wide(to));
            small += &format!("fn converted(a: {x}) -> {y} {{ return {converted}; }}\n");
            format!("converted({a})")
        }
    };
    if is_small_float(to) && from != to {
        small += &encoder(to, rounding(ctx.attrs)?);
        result = format!("encoded({result})");
    }
    let functions = &[PRELUDE, INT64, include_str!("cast.wgsl"), &small];
    program(ctx, &Formula { label: "Cast", operands: [0], functions, y: &result, params: [0; 3] })
}

/// Whether the type is a float of 8 or 4 bits.
fn is_small_float(dtype: DType) -> bool {
    dtype.is_compact() && !is_small_integer(dtype)
}

/// Whether the type is an integer of 4 or 2 bits.
fn is_small_integer(dtype: DType) -> bool {
    matches!(dtype, DType::I4 | DType::U4 | DType::I2 | DType::U2)
}

/// How elements lie in words.
#[derive(Clone, Copy, PartialEq)]
enum Word {
    Float,
    Signed,
    Unsigned,
    Pair,
}

fn word(dtype: DType) -> Word {
    match dtype.storage() {
        d if d.is_float() => Word::Float,
        DType::I8 | DType::I16 | DType::I32 => Word::Signed,
        DType::I64 | DType::U64 => Word::Pair,
        _ => Word::Unsigned,
    }
}

/// The WGSL expression that converts `a`.
fn expression(from: DType, to: DType) -> String {
    let wide = if from == DType::U64 { "u64" } else { "i64" };
    if to == DType::Bool {
        return match word(from) {
            // By its bits: a subnormal number may compare equal to 0.
            Word::Float => "u32((bitcast<u32>(a) & 0x7fffffffu) != 0u)".to_owned(),
            Word::Signed => "u32(a != 0)".to_owned(),
            Word::Unsigned => "u32(a != 0u)".to_owned(),
            Word::Pair => "u32((a.x | a.y) != 0u)".to_owned(),
        };
    }
    match (word(from), word(to)) {
        (Word::Float, Word::Float) => rounded(to, "a"),
        (Word::Pair, Word::Float) => rounded(to, &format!("{wide}_to_f32(a)")),
        (_, Word::Float) => rounded(to, "f32(a)"),
        // As on the CPU they wrap.
        (Word::Float, Word::Signed) if is_small_integer(to) => {
            rounded(to, "bitcast<i32>(f32_to_i64(a).x)")
        }
        (Word::Float, Word::Unsigned) if is_small_integer(to) => rounded(to, "f32_to_i64(a).x"),
        (Word::Float, Word::Signed) => {
            let most = (1i64 << (to.width() * 8 - 1)) - 1;
            format!("clamp(f32_to_i32(a), -{most} - 1, {most})")
        }
        (Word::Float, Word::Unsigned) => {
            let most = u32::MAX >> (32 - to.width() * 8);
            format!("min(f32_to_u32(a), {most}u)")
        }
        (Word::Float, Word::Pair) if to == DType::U64 => "f32_to_u64(a)".to_owned(),
        (Word::Float, Word::Pair) => "f32_to_i64(a)".to_owned(),
        (Word::Pair, Word::Pair) => "a".to_owned(),
        (Word::Signed, Word::Pair) => {
            "vec2<u32>(bitcast<u32>(a), select(0u, 0xffffffffu, a < 0))".to_owned()
        }
        (Word::Unsigned, Word::Pair) => "vec2<u32>(a, 0u)".to_owned(),
        (Word::Pair, Word::Signed) => rounded(to, "bitcast<i32>(a.x)"),
        (Word::Pair, Word::Unsigned) => rounded(to, "a.x"),
        (_, Word::Signed) => rounded(to, "bitcast<i32>(a)"),
        (_, Word::Unsigned) => rounded(to, "bitcast<u32>(a)"),
    }
}

fn cases() -> Vec<Case> {
    let to = |name, number, x: Tensor, y: Tensor| {
        Case::new(name, vec![x]).attr("to", Attr::Int(number)).expect(vec![y])
    };
    let n = f32::NAN;
    let floats = Tensor::from_slice(&[7], &[1.9f32, -1.9, 300.0, -3e9, 3e9, n, f32::NEG_INFINITY]);
    let exact = [16_777_217i64, -16_777_219, (1 << 40) + (1 << 16), i64::MIN, i64::MAX, 0, -1];
    let longs = || Tensor::from_slice(&[7], &exact);
    let halves = |v: &[f32]| {
        Tensor::from_slice(&[v.len()], &v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>())
    };
    let brains = |v: &[f32]| {
        Tensor::from_slice(&[v.len()], &v.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>())
    };
    let near = [1.000_488_3f32, 1.001_464_8, 65_520.0, 65_519.0, 3e-8, 2e-8, n, -0.1];
    let mut cases = vec![
        to(
            "f32 to i32",
            6,
            floats.clone(),
            Tensor::from_slice(&[7], &[1, -1, 300, i32::MIN, i32::MAX, 0, i32::MIN]),
        ),
        to("f32 to u8", 2, floats.clone(), Tensor::from_slice(&[7], &[1u8, 0, 255, 0, 255, 0, 0])),
        to(
            "f32 to i8",
            3,
            floats.clone(),
            Tensor::from_slice(&[7], &[1i8, -1, 127, -128, 127, 0, -128]),
        ),
        to(
            "f32 to i64",
            7,
            floats.clone(),
            Tensor::from_slice(&[7], &[1, -1, 300, -3_000_000_000, 3_000_000_000, 0, i64::MIN]),
        ),
        to(
            "f32 to u64",
            13,
            floats.clone(),
            Tensor::from_slice(&[7], &[1u64, 0, 300, 0, 3_000_000_000, 0, 0]),
        ),
        to(
            "f32 to bool",
            9,
            Tensor::from_slice(&[4], &[0.0f32, -0.0, n, 1e-40]),
            Tensor::from_bools(&[4], &[false, false, true, true]),
        ),
        to("i64 to f32", 1, longs(), Tensor::from_slice(&[7], &exact.map(|v| v as f32))),
        to("i64 to i32", 6, longs(), Tensor::from_slice(&[7], &exact.map(|v| v as i32))),
        to("i64 to u8", 2, longs(), Tensor::from_slice(&[7], &exact.map(|v| v as u8))),
        to("i64 to f64", 11, longs(), Tensor::from_slice(&[7], &exact.map(|v| v as f64))),
        to("i64 to bool", 9, longs(), Tensor::from_bools(&[7], &exact.map(|v| v != 0))),
        to(
            "i32 to i64",
            7,
            Tensor::from_slice(&[2], &[-5i32, i32::MAX]),
            Tensor::from_slice(&[2], &[-5i64, i64::from(i32::MAX)]),
        ),
        to(
            "u8 to i8",
            3,
            Tensor::from_slice(&[3], &[200u8, 5, 128]),
            Tensor::from_slice(&[3], &[-56i8, 5, -128]),
        ),
        to(
            "bool to f32",
            1,
            Tensor::from_bools(&[2], &[true, false]),
            Tensor::from_slice(&[2], &[1.0f32, 0.0]),
        ),
        to(
            "bool to i64",
            7,
            Tensor::from_bools(&[2], &[true, false]),
            Tensor::from_slice(&[2], &[1i64, 0]),
        ),
        to("f32 to f16", 10, Tensor::from_slice(&[8], &near), halves(&near)),
        to("f32 to bf16", 16, Tensor::from_slice(&[8], &near), brains(&near)),
        to(
            "f16 to f32",
            1,
            halves(&[0.1, -2.5, f32::INFINITY]),
            Tensor::from_slice(&[3], &[0.099_975_586f32, -2.5, f32::INFINITY]),
        ),
    ];
    let small = |dtype, codes: &[u8]| {
        Tensor::new(dtype, &[codes.len()], Bytes::copy_from(codes)).expect("codes of the type")
    };
    let some = Tensor::from_slice(&[4], &[0.48f32, -1e6, n, -9.0]);
    let e4m3 = small(DType::F8E4M3FN, &[0x2f, 0xfe, 0x7f, 0xd1]);
    cases.push(to("f32 to f8e4m3fn", 17, some.clone(), e4m3.clone()));
    let decoded = Tensor::from_slice(&[4], &[0.468_75f32, -448.0, n, -9.0]);
    cases.push(to("f8e4m3fn to f32", 1, e4m3, decoded));
    let open = small(DType::F8E5M2, &[0x38, 0xfc, 0x7e, 0xc8]);
    cases.push(to("f32 to f8e5m2, open", 19, some, open).attr("saturate", Attr::Int(0)));
    let whole = Tensor::from_slice(&[3], &[-9.0f32, 7.0, 8.0]);
    cases.push(to("f32 to i4", 22, whole.clone(), small(DType::I4, &[7, 7, 0xf8])));
    cases.push(to("f32 to u2", 25, whole, small(DType::U2, &[3, 3, 0])));
    // Every code of every type, and numbers between them and beyond.
    let codes: Vec<u8> = (0..=255).collect();
    let mut between: Vec<f32> = (-120..=40).map(|e| 1.37f32.powi(e)).collect();
    between.extend([0.0, -0.0, 464.0, -465.0, 1e-40, 1e30, 57344.0, 61440.0, 6.0, 0.25, -0.75, n]);
    between.extend([f32::INFINITY, f32::NEG_INFINITY, 2f32.powi(-127), f32::MAX]);
    let between = Tensor::from_slice(&[between.len()], &between);
    for (number, dtype, names) in [
        (17, DType::F8E4M3FN, ["f8e4m3fn, all codes", "f8e4m3fn, rounded", "f8e4m3fn, open"]),
        (
            18,
            DType::F8E4M3FNUZ,
            ["f8e4m3fnuz, all codes", "f8e4m3fnuz, rounded", "f8e4m3fnuz, open"],
        ),
        (19, DType::F8E5M2, ["f8e5m2, all codes", "f8e5m2, rounded", "f8e5m2, open"]),
        (
            20,
            DType::F8E5M2FNUZ,
            ["f8e5m2fnuz, all codes", "f8e5m2fnuz, rounded", "f8e5m2fnuz, open"],
        ),
        (24, DType::F8E8M0, ["f8e8m0, all codes", "f8e8m0, rounded", "f8e8m0, open"]),
        (23, DType::F4E2M1, ["f4e2m1, all codes", "f4e2m1, rounded", "f4e2m1, open"]),
    ] {
        let of_type: Vec<u8> = codes.iter().copied().filter(|&c| dtype.is_code(c)).collect();
        cases.push(Case::new(names[0], vec![small(dtype, &of_type)]).attr("to", Attr::Int(1)));
        let rounded = Case::new(names[1], vec![between.clone()]).attr("to", Attr::Int(number));
        cases.push(Case { name: names[2], ..rounded.clone() }.attr("saturate", Attr::Int(0)));
        cases.push(rounded);
    }
    for mode in ["down", "nearest"] {
        let case = Case::new(mode, vec![between.clone()]).attr("to", Attr::Int(24));
        cases.push(case.attr("round_mode", Attr::Str(mode.to_owned())));
    }
    let longs_too = Tensor::from_slice(&[4], &[-300i64, 7, 1 << 40, 20]);
    cases.push(Case::new("i64 to f8e4m3fn", vec![longs_too.clone()]).attr("to", Attr::Int(17)));
    cases.push(Case::new("i64 to i2", vec![longs_too]).attr("to", Attr::Int(26)));
    let half_codes = small(DType::F8E5M2, &[0x38, 0xfc, 0x44, 0xc8]);
    cases.push(Case::new("f8e5m2 to f4e2m1", vec![half_codes.clone()]).attr("to", Attr::Int(23)));
    cases.push(Case::new("f8e5m2 to u8", vec![half_codes]).attr("to", Attr::Int(2)));
    let back = Tensor::from_slice(&[2], &[-8i8, 7]);
    cases.push(to("i4 to i8", 3, small(DType::I4, &[0xf8, 7]), back));
    let written = ["0.1", "1e-07", "3.1415927", "1e+08", "-0", "NaN", "-INF", "16777216"];
    let some = [0.1f32, 1e-7, std::f32::consts::PI, 1e8, -0.0, n, f32::NEG_INFINITY, 16_777_216.0];
    let texts = |v: &[&str]| Tensor::from_strings(&[v.len()], v);
    cases.push(to("f32 to string", 8, Tensor::from_slice(&[8], &some), texts(&written)));
    cases.push(to(
        "i64 to string",
        8,
        longs(),
        texts(&exact.map(|v| v.to_string()).each_ref().map(String::as_str)),
    ));
    let read = texts(&["3.25", " 1e-5 ", "1E8", "+INF", "nan", "-7"]);
    let numbers = [3.25f32, 1e-5, 1e8, f32::INFINITY, n, -7.0];
    cases.push(to("string to f32", 1, read, Tensor::from_slice(&[6], &numbers)));
    let read = texts(&["-3.9", "300", "18446744073709551615", "1e3"]);
    cases.push(to(
        "string to i64",
        7,
        read.clone(),
        Tensor::from_slice(&[4], &[-3i64, 300, -1, 1000]),
    ));
    cases.push(to("string to u8", 2, read, Tensor::from_slice(&[4], &[253u8, 44, 255, 232])));
    let flags = Tensor::from_bools(&[2], &[true, false]);
    cases.push(to("bool to string", 8, flags.clone(), texts(&["1", "0"])));
    cases.push(to("string to bool", 9, texts(&["0.5", "0"]), flags));
    cases.push(Case::new("matrix", vec![ramp(&[7, 90])]).attr("to", Attr::Int(7)));
    cases.push(Case::new("to its own type", vec![ramp(&[5])]).attr("to", Attr::Int(1)));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval;
    use engine_format::Attrs;

    /// Small numbers are the same in every type, whichever way they come.
    #[test]
    fn every_pair_of_types_converts_small_numbers() {
        let numbers =
            [(1, DType::F32), (2, DType::U8), (3, DType::I8), (4, DType::U16), (5, DType::I16)];
        let more = [(6, DType::I32), (7, DType::I64), (10, DType::F16), (11, DType::F64)];
        let last = [(12, DType::U32), (13, DType::U64), (16, DType::BF16), (9, DType::Bool)];
        let last = last.into_iter().chain([(8, DType::String)]);
        let all: Vec<_> = numbers.into_iter().chain(more).chain(last).collect();
        let calculated = DType::ALL.into_iter().filter(|dtype| !dtype.is_compact());
        assert_eq!(all.len(), calculated.count());
        let to = |t: &Tensor, number: i64| {
            let attrs = Attrs::from([("to".to_owned(), Attr::Int(number))]);
            eval(&CAST, &CAST.normalise(attrs).unwrap(), &[Some(t.clone())], 1).unwrap().remove(0)
        };
        for &(_, from) in &all {
            let limit = if from == DType::Bool { 1 } else { 100 };
            let start = Tensor::from_slice(&[3], &[0i64, 1, limit]);
            let number = |d: DType| all.iter().find(|a| a.1 == d).unwrap().0;
            let source = to(&start, number(from));
            assert_eq!(source.dtype(), from);
            for &(target, dtype) in &all {
                let there = to(&source, target);
                assert_eq!(there.dtype(), dtype);
                let back = to(&there, 7).to_i64s().unwrap();
                let most = if dtype == DType::Bool { 1 } else { limit };
                assert_eq!(back, [0, 1, most], "{from} to {dtype}");
            }
        }
    }
}
