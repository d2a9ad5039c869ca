//! The same bits as elements of another type.

use super::cast::onnx_dtype;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::def::{AttrKind, AttrsExt};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, DType, Tensor};

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
    cases: || {
        let x = Tensor::from_slice(&[2], &[1.0f32, -2.5]);
        let y = Tensor::from_slice(&[2], &[0x3f80_0000i32, 0xc020_0000u32 as i32]);
        vec![Case::new("f32 to i32", vec![x]).attr("to", Attr::Int(6)).expect(vec![y])]
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
