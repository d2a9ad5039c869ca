//! GatherElements and ScatterElements: single elements picked, or replaced, along an axis.

use super::gather::{check_indices, check_range, indices, position};
use super::scatter::{Act, Lines, Places, Reduction, copied, over_data, scatter};
use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{GpuCtx, GpuProgram, position_wgsl, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::strided::{offsets, strides};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, Text, for_size};
use engine_format::{Attr, Dim, Tensor};
use half::f16;

/// GatherElements.
pub static GATHER_ELEMENTS: OpDef = OpDef {
    name: "GatherElements",
    doc: "For every position of `indices` the element of `data` at that position but for `axis`, where the index stands. \
          Indices as in Gather.",
    onnx: &[OnnxName::since("GatherElements", 11)],
    attrs: &[AttrDef::int("axis", 0)],
    inputs: &[Operand::data("data").learned(), Operand::index("indices")],
    outputs: &["output"],
    kind: Kind::Move,
    infer: gather_infer,
    cpu: Cpu::kernel(gather_cpu),
    gpu: Some(gather_gpu),
    cases: gather_cases,
    ..OpDef::BASE
};

/// ScatterElements.
pub static SCATTER_ELEMENTS: OpDef = OpDef {
    name: "ScatterElements",
    doc: "`data`, in which for every position of `indices` the element at that position but for `axis`, where the index stands, is \
          replaced by that of `updates` or joined with it by `reduction` (add, mul, max, min). Without a reduction, indices \
          that name an element twice give either update.",
    onnx: &[OnnxName::since("ScatterElements", 11)],
    attrs: &[AttrDef::int("axis", 0), AttrDef::str("reduction", "none")],
    inputs: &[Operand::data("data"), Operand::index("indices"), Operand::data("updates").like(0)],
    outputs: &["output"],
    infer: scatter_infer,
    text: Text::Ranks,
    cpu: Cpu::kernel(scatter_cpu),
    gpu: Some(scatter_gpu),
    cases: scatter_cases,
    ..OpDef::BASE
};

/// Axes that the shader has room for.
const GPU_AXES: usize = 8;

fn gather_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_indices(ctx, 1)?;
    check(ctx)?;
    Ok(vec![Facts::new(ctx.dtype(0)?, ctx.shape(1)?.to_vec())])
}

/// Indices lie inside the data on every other axis.
fn check(ctx: &InferCtx<'_>) -> Result<(), InferError> {
    let (data, picked) = (ctx.shape(0)?, ctx.shape(1)?);
    let at = axis(ctx.attrs.int("axis"), data.len())?;
    check_range(ctx, 1, &data[at])?;
    let outside = |(i, (p, d)): (usize, (&Dim, &Dim))| match (p.known(), d.known()) {
        (Some(p), Some(d)) => i != at && p > d,
        _ => false,
    };
    if picked.len() != data.len() || picked.iter().zip(data).enumerate().any(outside) {
        return Err(InferError::invalid(format!(
            "indices of shape {picked:?} into data of shape {data:?} along axis {at}"
        )));
    }
    Ok(())
}

fn scatter_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    check_indices(ctx, 1)?;
    check(ctx)?;
    Reduction::of_elements(ctx.attrs, ctx.dtype(0)?)?;
    let (data, updates) = (ctx.facts(0)?, ctx.facts(2)?);
    let sizes = (ctx.opt(1).and_then(Facts::concrete), updates.concrete());
    if data.dtype != updates.dtype || matches!(sizes, (Some(a), Some(b)) if a != b) {
        return Err(InferError::invalid(format!(
            "updates are {} {:?}, expected {} in the shape of the indices",
            updates.dtype, updates.shape, data.dtype
        )));
    }
    Ok(vec![Facts { value: None, ..data.clone() }])
}

/// For every position of the indices, the element of the data that is meant.
fn targets(ctx: &CpuCtx<'_>) -> Result<Vec<usize>, OpError> {
    let (data, which) = (ctx.input(0), ctx.input(1));
    let at = axis(ctx.attrs.int("axis"), data.shape.len())?;
    let mut distances = strides(data.shape);
    let along = std::mem::replace(&mut distances[at], 0);
    let places = offsets(which.shape, &distances);
    indices(which)?
        .iter()
        .zip(places)
        .map(|(&index, place)| Ok(place + position(index, data.shape[at])? * along))
        .collect()
}

fn gather_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let targets = targets(ctx)?;
    for_size!(x.dtype, T => {
        let from = x.raw::<T>();
        for (to, at) in ctx.output().raw::<T>().iter_mut().zip(targets) {
            *to = from[at];
        }
    });
    Ok(())
}

fn scatter_cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (data, updates) = (ctx.input(0), ctx.input(2));
    let targets = targets(ctx)?;
    let reduction = Reduction::of(ctx.attrs)?;
    let out = ctx.output();
    out.bytes.copy_from_slice(data.bytes);
    scatter(reduction, targets.into_iter(), updates, out)
}

/// The positions of the indices; `of` says which operand is taken or put there.
fn each_index(ctx: &GpuCtx<'_>, of: usize) -> Result<Option<Places>, OpError> {
    let (x, which) = (ctx.input(0), ctx.input(1));
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    let (Some(width), Some(index_width)) = (words(x.dtype), words(which.dtype)) else {
        return Ok(None);
    };
    let n = which.len() * width;
    if which.shape.len() > GPU_AXES || i32::try_from(n.max(x.len() * width)).is_err() {
        return Ok(None);
    }
    let mut params = [n, which.shape.len(), width, index_width].map(|n| n as u32).to_vec();
    let distances = strides(&x.shape);
    for i in (0..which.shape.len()).rev() {
        let size = if i == at { x.shape[i] } else { 0 };
        params.extend([which.shape[i], distances[i], size, 0].map(|n| n as u32));
    }
    params.resize(4 + 4 * GPU_AXES, 0);
    Ok(Some(Places {
        text: include_str!("gather_elements.wgsl"),
        of,
        indices: "var<storage, read> indices: array<u32>",
        notes: position_wgsl,
        params,
        rounds: GPU_AXES,
        n,
    }))
}

fn gather_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    if ctx.output().is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    if ctx.input(0).is_empty() {
        return Err(OpError::new("indices into nothing"));
    }
    let read = |places: Places| places.dispatch(ctx, "GatherElements", Act::Read);
    Ok(each_index(ctx, 0)?.map(|places| GpuProgram::one(read(places))))
}

fn scatter_gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let label = "ScatterElements";
    let (data, which) = (ctx.input(0), ctx.input(1));
    if which.is_empty() || data.is_empty() {
        return Ok(copied(ctx, label));
    }
    match Reduction::of(ctx.attrs)? {
        Reduction::None => {
            let at = axis(ctx.attrs.int("axis"), data.shape.len())?;
            let (program, places) = (copied(ctx, label), each_index(ctx, 2)?);
            let apart = which.shape[at] == 1;
            Ok(places.zip(program).and_then(|(p, program)| p.replace(program, ctx, label, apart)))
        }
        reduction => Ok(over_data(ctx, label, lines(ctx)?.dispatch(ctx, label, reduction))),
    }
}

/// The updates along `axis`: each meets elements of its own line of the data alone.
fn lines(ctx: &GpuCtx<'_>) -> Result<Lines, OpError> {
    let (data, which) = (ctx.input(0), ctx.input(1));
    let at = axis(ctx.attrs.int("axis"), data.shape.len())?;
    let (own, there) = (strides(&which.shape), strides(&data.shape));
    let others = (0..which.shape.len()).rev().filter(|&i| i != at);
    Ok(Lines {
        axes: others.map(|i| [which.shape[i], own[i], own[i], there[i]]).collect(),
        count: which.shape[at],
        update_step: own[at],
        index_step: own[at],
        tuple: vec![[data.shape[at], there[at]]],
    })
}

fn gather_cases() -> Vec<Case> {
    let square = Tensor::from_slice(&[2, 2], &[1i64 << 40, 2, 3, 4]);
    vec![
        Case::new("columns", vec![square, Tensor::from_slice(&[2, 2], &[0i64, 0, 1, -2])])
            .attr("axis", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[2, 2], &[1i64 << 40, 1 << 40, 4, 3])]),
        Case::new(
            "fewer rows",
            vec![ramp(&[3, 3]), Tensor::from_slice(&[2, 3], &[1i32, 2, 0, 2, 0, -1])],
        ),
        Case::new("none", vec![ramp(&[3]), ints(&[])]).expect(vec![ramp(&[0])]),
    ]
}

fn scatter_cases() -> Vec<Case> {
    let line = || Tensor::from_slice(&[1, 5], &[1f32, 2.0, 3.0, 4.0, 5.0]);
    let at = |values: &[i64]| Tensor::from_slice(&[1, values.len()], values);
    let by = |values: &[f32]| Tensor::from_slice(&[1, values.len()], values);
    let joined = |name, reduction: &str, expected: &[f32]| {
        Case::new(name, vec![line(), at(&[1, 1, -1]), by(&[1.5, 2.0, 7.0])])
            .attr("axis", Attr::Int(1))
            .attr("reduction", Attr::Str(reduction.to_owned()))
            .expect(vec![by(expected)])
    };
    // Floats that meet the same elements again and again, so that the order of additions shows in their bits.
    let added = |name, data: &[usize], which: &[usize], axis: usize| {
        let count: usize = which.iter().product();
        let indices: Vec<i64> = (0..count).map(|i| (i * 7 % data[axis]) as i64).collect();
        Case::new(name, vec![ramp(data), Tensor::from_slice(which, &indices), ramp(which)])
            .attr("axis", Attr::Int(axis as i64))
            .attr("reduction", Attr::Str("add".to_owned()))
    };
    vec![
        Case::new("replaced", vec![line(), at(&[1, 3]), by(&[1.1, 2.1])])
            .attr("axis", Attr::Int(1))
            .expect(vec![by(&[1.0, 1.1, 3.0, 2.1, 5.0])]),
        joined("added", "add", &[1.0, 5.5, 3.0, 4.0, 12.0]),
        joined("multiplied", "mul", &[1.0, 6.0, 3.0, 4.0, 35.0]),
        joined("the larger", "max", &[1.0, 2.0, 3.0, 4.0, 7.0]),
        joined("the smaller", "min", &[1.0, 1.5, 3.0, 4.0, 5.0]),
        Case::new(
            "rows",
            vec![ramp(&[4, 3]), Tensor::from_slice(&[2, 2], &[3i64, 0, 0, 2]), ramp(&[2, 2])],
        ),
        added("long rows", &[3, 70], &[2, 300], 1),
        added("many columns", &[9, 200], &[30, 200], 0),
        added("around an axis", &[4, 5, 6], &[4, 11, 5], 1),
        Case::new("i64", vec![ints(&[5 << 33, 2]), ints(&[0, 1, 0]), ints(&[3, 4, -1])])
            .attr("reduction", Attr::Str("mul".to_owned()))
            .expect(vec![ints(&[-15 << 33, 8])]),
        // Whichever invocation comes first, the last update of a place stays.
        Case::new(
            "the last one stays",
            vec![
                ints(&[7, 8, 9]),
                { Tensor::from_slice(&[3000], &[1i64; 3000]) },
                ints(&(0..3000).map(|i| i << 33).collect::<Vec<_>>()),
            ],
        )
        .expect(vec![ints(&[7, 2999 << 33, 9])]),
        // Beyond 2048 an f16 has no odd numbers, so that ones would no longer count.
        Case::new(
            "small floats add in f32",
            vec![
                Tensor::from_slice(&[2], &[f16::ZERO, f16::NEG_ONE]),
                Tensor::from_slice(&[3000], &[0i64; 3000]),
                Tensor::from_slice(&[3000], &[f16::ONE; 3000]),
            ],
        )
        .attr("reduction", Attr::Str("add".to_owned()))
        .expect(vec![Tensor::from_slice(&[2], &[f16::from_f32(3000.0), f16::NEG_ONE])]),
        Case::new(
            "bytes wrap",
            vec![
                Tensor::from_slice(&[2], &[100i8, -3]),
                ints(&[0, 0, 1]),
                Tensor::from_slice(&[3], &[100i8, 1, 2]),
            ],
        )
        .attr("reduction", Attr::Str("add".to_owned()))
        .expect(vec![Tensor::from_slice(&[2], &[-55i8, -1])]),
        Case::new(
            "the larger, and not a number",
            vec![
                Tensor::from_slice(&[3], &[1.0f32, f32::NAN, 0.0]),
                ints(&[0, 1, 2]),
                Tensor::from_slice(&[3], &[f32::NAN, 2.0, f32::INFINITY]),
            ],
        )
        .attr("reduction", Attr::Str("max".to_owned()))
        .expect(vec![Tensor::from_slice(&[3], &[f32::NAN, f32::NAN, f32::INFINITY])]),
        Case::new("nothing", vec![ramp(&[3]), ints(&[]), ramp(&[0])]).expect(vec![ramp(&[3])]),
    ]
}
