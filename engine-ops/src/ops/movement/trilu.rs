//! Trilu: one side of a diagonal.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, words};
use crate::infer::{Facts, InferCtx, InferError};
use crate::operand::ONE;
use crate::parallel;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, for_size};
use engine_format::{Attr, Tensor};

/// Trilu.
pub static TRILU: OpDef = OpDef {
    name: "Trilu",
    doc: "The operand's matrices (its last two axes) with zeros below the `k`-th diagonal, or above it where `upper` is 0.",
    onnx: &[OnnxName::since("Trilu", 14)],
    attrs: &[AttrDef::int("upper", 1)],
    inputs: &[
        Operand::data("input").shaped("... rows columns"),
        Operand::opt_shape("k").shaped(ONE),
    ],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    Ok(vec![Facts { value: None, ..x.clone() }])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let k = ctx.opt_input(1).map_or(0, |k| k.slice::<i64>()[0]);
    let upper = ctx.attrs.int("upper") != 0;
    let y = ctx.output();
    if y.bytes.is_empty() {
        return Ok(());
    }
    let [.., rows, columns] = *x.shape else {
        return Err(OpError::new("input has no matrices"));
    };
    for_size!(x.dtype, T => {
        let (from, to) = (x.raw::<T>(), y.raw::<T>());
        parallel::rows(to, columns, 1, |i, to| {
            let from = &from[i * columns..][..columns];
            // The first column on or right of the diagonal; the lower side keeps the diagonal too.
            let row = (i % rows) as i64;
            let edge = row.saturating_add(k).saturating_add(i64::from(!upper));
            let edge = edge.clamp(0, columns as i64) as usize;
            let (kept, cleared) = if upper { (edge..columns, 0..edge) } else { (0..edge, edge..columns) };
            to[kept.clone()].copy_from_slice(&from[kept]);
            to[cleared].fill(0);
        });
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let k = ctx.value(1).and_then(Tensor::to_i64s).map_or(0, |k| k[0]);
    if x.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    let (Some(width), [.., rows, columns]) = (words(x.dtype), x.shape.as_slice()) else {
        return Ok(None);
    };
    let upper = usize::from(ctx.attrs.int("upper") != 0);
    let n = x.len() * width;
    let numbers = [n, *rows, *columns, width, upper];
    let Ok(mut params) = numbers.into_iter().map(u32::try_from).collect::<Result<Vec<_>, _>>()
    else {
        return Ok(None);
    };
    // Diagonals beyond the matrix are all the same.
    let most = i64::from(i32::MAX / 4);
    params.push(k.clamp(-most, most) as i32 as u32);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "Trilu".into(),
        wgsl: include_str!("trilu.wgsl").into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}

fn cases() -> Vec<Case> {
    let square = || Tensor::from_slice(&[3, 3], &[1i64, 2, 3, 4, 5, 6, 7, 8, 9]);
    let side = |name, upper: i64, k: i64, expected: &[i64]| {
        Case::new(name, vec![square(), Tensor::from_slice(&[], &[k])])
            .attr("upper", Attr::Int(upper))
            .expect(vec![Tensor::from_slice(&[3, 3], expected)])
    };
    vec![
        side("upper", 1, 0, &[1, 2, 3, 0, 5, 6, 0, 0, 9]),
        side("upper, one up", 1, 1, &[0, 2, 3, 0, 0, 6, 0, 0, 0]),
        side("upper, far below", 1, -100, &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        side("lower", 0, 0, &[1, 0, 0, 4, 5, 0, 7, 8, 9]),
        side("lower, one down", 0, -1, &[0, 0, 0, 4, 0, 0, 7, 8, 0]),
        Case::new("batch", vec![ramp(&[2, 3, 5, 7])]),
        Case::new("bools", vec![Tensor::from_bools(&[2, 2], &[true; 4])])
            .expect(vec![Tensor::from_bools(&[2, 2], &[true, true, false, true])]),
        Case::new("empty", vec![ramp(&[3, 0])]),
    ]
}
