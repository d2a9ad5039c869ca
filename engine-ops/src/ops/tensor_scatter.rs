//! Rows written into a cache.

use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::def::AttrsExt;
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::Tensor;

pub static TENSOR_SCATTER: OpDef = OpDef {
    name: "TensorScatter",
    doc: "The cache with `update` written into it along `axis`, for each batch from its `write_indices` on (0 without); in mode \
          circular what goes over the end begins anew.",
    onnx: &[OnnxName::since("TensorScatter", 24)],
    attrs: &[AttrDef::int("axis", -2), AttrDef::str("mode", "linear")],
    inputs: &[
        Operand::data("past_cache"),
        Operand::data("update"),
        Operand { optional: true, ..Operand::index("write_indices") },
    ],
    outputs: &["present_cache"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(run),
    cases: || {
        let cache = Tensor::from_slice(&[2, 3, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let update = Tensor::from_slice(&[2, 1, 1], &[7.0f32, 8.0]);
        let y = Tensor::from_slice(&[2, 3, 1], &[1.0f32, 7.0, 3.0, 8.0, 5.0, 6.0]);
        let at = Tensor::from_slice(&[2], &[1i64, 0]);
        vec![Case::new("one row each", vec![cache, update, at]).expect(vec![y])]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (cache, update) = (ctx.shape(0)?, ctx.shape(1)?);
    let at = axis(ctx.attrs.int("axis"), cache.len())?;
    let fits = |(i, (a, b)): (usize, (&engine_format::Dim, &engine_format::Dim))| match (
        a.known(),
        b.known(),
    ) {
        (Some(a), Some(b)) => {
            if i == at {
                b <= a
            } else {
                a == b
            }
        }
        _ => true,
    };
    let same = cache.len() == update.len() && cache.iter().zip(update).enumerate().all(fits);
    if !same || at == 0 || ctx.dtype(0)? != ctx.dtype(1)? {
        return Err(InferError::invalid(format!(
            "update {}{update:?} does not fit the cache {}{cache:?} along axis {at}, which must not be the first",
            ctx.dtype(1)?,
            ctx.dtype(0)?
        )));
    }
    Ok(vec![Facts { value: None, ..ctx.facts(0)?.clone() }])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (cache, update) = (ctx.input(0), ctx.input(1));
    let starts = ctx.opt_input(2).map(|t| t.slice::<i64>());
    let at = axis(ctx.attrs.int("axis"), cache.shape.len())?;
    let circular = match ctx.attrs.str("mode") {
        "linear" => false,
        "circular" => true,
        other => return Err(OpError::new(format!("mode {other:?}, expected linear or circular"))),
    };
    let (length, new) = (cache.shape[at], update.shape[at]);
    let row = cache.shape[at + 1..].iter().product::<usize>() * cache.dtype.width();
    let per_batch: usize = cache.shape[1..at].iter().product();
    let y = ctx.output();
    y.bytes.copy_from_slice(cache.bytes);
    for (block, rows) in update.bytes.chunks_exact((new * row).max(1)).enumerate() {
        let start = starts.map_or(0, |starts| starts[block / per_batch.max(1)]);
        for (i, bytes) in rows.chunks_exact(row.max(1)).enumerate() {
            let place = start + i as i64;
            let place = if circular { place.rem_euclid(length as i64) } else { place };
            let place =
                usize::try_from(place).ok().filter(|&place| place < length).ok_or_else(|| {
                    OpError::new(format!("row {place} is written into a cache of {length}"))
                })?;
            y.bytes[(block * length + place) * row..][..row].copy_from_slice(bytes);
        }
    }
    Ok(())
}
