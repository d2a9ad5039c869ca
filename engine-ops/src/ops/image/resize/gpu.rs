//! The dispatches of a resize. Tables come from the host, in the uniform buffer.

use super::sampling::{Asked, Stretch, Table, around, given, stretches};
use crate::AttrsExt;
use crate::OpError;
use crate::cpu::TensorRef;
use crate::gpu::elementwise::PRELUDE;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render, words};
use engine_format::DType;

/// Axes that the shader has room for.
const AXES: usize = 8;
/// Stands for the extrapolation value in a table, and for an axis without one.
const NONE: u32 = u32::MAX;

pub(super) fn program(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    if y.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    let value = |i: usize| given(ctx.value(i).map(TensorRef::from));
    let asked = Asked { roi: value(1), scales: value(2), sizes: value(3) };
    let stretches = stretches(ctx.attrs, &x.shape, &asked)?;
    match (ctx.attrs.str("mode"), x.dtype) {
        ("nearest", _) => nearest(ctx, &stretches),
        (_, DType::F32 | DType::F16 | DType::BF16) => mix(ctx, &stretches),
        _ => Ok(None),
    }
}

/// Entries of a table, rounded up to one of few lengths, so that most resizes share a pipeline; `None` if they are more than a
/// uniform buffer of the WebGPU baseline takes.
fn padded(mut table: Vec<u32>) -> Option<Vec<u32>> {
    let length = [256, 2048, 16_000].into_iter().find(|&length| table.len() <= length)?;
    table.resize(length, 0);
    Some(table)
}

/// The length of a table in the shader's units of 16 bytes.
fn units(table: &[u32]) -> String {
    (table.len() / 4).to_string()
}

fn number(n: usize) -> Option<u32> {
    i32::try_from(n).ok().map(|n| n as u32)
}

/// All axes in one dispatch.
fn nearest(ctx: &GpuCtx<'_>, stretches: &[Stretch]) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let Some(width) = words(x.dtype) else { return Ok(None) };
    // The words of an element are the innermost axis.
    let mut axes = vec![[width, 1, NONE as usize]];
    let mut table: Vec<u32> = Vec::new();
    let mut stride = width;
    for stretch in stretches.iter().rev() {
        let mut at = NONE as usize;
        if !stretch.is_identity(ctx.attrs) {
            at = table.len();
            let starts = stretch.table(ctx.attrs)?.start;
            table.extend(starts.into_iter().map(|s| s.and_then(number).unwrap_or(NONE)));
        }
        axes.push([stretch.to, stride, at]);
        stride *= stretch.from;
    }
    let fill = match x.dtype {
        DType::F32 | DType::F16 | DType::BF16 => ctx.attrs.float("extrapolation_value").to_bits(),
        _ if table.contains(&NONE) => return Ok(None),
        _ => 0,
    };
    let n = y.len() * width;
    let fits = number(n).is_some() && number(stride).is_some() && axes.len() <= AXES;
    let Some(table) = padded(table).filter(|_| fits) else { return Ok(None) };
    let mut params = vec![n as u32, axes.len() as u32, fill, 0];
    params.extend(axes.iter().flat_map(|axis| [axis[0] as u32, axis[1] as u32, axis[2] as u32, 0]));
    params.resize(4 + 4 * AXES, 0);
    params.extend(&table);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: AXES,
        label: "Resize nearest".into(),
        wgsl: render(include_str!("nearest.wgsl"), &[("table", &units(&table))]).into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}

/// One dispatch for every axis, through scratch buffers.
fn mix(ctx: &GpuCtx<'_>, stretches: &[Stretch]) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let mut passes: Vec<usize> =
        (0..stretches.len()).rev().filter(|&i| !stretches[i].is_identity(ctx.attrs)).collect();
    if passes.is_empty() {
        if stretches.is_empty() {
            return Ok(None);
        }
        // A copy is a pass in which every neighbour but one has the weight 0.
        passes.push(0);
    }
    let mut shape = x.shape.clone();
    let mut program = GpuProgram { dispatches: Vec::new(), scratch: Vec::new() };
    let mut from = Bind::In(0);
    for (turn, &at) in passes.iter().enumerate() {
        let stretch = &stretches[at];
        let (outer, inner) = around(&shape, at);
        shape[at] = stretch.to;
        let n = outer * stretch.to * inner;
        let last = turn + 1 == passes.len();
        let to = if last { Bind::Out(0) } else { Bind::Scratch(turn) };
        let round = match x.dtype {
            DType::F16 if last => "to_f16(sum)",
            DType::BF16 if last => "to_bf16(sum)",
            _ => "sum",
        };
        let table = stretch.table(ctx.attrs)?;
        let sizes = [n, inner, stretch.from, stretch.to, table.taps];
        let (Some(entries), Some(mut params)) =
            (entries(&table), sizes.into_iter().map(number).collect::<Option<Vec<_>>>())
        else {
            return Ok(None);
        };
        params.extend([ctx.attrs.float("extrapolation_value").to_bits(), 0, 0]);
        params.extend(&entries);
        let access = if turn == 0 { "read" } else { "read_write" };
        let table = units(&entries);
        let parts = [("prelude", PRELUDE), ("table", &table), ("round", round), ("access", access)];
        program.dispatches.push(Dispatch {
            rounds: sizes[4],
            label: "Resize".into(),
            wgsl: render(include_str!("mix.wgsl"), &parts).into(),
            binds: vec![from, to],
            params,
            groups: ctx.limits.linear(n, 256),
        });
        if !last {
            program.scratch.push(n);
        }
        from = to;
    }
    Ok(Some(program))
}

/// A table as the shader reads it: for every position the first neighbour and the weights.
fn entries(table: &Table) -> Option<Vec<u32>> {
    let mut out = Vec::with_capacity(table.start.len() * (table.taps + 1));
    for (start, weights) in table.start.iter().zip(table.weights.chunks(table.taps)) {
        out.push(start.and_then(number).unwrap_or(NONE));
        out.extend(weights.iter().map(|w| w.to_bits()));
    }
    padded(out)
}
