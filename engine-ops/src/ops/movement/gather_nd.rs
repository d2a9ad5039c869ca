//! GatherND and ScatterND: slices picked, or replaced, by tuples of indices.

use super::gather::{check_indices, indices, position};
use super::scatter::{Act, Lines, Places, Reduction, copied, over_data, scatter};
use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx, TensorMeta, TensorRef};
use crate::gpu::{GpuCtx, GpuProgram, position_wgsl, words};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::try_collected;
use crate::strided::strides;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, Text, for_size};
use engine_format::{Attr, Dim, Tensor};

/// GatherND.
pub static GATHER_ND: OpDef = OpDef {
    name: "GatherND",
    doc: "For every tuple in the last axis of `indices` the slice of `data` at that place, after `batch_dims` axes that both \
          have in common. Indices as in Gather.",
    onnx: &[OnnxName::since("GatherND", 11)],
    attrs: &[AttrDef::int("batch_dims", 0)],
    inputs: &[Operand::data("data").learned(), Operand::index("indices")],
    outputs: &["output"],
    kind: Kind::Move,
    infer: gather_infer,
    cpu: Cpu::kernel(gather_cpu),
    gpu: Some(gather_gpu),
    cases: gather_cases,
    ..OpDef::BASE
};

/// ScatterND.
pub static SCATTER_ND: OpDef = OpDef {
    name: "ScatterND",
    doc: "`data`, in which for every tuple in the last axis of `indices` the slice at that place is replaced by the slice of \
          `updates` that belongs to the tuple, or joined with it by `reduction` (add, mul, max, min). Without a reduction, tuples \
          that are named twice give either update.",
    onnx: &[OnnxName::since("ScatterND", 11)],
    attrs: &[AttrDef::str("reduction", "none")],
    inputs: &[Operand::data("data"), Operand::index("indices"), Operand::data("updates").like(0)],
    outputs: &["output"],
    infer: scatter_infer,
    text: Text::Ranks,
    cpu: Cpu::kernel(scatter_cpu),
    gpu: Some(scatter_gpu),
    cases: scatter_cases,
    ..OpDef::BASE
};

/// Indices of a tuple that the shader has room for.
const GPU_TUPLE: usize = 8;

/// Axes in common, and the length of the tuples.
fn split(data: &[Dim], which: &[Dim], batch_dims: i64) -> Result<(usize, usize), InferError> {
    let common = usize::try_from(batch_dims).ok();
    let tuple = which.last().and_then(Dim::known).and_then(|n| usize::try_from(n).ok());
    match (common, tuple) {
        (Some(common), Some(tuple))
            if common < which.len()
                && common.checked_add(tuple).is_some_and(|both| both <= data.len())
                && alike(&data[..common], &which[..common]) =>
        {
            Ok((common, tuple))
        }
        (Some(_), None) if !which.is_empty() => Err(InferError::NeedsValue(1)),
        _ => Err(InferError::invalid(format!(
            "indices of shape {which:?} into data of shape {data:?} with {batch_dims} axes in common"
        ))),
    }
}

/// Whether no size known so far tells the shapes apart.
fn alike(a: &[Dim], b: &[Dim]) -> bool {
    let same = |(a, b): (&Dim, &Dim)| a.known().zip(b.known()).is_none_or(|(a, b)| a == b);
    a.iter().zip(b).all(same)
}

fn gather_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_indices(ctx, 1)?;
    let (data, which) = (ctx.shape(0)?, ctx.shape(1)?);
    let (common, tuple) = split(data, which, ctx.attrs.int("batch_dims"))?;
    let out = [&which[..which.len() - 1], &data[common + tuple..]].concat();
    Ok(vec![Facts::new(ctx.dtype(0)?, out)])
}

fn scatter_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_indices(ctx, 1)?;
    Reduction::of_elements(ctx.attrs, ctx.dtype(0)?)?;
    let (data, which) = (ctx.shape(0)?, ctx.shape(1)?);
    let (_, tuple) = split(data, which, 0)?;
    let expected = Facts::new(ctx.dtype(0)?, [&which[..which.len() - 1], &data[tuple..]].concat());
    let updates = ctx.facts(2)?;
    let sizes = (expected.concrete(), updates.concrete());
    if updates.dtype != expected.dtype || matches!(sizes, (Some(a), Some(b)) if a != b) {
        return Err(InferError::invalid(format!("updates are {updates}, expected {expected}")));
    }
    Ok(vec![Facts { value: None, ..ctx.facts(0)?.clone() }])
}

/// The first element of the slice that every tuple means, and how long slices are.
fn slices(
    data: TensorRef<'_>,
    which: TensorRef<'_>,
    common: usize,
) -> Result<(Vec<usize>, usize), OpError> {
    let tuple = which.shape[which.shape.len() - 1];
    let distances = strides(data.shape);
    let slice: usize = data.shape[common + tuple..].iter().product();
    let batch: usize = data.shape[..common].iter().product();
    let tuples: usize = which.shape[..which.shape.len() - 1].iter().product();
    let each: usize = data.shape[common..].iter().product();
    let all = indices(which)?;
    let start = |n: usize| {
        let own = &all[n * tuple..][..tuple];
        let mut at = n / (tuples / batch.max(1)).max(1) * each;
        for (i, &index) in own.iter().enumerate() {
            at += position(index, data.shape[common + i])? * distances[common + i];
        }
        Ok(at)
    };
    Ok((try_collected((0..tuples).map(start))?, slice))
}

fn gather_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let (starts, len) = slices(x, ctx.input(1), ctx.attrs.int("batch_dims") as usize)?;
    for_size!(x.dtype, T => {
        let from = x.raw::<T>();
        let to = ctx.output().raw::<T>();
        for (to, start) in to.chunks_mut(len.max(1)).zip(starts) {
            to.copy_from_slice(&from[start..start + len]);
        }
    });
    Ok(())
}

fn scatter_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (data, updates) = (ctx.input(0), ctx.input(2));
    let (starts, len) = slices(data, ctx.input(1), 0)?;
    let reduction = Reduction::of(ctx.attrs)?;
    let out = ctx.output();
    out.bytes.copy_from_slice(data.bytes);
    scatter(reduction, starts.into_iter().flat_map(|start| start..start + len), updates, out)
}

/// All words of all slices; `of` says which operand is taken or put there.
fn each_slice(ctx: &GpuCtx<'_>, common: usize, of: usize) -> Option<Places> {
    let (data, which): (&TensorMeta, &TensorMeta) = (ctx.input(0), ctx.input(1));
    let (width, index_width) = (words(data.dtype)?, words(which.dtype)?);
    let (&tuple, outer) = which.shape.split_last()?;
    let distances = strides(&data.shape);
    let len = data.shape[common + tuple..].iter().product::<usize>() * width;
    let each = data.shape[common..].iter().product::<usize>() * width;
    let per_batch: usize = outer[common..].iter().product();
    let n = outer.iter().product::<usize>() * len;
    if tuple > GPU_TUPLE || i32::try_from(n.max(data.len() * width)).is_err() {
        return None;
    }
    let mut params = [n, len, tuple, index_width, each, per_batch, 0, 0].map(|n| n as u32).to_vec();
    for (&size, &distance) in data.shape.iter().zip(&distances).skip(common).take(tuple) {
        params.extend([size, distance * width, 0, 0].map(|n| n as u32));
    }
    params.resize(8 + 4 * GPU_TUPLE, 0);
    Some(Places {
        text: include_str!("gather_nd.wgsl"),
        of,
        indices: "var<storage, read> indices: array<u32>",
        notes: position_wgsl,
        params,
        rounds: GPU_TUPLE,
        n,
    })
}

fn gather_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    if ctx.output().is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    // No index at all copies the data; the buffer of indices is then empty and must not be bound.
    if ctx.input(0).is_empty() || ctx.input(1).is_empty() {
        return Ok(None);
    }
    let common = ctx.attrs.int("batch_dims") as usize;
    let read = |places: Places| places.dispatch(ctx, "GatherND", Act::Read);
    Ok(each_slice(ctx, common, 0).map(|places| GpuProgram::one(read(places))))
}

fn scatter_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let label = "ScatterND";
    let (which, updates) = (ctx.input(1), ctx.input(2));
    if updates.is_empty() {
        return Ok(copied(ctx, label));
    }
    // No index at all replaces the data; the buffer of indices is then empty and must not be bound.
    if which.is_empty() {
        return Ok(None);
    }
    match Reduction::of(ctx.attrs)? {
        Reduction::None => {
            let slices: usize = which.shape.iter().rev().skip(1).product();
            let (program, places) = (copied(ctx, label), each_slice(ctx, 0, 2));
            let apart = slices == 1;
            Ok(places.zip(program).and_then(|(p, program)| p.replace(program, ctx, label, apart)))
        }
        reduction => Ok(over_data(ctx, label, lines(ctx).dispatch(ctx, label, reduction))),
    }
}

/// The elements of slices: those at one position of all slices are a line.
fn lines(ctx: &GpuCtx<'_>) -> Lines {
    let (data, which) = (ctx.input(0), ctx.input(1));
    let tuple = which.shape[which.shape.len() - 1];
    let len: usize = data.shape[tuple..].iter().product();
    let distances = strides(&data.shape);
    Lines {
        axes: vec![[len, 1, 0, 1]],
        count: which.len() / tuple,
        update_step: len,
        index_step: tuple,
        tuple: (0..tuple).map(|i| [data.shape[i], distances[i]]).collect(),
    }
}

fn gather_cases() -> Vec<Case> {
    let square = || Tensor::from_slice(&[2, 2], &[0i32, 1, 2, 3]);
    let cube = || Tensor::from_slice(&[2, 2, 2], &[0i64, 1, 2, 3, 4, 5, 6, 7]);
    let pairs = |values: &[i64]| Tensor::from_slice(&[values.len() / 2, 2], values);
    vec![
        Case::new("elements", vec![square(), pairs(&[0, 0, -1, 1])])
            .expect(vec![Tensor::from_slice(&[2], &[0i32, 3])]),
        Case::new("rows", vec![square(), Tensor::from_slice(&[2, 1], &[1i64, 0])])
            .expect(vec![Tensor::from_slice(&[2, 2], &[2i32, 3, 0, 1])]),
        Case::new("an axis in common", vec![cube(), Tensor::from_slice(&[2, 1], &[1i64, 0])])
            .attr("batch_dims", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[2, 2], &[2i64, 3, 4, 5])]),
        Case::new(
            "many",
            vec![ramp(&[3, 4, 50]), Tensor::from_slice(&[2, 2, 2], &[0i32, 1, 2, 3, 1, -1, 0, 0])],
        ),
        Case::new("none", vec![ramp(&[3]), Tensor::from_slice::<i64>(&[0, 1], &[])])
            .expect(vec![ramp(&[0])]),
    ]
}

fn scatter_cases() -> Vec<Case> {
    let line = |values: &[f32]| Tensor::from_slice(&[values.len()], values);
    let column = |values: &[i64]| Tensor::from_slice(&[values.len(), 1], values);
    let joined = |name, reduction: &str, expected: &[f32]| {
        let inputs = vec![line(&[1.0, 2.0, 3.0]), column(&[1, 1]), line(&[10.0, 0.5])];
        Case::new(name, inputs)
            .attr("reduction", Attr::Str(reduction.to_owned()))
            .expect(vec![line(expected)])
    };
    // Floats that meet the same elements again and again, so that the order of additions shows in their bits.
    let added = |name, data: &[usize], which: &[usize; 2]| {
        let [tuples, tuple] = *which;
        let index = |i: usize| (i / tuple * 5 % data[i % tuple]) as i64;
        let indices: Vec<i64> = (0..tuples * tuple).map(index).collect();
        let updates = [&[tuples], &data[tuple..]].concat();
        Case::new(name, vec![ramp(data), Tensor::from_slice(which, &indices), ramp(&updates)])
            .attr("reduction", Attr::Str("add".to_owned()))
    };
    vec![
        Case::new(
            "elements",
            vec![line(&[1.0, 2.0, 3.0, 4.0]), column(&[3, -3]), line(&[9.0, 8.0])],
        )
        .expect(vec![line(&[1.0, 8.0, 3.0, 9.0])]),
        Case::new(
            "rows",
            vec![
                Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]),
                column(&[1]),
                Tensor::from_slice(&[1, 2], &[-5i64, 6]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2, 2], &[1i64, 2, -5, 6])]),
        joined("added", "add", &[1.0, 12.5, 3.0]),
        joined("multiplied", "mul", &[1.0, 10.0, 3.0]),
        joined("the larger", "max", &[1.0, 10.0, 3.0]),
        joined("the smaller", "min", &[1.0, 0.5, 3.0]),
        Case::new(
            "long slices",
            vec![ramp(&[4, 3, 70]), Tensor::from_slice(&[2, 2], &[0i64, 2, 3, 0]), ramp(&[2, 70])],
        ),
        added("slices added", &[4, 3, 70], &[30, 2]),
        added("many elements added", &[5, 7], &[200, 2]),
        // Whichever invocation comes first, the last update of a place stays.
        Case::new(
            "the last one stays",
            vec![
                ints(&[1, 2, 3]),
                Tensor::from_slice(&[2000, 1], &[-2i64; 2000]),
                ints(&(0..2000).collect::<Vec<_>>()),
            ],
        )
        .expect(vec![ints(&[1, 1999, 3])]),
        Case::new("nothing", vec![ints(&[4]), Tensor::from_slice::<i64>(&[0, 1], &[]), ints(&[])])
            .expect(vec![ints(&[4])]),
    ]
}
