//! Gather: slices picked by an index.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::gpu::halves::Lying;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, position_wgsl, render, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::collected;
use crate::parallel;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, for_size};
use engine_format::{Attr, DType, Dim, Tensor};
use std::borrow::Cow;

/// Gather.
pub static GATHER: OpDef = OpDef {
    name: "Gather",
    doc: "The slices of `data` along `axis` that `indices` name, in the place of that axis: one for every index, in the \
          indices' shape. Negative indices count from the end; one outside is an error.",
    onnx: &[OnnxName::since("Gather", 1)],
    attrs: &[AttrDef::int("axis", 0)],
    inputs: &[Operand::data("data").learned().or_halves(), Operand::index("indices")],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

/// The elements of an index operand, which has one of two types.
pub(in crate::ops) fn indices(x: TensorRef<'_>) -> Result<Cow<'_, [i64]>, OpError> {
    match x.dtype {
        DType::I64 => Ok(Cow::Borrowed(x.slice::<i64>())),
        DType::I32 => Ok(Cow::Owned(collected(x.slice::<i32>().iter().map(|&i| i64::from(i)))?)),
        other => Err(OpError::new(format!("indices are {other}, expected i32 or i64"))),
    }
}

/// The position that an index means on an axis of `size` elements.
pub(in crate::ops) fn position(index: i64, size: usize) -> Result<usize, OpError> {
    let signed = size as i64;
    let at = if index < 0 { index.saturating_add(signed) } else { index };
    usize::try_from(at)
        .ok()
        .filter(|&at| at < size)
        .ok_or_else(|| OpError::new(format!("index {index}, expected -{size}..{size}")))
}

/// Whether indices are of a type that is taken.
pub(in crate::ops) fn check_indices(ctx: &InferCtx<'_>, i: usize) -> Result<(), InferError> {
    match ctx.dtype(i)? {
        DType::I64 | DType::I32 => Ok(()),
        other => Err(InferError::invalid(format!("indices are {other}, expected i32 or i64"))),
    }
}

/// Whether indices that are known before a run lie on an axis whose size is.
pub(in crate::ops) fn check_range(
    ctx: &InferCtx<'_>,
    i: usize,
    dim: &Dim,
) -> Result<(), InferError> {
    let size = dim.known().and_then(|n| usize::try_from(n).ok());
    let (Some(size), Ok(which)) = (size, ctx.ints(i)) else { return Ok(()) };
    which.iter().try_for_each(|&index| position(index, size).map(drop))?;
    Ok(())
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_indices(ctx, 1)?;
    let (shape, picked) = (ctx.shape(0)?, ctx.shape(1)?);
    let at = axis(ctx.attrs.int("axis"), shape.len())?;
    check_range(ctx, 1, &shape[at])?;
    let out = [&shape[..at], picked, &shape[at + 1..]].concat();
    if let (Some(all), [_], [] | [_], Ok(which)) = (ctx.known_dims(0), shape, picked, ctx.ints(1)) {
        let contents = which
            .into_iter()
            .map(|i| Ok(all[position(i, all.len())?].clone()))
            .collect::<Result<Vec<_>, OpError>>()?;
        return Ok(vec![Facts::of_dims(out, contents)]);
    }
    Ok(vec![Facts::new(ctx.dtype(0)?, out)])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let which = ctx.input(1);
    match which.dtype {
        DType::I32 => taken(ctx, which.slice::<i32>()),
        _ => taken(ctx, which.slice::<i64>()),
    }
}

fn taken<I: Copy + Into<i64> + Sync>(ctx: &mut CpuCtx<'_>, which: &[I]) -> Result<(), OpError> {
    let x = ctx.input(0);
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    let size = x.shape[at];
    let inner: usize = x.shape[at + 1..].iter().product();
    which.iter().try_for_each(|&index| position(index.into(), size).map(drop))?;
    let y = ctx.output();
    if y.bytes.is_empty() {
        return Ok(());
    }
    for_size!(x.dtype, T => {
        let (from, to) = (x.raw::<T>(), y.raw::<T>());
        parallel::rows(to, inner, 1, |i, to| {
            let index = which[i % which.len()].into();
            let slice = i / which.len() * size + position(index, size).unwrap_or_default();
            to.copy_from_slice(&from[slice * inner..][..inner]);
        });
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, which, y) = (ctx.input(0), ctx.input(1), ctx.output());
    let (Some(width), Some(index_width)) = (words(x.dtype), words(which.dtype)) else {
        return Ok(None);
    };
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    if y.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    if x.shape[at] == 0 {
        return Err(OpError::new(format!("indices {:?} into an empty axis", which.shape)));
    }
    let inner: usize = x.shape[at + 1..].iter().product::<usize>() * width;
    let n = y.len() * width;
    // Slices of whole vectors of four are moved by those.
    let quads = inner.is_multiple_of(4);
    let (by, element) = if quads { (4, "vec4<u32>") } else { (1, "u32") };
    let lying = Lying::of(ctx, 0);
    let (own, float) = match lying {
        Lying::Words => (element, "u32"),
        halves => (halves.element(quads), "f32"),
    };
    let reader = render(&lying.reader("x", quads), &[("T", float)]);
    let (n, inner) = (n / by, inner / by);
    let numbers = [n, inner, which.len(), x.shape[at], index_width];
    let Ok(params) = numbers.into_iter().map(u32::try_from).collect() else { return Ok(None) };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "Gather".into(),
        wgsl: render(
            include_str!("gather.wgsl"),
            &[
                ("position", &position_wgsl(3)),
                ("reader", &reader),
                ("x_element", own),
                ("element", element),
            ],
        )
        .into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::Out(0), Bind::Outside],
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}

fn cases() -> Vec<Case> {
    let at = |axis| Attr::Int(axis);
    vec![
        Case::new(
            "rows",
            vec![Tensor::from_slice(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]), ints(&[2, 0, -1])],
        )
        .expect(vec![Tensor::from_slice(&[3, 2], &[5f32, 6.0, 1.0, 2.0, 5.0, 6.0])]),
        Case::new(
            "columns by a matrix of 32-bit indices",
            vec![
                Tensor::from_slice(&[2, 3], &[1u8, 2, 3, 4, 5, 6]),
                Tensor::from_slice(&[2, 1], &[0i32, -1]),
            ],
        )
        .attr("axis", at(1))
        .expect(vec![Tensor::from_slice(&[2, 2, 1], &[1u8, 3, 4, 6])]),
        Case::new("a scalar index", vec![ints(&[7, -8, 9]), Tensor::from_slice(&[], &[1i64])])
            .expect(vec![Tensor::from_slice(&[], &[-8i64])]),
        Case::new("inner axis", vec![ramp(&[2, 5, 70]), ints(&[4, 4, 0])]).attr("axis", at(-2)),
        Case::new("no index", vec![ramp(&[2, 3]), ints(&[])]).expect(vec![ramp(&[0, 3])]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_outside_is_named() {
        assert_eq!(position(-3, 3), Ok(0));
        let found = position(3, 3).unwrap_err().to_string();
        assert_eq!(found, "index 3, expected -3..3");
        assert!(position(i64::MIN, 3).is_err());
    }
}
