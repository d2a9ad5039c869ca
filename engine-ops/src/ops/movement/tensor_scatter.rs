//! Rows written into a cache.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{DIVIDE64, INT64};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, outside_wgsl, render, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, Attrs, DType, Tensor};

pub static TENSOR_SCATTER: OpDef = OpDef {
    name: "TensorScatter",
    doc: "The cache with `update` written into it along `axis`, for each batch from its `write_indices` on (0 without); in mode \
          circular what goes over the end begins anew.",
    onnx: &[OnnxName::since("TensorScatter", 24)],
    attrs: &[AttrDef::int("axis", -2), AttrDef::str("mode", "linear")],
    inputs: &[
        Operand::data("past_cache").shaped("batch ..."),
        Operand::data("update").like(0).shaped("batch ..."),
        Operand::index("write_indices").or_none().of(&[DType::I64]).shaped("batch"),
    ],
    outputs: &["present_cache"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases: || {
        let cache = Tensor::from_slice(&[2, 3, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let update = Tensor::from_slice(&[2, 1, 1], &[7.0f32, 8.0]);
        let y = Tensor::from_slice(&[2, 3, 1], &[1.0f32, 7.0, 3.0, 8.0, 5.0, 6.0]);
        let at = Tensor::from_slice(&[2], &[1i64, 0]);
        let ring = Tensor::from_slice(&[1, 3, 2], &[1i64 << 40, 2, 3, 4, 5, 6]);
        let rows = Tensor::from_slice(&[1, 2, 2], &[7i64, 8, 9, 10 << 40]);
        let round = Tensor::from_slice(&[1, 3, 2], &[9i64, 10 << 40, 3, 4, 7, 8]);
        vec![
            Case::new("one row each", vec![cache, update, at]).expect(vec![y]),
            Case::new("over the end, of two words", vec![ring, rows, ints(&[2])])
                .attr("mode", Attr::Str("circular".to_owned()))
                .expect(vec![round]),
            Case::new(
                "far around, and from before the start",
                vec![ramp(&[3, 5, 2]), ramp(&[3, 3, 2]), ints(&[(1 << 40) + 4, -3, i64::MIN])],
            )
            .attr("mode", Attr::Str("circular".to_owned())),
            Case::new("heads", vec![ramp(&[2, 3, 40, 8]), ramp(&[2, 3, 5, 8]), ints(&[0, 35])]),
            Case::new("from the start", vec![ramp(&[2, 7, 3]), ramp(&[2, 7, 2])])
                .attr("axis", Attr::Int(-1)),
            Case::new("no row", vec![ramp(&[2, 3]), ramp(&[2, 0]), ints(&[0, 1])])
                .attr("axis", Attr::Int(1))
                .expect(vec![ramp(&[2, 3])]),
        ]
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
    circular(ctx.attrs)?;
    if let Some(facts) = ctx.opt(2) {
        let one_each =
            facts.shape.as_ref().is_none_or(|dims| match (dims.as_slice(), cache.first()) {
                ([n], Some(batch)) => {
                    n.known().zip(batch.known()).is_none_or(|(n, batch)| n == batch)
                }
                _ => false,
            });
        if facts.dtype != DType::I64 || !one_each {
            return Err(InferError::invalid(format!(
                "write_indices is {facts}, expected an i64 for each batch of the cache {cache:?}"
            )));
        }
    }
    if !same || at == 0 || ctx.dtype(0)? != ctx.dtype(1)? {
        return Err(InferError::invalid(format!(
            "update {}{update:?} does not fit the cache {}{cache:?} along axis {at}, which must not be the first",
            ctx.dtype(1)?,
            ctx.dtype(0)?
        )));
    }
    Ok(vec![Facts { value: None, ..ctx.facts(0)?.clone() }])
}

/// Whether what goes over the end begins anew.
fn circular(attrs: &Attrs) -> Result<bool, OpError> {
    match attrs.str("mode") {
        "linear" => Ok(false),
        "circular" => Ok(true),
        other => Err(OpError::new(format!("mode {other:?}, expected linear or circular"))),
    }
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (cache, update) = (ctx.input(0), ctx.input(1));
    let starts = ctx.opt_input(2).map(|t| t.slice::<i64>());
    let at = axis(ctx.attrs.int("axis"), cache.shape.len())?;
    let circular = circular(ctx.attrs)?;
    let (length, new) = (cache.shape[at], update.shape[at]);
    let row = cache.shape[at + 1..].iter().product::<usize>() * cache.dtype.width();
    let per_batch: usize = cache.shape[1..at].iter().product();
    let y = ctx.output();
    y.bytes.copy_from_slice(cache.bytes);
    for (block, rows) in update.bytes.chunks_exact((new * row).max(1)).enumerate() {
        let start = starts.map_or(0, |starts| starts[block / per_batch.max(1)]);
        for (i, bytes) in rows.chunks_exact(row.max(1)).enumerate() {
            let place = match circular {
                true => (start.rem_euclid(length as i64) + i as i64) % length as i64,
                false => start.saturating_add(i as i64),
            };
            let place =
                usize::try_from(place).ok().filter(|&place| place < length).ok_or_else(|| {
                    OpError::new(format!("row {place} is written into a cache of {length}"))
                })?;
            y.bytes[(block * length + place) * row..][..row].copy_from_slice(bytes);
        }
    }
    Ok(())
}

const FIRST: &str = "fn first(batch: u32) -> i32 { return 0; }";
const GIVEN: &str = "@group(0) @binding(3) var<storage, read> starts: array<vec2<u32>>;
fn first(batch: u32) -> i32 {
    let start = starts[batch];
    if (params.circular == 1u) {
        return bitcast<i32>(mod_i64(start, vec2<u32>(params.length, 0u)).x);
    }
    let room = params.length - params.rows;
    if (start.y != 0u || start.x > room) {
        note_outside(2u, room + 1u, start);
    }
    return bitcast<i32>(start.x);
}";

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (cache, update) = (ctx.input(0), ctx.input(1));
    let at = axis(ctx.attrs.int("axis"), cache.shape.len())?;
    let Some(width) = words(cache.dtype) else { return Ok(None) };
    if cache.is_empty() || update.is_empty() {
        return Ok(super::scatter::copied(ctx, "TensorScatter"));
    }
    let row = cache.shape[at + 1..].iter().product::<usize>() * width;
    let per_batch: usize = cache.shape[1..at].iter().product();
    let n = cache.len() * width;
    if i32::try_from(n).is_err() {
        return Ok(None);
    }
    let numbers = [n, row, cache.shape[at], update.shape[at], per_batch];
    let mut params = numbers.map(|n| n as u32).to_vec();
    params.push(u32::from(circular(ctx.attrs)?));
    let mut binds = vec![Bind::In(0), Bind::In(1), Bind::Out(0)];
    let given = ctx.opt_input(2).is_some();
    if given {
        binds.extend([Bind::In(2), Bind::Outside]);
    }
    let outside = if given { outside_wgsl(4) } else { String::new() };
    let given_first = [INT64, DIVIDE64, GIVEN].concat();
    let (first, uniform) = if given { (given_first.as_str(), "5") } else { (FIRST, "3") };
    let keys = [("first", first), ("uniform", uniform), ("outside", &outside)];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: if given { FEW_ROUNDS } else { 0 },
        label: "TensorScatter".into(),
        wgsl: render(include_str!("tensor_scatter.wgsl"), &keys).into(),
        binds,
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}
