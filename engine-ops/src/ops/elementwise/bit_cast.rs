//! The same bits as elements of another type.

use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{Formula, element_type, program};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::onnx_dtype;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, DType, Tensor};
use half::{bf16, f16};

pub static BIT_CAST: OpDef = OpDef {
    name: "BitCast",
    doc: "The bits of each element as an element of type `to` (ONNX's number of it), which has as many.",
    onnx: &[OnnxName::since("BitCast", 26)],
    attrs: &[AttrDef::required("to", AttrKind::Int)],
    inputs: &[Operand::data("input")],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases: || {
        let x = Tensor::from_slice(&[2], &[1.0f32, -2.5]);
        let y = Tensor::from_slice(&[2], &[0x3f80_0000i32, 0xc020_0000u32 as i32]);
        let halves = [1.0f32, -2.5, 65_504.0, 3e-7, f32::NEG_INFINITY];
        let half = Tensor::from_slice(&[5], &halves.map(f16::from_f32));
        let of_half = [0x3c00u16, 0xc100, 0x7bff, 0x0005, 0xfc00];
        let brain = Tensor::from_slice(&[2], &[1.0f32, -2.5].map(bf16::from_f32));
        let to = |name, number, x: &Tensor, y: &Tensor| {
            Case::new(name, vec![x.clone()]).attr("to", Attr::Int(number)).expect(vec![y.clone()])
        };
        let words = Tensor::from_slice(&[5], &of_half);
        let of_brain = Tensor::from_slice(&[2], &[0x3f80i16, 0xc020u16 as i16]);
        let bytes = Tensor::from_slice(&[3], &[-1i8, 5, -128]);
        let wide = Tensor::from_slice(&[2], &[-1i64, 5 << 40]);
        vec![
            to("f32 to i32", 6, &x, &y),
            to("i32 to f32", 1, &y, &x),
            to("f16 to u16", 4, &half, &words),
            to("u16 to f16", 10, &words, &half),
            to("bf16 to i16", 5, &brain, &of_brain),
            to("i16 to bf16", 16, &of_brain, &brain),
            to("i8 to u8", 2, &bytes, &Tensor::from_slice(&[3], &[255u8, 5, 128])),
            to("i64 to u64", 13, &wide, &Tensor::from_slice(&[2], &[u64::MAX, 5 << 40])),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let to = onnx_dtype(ctx.attrs.int("to"))?;
    let strings = to == DType::String;
    if strings || to.size() != x.dtype.size() || (to.is_restricted() && to != x.dtype) {
        return Err(InferError::invalid(format!(
            "operand input is {}, whose elements are not the bits of a {to}",
            x.dtype
        )));
    }
    Ok(vec![Facts { dtype: to, shape: x.shape.clone(), value: None }])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    ctx.output().bytes.copy_from_slice(x.bytes);
    Ok(())
}

/// The bits of `a` in a word.
fn bits(from: DType) -> &'static str {
    match from.storage() {
        DType::F32 => "bitcast<u32>(a)",
        DType::F16 => "half_bits(a)",
        DType::BF16 => "bitcast<u32>(a) >> 16u",
        DType::I8 => "bitcast<u32>(a) & 0xffu",
        DType::I16 => "bitcast<u32>(a) & 0xffffu",
        DType::I32 => "bitcast<u32>(a)",
        _ => "a",
    }
}

/// The element whose bits `b` are.
fn element(to: DType) -> &'static str {
    match to.storage() {
        DType::F32 => "bitcast<f32>(b)",
        DType::F16 => "half(b)",
        DType::BF16 => "bitcast<f32>(b << 16u)",
        DType::I8 => "extractBits(bitcast<i32>(b), 0u, 8u)",
        DType::I16 => "extractBits(bitcast<i32>(b), 0u, 16u)",
        DType::I32 => "bitcast<i32>(b)",
        _ => "b",
    }
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (from, to) = (ctx.input(0).dtype, ctx.output().dtype);
    let (Some(a), Some(y)) = (element_type(from), element_type(to)) else { return Ok(None) };
    let word = if a == "vec2<u32>" { a } else { "u32" };
    let cast = format!(
        "fn bits(a: {a}) -> {word} {{ return {}; }}\nfn element(b: {word}) -> {y} {{ return {}; }}\n",
        bits(from),
        element(to)
    );
    let functions = &[include_str!("bit_cast.wgsl"), &cast];
    let y = "element(bits(a))";
    program(ctx, &Formula { label: "BitCast", operands: [0], functions, y, params: [0; 3] })
}
