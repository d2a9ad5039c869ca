//! Strings joined in pairs.

use crate::broadcast::Broadcast;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError, broadcast};
use crate::{OnnxName, OpDef, OpError, Operand, Text};
use engine_format::{DType, Dim, Tensor};

/// StringConcat.
pub static STRING_CONCAT: OpDef = OpDef {
    name: "StringConcat",
    doc: "`x` followed by `y`, with broadcasting.",
    onnx: &[OnnxName::since("StringConcat", 20)],
    inputs: &[Operand::data("X").of(&[DType::String]), Operand::data("Y").of(&[DType::String])],
    outputs: &["Z"],
    infer,
    text: Text::Kernel(run),
    cpu: Cpu::Dynamic(run),
    cases: || {
        let animals = || Tensor::from_strings(&[2, 1], &["cat", "猫"]);
        vec![
            Case::new("plurals", vec![animals(), Tensor::from_strings(&[], &["s"])])
                .expect(vec![Tensor::from_strings(&[2, 1], &["cats", "猫s"])]),
            Case::new("every pair", vec![animals(), Tensor::from_strings(&[2], &["", "!"])])
                .expect(vec![Tensor::from_strings(&[2, 2], &["cat", "cat!", "猫", "猫!"])]),
            Case::new("none", vec![animals(), Tensor::from_strings(&[0], &[""; 0])])
                .expect(vec![Tensor::from_strings(&[2, 0], &[""; 0])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_strings(ctx, 0)?;
    check_strings(ctx, 1)?;
    if ctx.facts(0)?.shape.is_none() || ctx.facts(1)?.shape.is_none() {
        return Ok(vec![Facts::unranked(DType::String)]);
    }
    Ok(vec![Facts::new(DType::String, broadcast(&[ctx.shape(0)?, ctx.shape(1)?])?)])
}

/// An error if operand `i` is not of strings.
pub(in crate::ops) fn check_strings(ctx: &InferCtx<'_>, i: usize) -> Result<(), InferError> {
    match ctx.dtype(i)? {
        DType::String => Ok(()),
        other => Err(InferError::invalid(format!("operand {i} is {other}, expected string"))),
    }
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, y) = (ctx.input(0), ctx.input(1));
    let dims = |shape: &[usize]| shape.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
    let shape = Facts::new(DType::String, broadcast(&[&dims(x.shape), &dims(y.shape)])?);
    let shape = shape.concrete().expect("numbers broadcast to numbers");
    let pairs = Broadcast::new(&shape, [x.shape, y.shape])?;
    let (a, b) = (x.strings(), y.strings());
    let steps = pairs.axes()[0].strides;
    let mut joined = Vec::new();
    pairs.runs(0, shape.iter().product(), |_, len, from| {
        joined.extend(
            (0..len).map(|i| [a[from[0] + i * steps[0]], b[from[1] + i * steps[1]]].concat()),
        );
    });
    Ok(vec![Tensor::from_strings(&shape, &joined)])
}
