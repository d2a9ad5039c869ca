//! ReverseSequence: each sequence of a batch turned round, as far as it goes.

use super::gather::indices;
use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, outside_wgsl, render, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::strided::{offsets, strides};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, for_size};
use engine_format::{Attr, DType, Tensor};

/// ReverseSequence.
pub static REVERSE_SEQUENCE: OpDef = OpDef {
    name: "ReverseSequence",
    doc: "For sequence `b` along `batch_axis`, the first `sequence_lens[b]` steps along `time_axis` in reverse, the others in place.",
    onnx: &[OnnxName::since("ReverseSequence", 10)],
    attrs: &[AttrDef::int("batch_axis", 1), AttrDef::int("time_axis", 0)],
    inputs: &[
        Operand::data("input"),
        Operand::index("sequence_lens").of(&[DType::I64]).shaped("_"),
    ],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let rank = ctx.shape(0)?.len();
    let batch = axis(ctx.attrs.int("batch_axis"), rank)?;
    let time = axis(ctx.attrs.int("time_axis"), rank)?;
    if batch == time || ctx.dtype(1)? != DType::I64 {
        return Err(InferError::invalid(format!(
            "batch axis {batch}, time axis {time}, lengths of {}, expected two axes and i64",
            ctx.dtype(1)?
        )));
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let rank = x.shape.len();
    let batch = axis(ctx.attrs.int("batch_axis"), rank)?;
    let time = axis(ctx.attrs.int("time_axis"), rank)?;
    let lengths = indices(ctx.input(1))?;
    let steps = x.shape[time];
    let fits = |&&n: &&i64| !(0..=steps as i64).contains(&n);
    if let Some(bad) = lengths.iter().find(fits) {
        return Err(OpError::new(format!("sequence length {bad}, expected 0..={steps}")));
    }
    if lengths.len() != x.shape[batch] {
        return Err(OpError::new(format!(
            "{} lengths for {} sequences",
            lengths.len(),
            x.shape[batch]
        )));
    }
    let own = strides(x.shape);
    // The axes other than the two, whose elements go together.
    let (mut others, mut distances) = (x.shape.to_vec(), own.clone());
    for at in [batch, time] {
        (others[at], distances[at]) = (1, 0);
    }
    let y = ctx.output();
    for_size!(x.dtype, T => {
        let (from, to) = (x.raw::<T>(), y.raw::<T>());
        for (b, &length) in lengths.iter().enumerate() {
            for t in 0..steps {
                let source = if (t as i64) < length { length as usize - 1 - t } else { t };
                let (there, here) = (source * own[time], t * own[time]);
                for at in offsets(&others, &distances) {
                    let at = at + b * own[batch];
                    to[at + here] = from[at + there];
                }
            }
        }
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let Some(width) = words(x.dtype).filter(|_| ctx.input(1).dtype == DType::I64) else {
        return Ok(None);
    };
    let rank = x.shape.len();
    let batch = axis(ctx.attrs.int("batch_axis"), rank)?;
    let time = axis(ctx.attrs.int("time_axis"), rank)?;
    let own = strides(&x.shape);
    let numbers = [x.len() * width, width, x.shape[batch], own[batch], x.shape[time], own[time]];
    let Ok(params) = numbers.into_iter().map(u32::try_from).collect() else { return Ok(None) };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "ReverseSequence".into(),
        wgsl: render(include_str!("reverse_sequence.wgsl"), &[("outside", &outside_wgsl(3))])
            .into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::Out(0), Bind::Outside],
        params,
        groups: ctx.limits.linear(x.len() * width, 256),
    })))
}

fn cases() -> Vec<Case> {
    let square = || Tensor::from_slice(&[3, 2], &[1i32, 2, 3, 4, 5, 6]);
    vec![
        Case::new("columns", vec![square(), ints(&[3, 2])])
            .expect(vec![Tensor::from_slice(&[3, 2], &[5i32, 4, 3, 2, 1, 6])]),
        Case::new("rows", vec![square(), ints(&[1, 2, 0])])
            .attr("batch_axis", Attr::Int(0))
            .attr("time_axis", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[3, 2], &[1i32, 2, 4, 3, 5, 6])]),
        Case::new("two words", vec![Tensor::from_slice(&[2, 1], &[1i64 << 40, -2]), ints(&[2])])
            .expect(vec![Tensor::from_slice(&[2, 1], &[-2i64, 1 << 40])]),
        Case::new("frames", vec![ramp(&[4, 3, 5]), ints(&[4, 0, 2])]),
    ]
}
