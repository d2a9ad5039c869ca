//! Resize: another sampling of the same picture.

mod cases;
mod gpu;
mod sampling;

use crate::AttrsExt;
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep, TensorRef, planned};
use crate::dtypes::FLOATS;
use crate::infer::{Facts, InferCtx, InferError, Known};
use crate::operand::INTEGERS;
use crate::parallel;
use crate::{
    AttrDef, Blocked, Kind, OnnxName, OpDef, OpError, Operand, Takes, Tolerance, for_size, mapped,
};
use engine_format::{Attr, Attrs, DType, Dim, Element};
use half::{bf16, f16};
use sampling::{Asked, Stretch, Table, around, given, named_axes, stretches};
use std::sync::Arc;

/// Resize.
pub static RESIZE: OpDef = OpDef {
    name: "Resize",
    doc: "The operand sampled anew along `axes` (all, if omitted), to `sizes` or by `scales`: each position of the result is \
          carried back by `coordinate_transformation_mode` and takes the nearest element or a `linear` or `cubic` mixture \
          of its neighbours, axis by axis. The `nearest_mode` \"simple\" of opsets before 11 is \"ceil\" along an axis that \
          shrinks, else \"floor\".",
    onnx: &[OnnxName::since("Resize", 11)],
    attrs: &[
        AttrDef::int("antialias", 0),
        AttrDef::opt_ints("axes"),
        AttrDef::str("coordinate_transformation_mode", "half_pixel"),
        AttrDef::float("cubic_coeff_a", -0.75),
        AttrDef::int("exclude_outside", 0),
        AttrDef::float("extrapolation_value", 0.0),
        AttrDef::str("keep_aspect_ratio_policy", "stretch"),
        AttrDef::str("mode", "nearest"),
        AttrDef::str("nearest_mode", "round_prefer_floor"),
    ],
    inputs: &[
        Operand::data("X"),
        Operand::opt_shape("roi").of(FLOATS),
        Operand::opt_shape("scales").of(&[DType::F32, DType::F16, DType::F64]),
        Operand::opt_shape("sizes").of(INTEGERS),
    ],
    kind: Kind::Compute,
    infer,
    cpu: Cpu::Planned(step),
    blocked: Some(blocked),
    gpu: Some(gpu::program),
    tolerance: Tolerance::ELEMENTWISE,
    cases: cases::cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    let mode = ctx.attrs.str("mode");
    if !matches!(mode, "nearest" | "linear" | "cubic") {
        return Err(InferError::invalid(format!(
            "mode {mode:?}, expected \"nearest\", \"linear\" or \"cubic\""
        )));
    }
    let nearest = mode == "nearest";
    if !nearest && !matches!(x.dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(InferError::invalid(format!(
            "operand X is {}, expected f32, f16 or bf16 in mode {mode:?}",
            x.dtype
        )));
    }
    let asked = |i: usize| match ctx.opt(i) {
        Some(facts) => Ok(Some(facts).filter(|f| f.concrete().is_none_or(|s| s != [0]))),
        None => Ok::<_, InferError>(None),
    };
    let contents = |i: usize| match asked(i)?.map(|f| &f.value) {
        Some(Some(Known::Tensor(t))) => Ok(Some(TensorRef::from(t))),
        Some(_) => Err(InferError::NeedsValue(i)),
        None => Ok(None),
    };
    if let Some(own) = x.concrete()
        && let (Ok(roi), Ok(scales), Ok(sizes)) = (contents(1), contents(2), contents(3))
    {
        let all = stretches(ctx.attrs, &own, &Asked { roi, scales, sizes })?;
        let out = all.iter().map(|s| Dim::from(s.to)).collect();
        return Ok(vec![Facts::new(x.dtype, out)]);
    }
    let axes = named_axes(ctx.attrs, shape.len())?;
    let mut out = shape.to_vec();
    if asked(3)?.is_some() && ctx.attrs.str("keep_aspect_ratio_policy") == "stretch" {
        for (at, size) in axes.into_iter().zip(ctx.dims(3)?) {
            out[at] = size;
        }
    } else if let Some(scales) = contents(2)?.filter(|t| t.dtype == DType::F32)
        && asked(1)?.is_none()
    {
        for (at, &scale) in axes.into_iter().zip(scales.slice::<f32>()) {
            out[at] = scaled(&shape[at], scale);
        }
    } else {
        return Err(InferError::NeedsValue(0));
    }
    Ok(vec![Facts::new(x.dtype, out)])
}

/// A symbolic size times a number, rounded down.
fn scaled(dim: &Dim, scale: f32) -> Dim {
    if let Some(n) = dim.known() {
        return Dim::from((n as f32 * scale).floor() as i64);
    }
    let inverse = 1.0 / scale;
    if scale.fract() == 0.0 {
        dim * &Dim::from(scale as i64)
    } else if inverse.fract() == 0.0 {
        dim.floor_div(&Dim::from(inverse as i64))
    } else {
        Dim::symbol(&format!("floor({scale} * ({dim}))"))
    }
}

/// The row itself where scales leave images and channels as they are: they are those of the first four axes of an image in blocks.
fn blocked(attrs: &Arc<Attrs>, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let whole = attrs.ints("axes").is_none_or(|axes| *axes == [0, 1, 2, 3]);
    let region = attrs.str("coordinate_transformation_mode") == "tf_crop_and_resize";
    let scales = shapes.values.get(2)?.as_ref()?;
    let [1.0, 1.0, _, _] = *scales.as_slice::<f32>().ok()? else { return None };
    if !whole || region {
        return None;
    }
    let mut attrs = Attrs::clone(attrs);
    attrs.insert("axes".to_owned(), Attr::Ints(vec![0, 1, 2, 3]));
    let takes = vec![Takes::Blocks, Takes::Rows, Takes::Rows, Takes::Rows];
    Some(Blocked { def: &RESIZE, attrs: Arc::new(attrs), takes, leads: false })
}

/// The largest number of elements before, between and after the passes, which go from the innermost axis outwards.
fn largest(from: &[usize], to: &[usize]) -> usize {
    (0..=from.len())
        .map(|at| from[..at].iter().chain(&to[at..]).product())
        .max()
        .expect("the range holds at least 0")
}

/// Two buffers of `f32` that passes read and write in turn; two more where operand and result are of other floats.
/// How the CPU samples.
enum Plan {
    /// By axis of the result, the nearest elements; and what stands where there is none.
    Nearest(Vec<Vec<Option<usize>>>, [u8; 8]),
    /// Axis by axis, the last first; and what stands outside.
    Mix(Vec<Along>, f32),
}

/// A mixture along one axis.
struct Along {
    stretch: Stretch,
    table: Table,
    /// Elements in front of the axis and behind it, the axes mixed before having their new sizes.
    outer: usize,
    inner: usize,
}

fn step(shapes: &CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError> {
    let (attrs, x, y) = (shapes.attrs, shapes.input(0), shapes.output());
    let value = |i: usize| given(shapes.values.get(i)?.as_ref().map(TensorRef::from));
    let asked = Asked { roi: value(1), scales: value(2), sizes: value(3) };
    let stretches = stretches(attrs, &x.shape, &asked)?;
    if attrs.str("mode") == "nearest" {
        let maps = stretches.iter().map(|s| s.table(attrs).map(|t| t.start));
        let plan = Plan::Nearest(maps.collect::<Result<_, _>>()?, extrapolation(attrs, x.dtype)?);
        return planned(plan, 0, run);
    }
    let mut shape = x.shape.clone();
    let mut axes = Vec::new();
    for (at, stretch) in stretches.into_iter().enumerate().rev() {
        if !stretch.is_identity(attrs) {
            let (outer, inner) = around(&shape, at);
            shape[at] = stretch.to;
            axes.push(Along { table: stretch.table(attrs)?, stretch, outer, inner });
        }
    }
    let buffers = if x.dtype == DType::F32 { 2 } else { 4 };
    let buffer = (largest(&x.shape, &y.shape) * size_of::<f32>()).next_multiple_of(8);
    planned(Plan::Mix(axes, attrs.float("extrapolation_value")), buffers * buffer, run)
}

fn run(plan: &Plan, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let (axes, outside) = match plan {
        Plan::Nearest(maps, fill) => {
            for_size!(x.dtype, T => {
                let fill = bytemuck::pod_read_unaligned::<T>(&fill[..size_of::<T>()]);
                mapped::copy(x.raw::<T>(), x.shape, y.raw::<T>(), maps, fill);
            });
            return Ok(());
        }
        Plan::Mix(axes, outside) => (axes.as_slice(), *outside),
    };
    let scratch: &mut [f32] = bytemuck::cast_slice_mut(ctx.scratch);
    let mix = |x: &[f32], y: &mut [f32], scratch: &mut [f32]| mix(axes, outside, x, y, scratch);
    match x.dtype {
        DType::F32 => mix(x.slice::<f32>(), y.slice(), scratch),
        DType::F16 => converted(mix, (x.slice(), y.slice()), scratch, f16::to_f32, f16::from_f32),
        DType::BF16 => {
            converted(mix, (x.slice(), y.slice()), scratch, bf16::to_f32, bf16::from_f32);
        }
        other => {
            return Err(OpError::new(format!("operand X is {other}, expected f32, f16 or bf16")));
        }
    }
    Ok(())
}

/// The extrapolation value in the operand's type, in front of zeros.
fn extrapolation(attrs: &Attrs, dtype: DType) -> Result<[u8; 8], OpError> {
    let value = attrs.float("extrapolation_value");
    let mut out = [0; 8];
    let mut put = |bytes: &[u8]| out[..bytes.len()].copy_from_slice(bytes);
    match dtype {
        DType::F32 => put(&value.to_le_bytes()),
        DType::F16 => put(&f16::from_f32(value).to_le_bytes()),
        DType::BF16 => put(&bf16::from_f32(value).to_le_bytes()),
        DType::F64 => put(&f64::from(value).to_le_bytes()),
        DType::Bool => put(&[u8::from(value != 0.0)]),
        _ if value < 0.0 => put(&(value as i64).to_le_bytes()),
        _ => put(&(value as u64).to_le_bytes()),
    }
    Ok(out)
}

/// [`mix`] of floats that are `f32` in between.
fn converted<T: Element>(
    mix: impl FnOnce(&[f32], &mut [f32], &mut [f32]),
    (x, y): (&[T], &mut [T]),
    scratch: &mut [f32],
    load: impl Fn(T) -> f32,
    store: impl Fn(f32) -> T,
) {
    let (ends, between) = scratch.split_at_mut(scratch.len() / 2);
    let (from, to) = ends.split_at_mut(ends.len() / 2);
    let (from, to) = (&mut from[..x.len()], &mut to[..y.len()]);
    from.iter_mut().zip(x).for_each(|(to, &from)| *to = load(from));
    mix(from, to, between);
    y.iter_mut().zip(to.iter()).for_each(|(to, &from)| *to = store(from));
}

/// Linear and cubic resizing, one axis after the other from the innermost on: from `x` through the halves of `scratch` in
/// turn to `y`.
fn mix(axes: &[Along], outside: f32, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
    let Some(last) = axes.len().checked_sub(1) else {
        y.copy_from_slice(x);
        return;
    };
    let (mut write, mut read) = scratch.split_at_mut(scratch.len() / 2);
    for (i, Along { stretch, table, outer, inner }) in axes.iter().enumerate() {
        let from = if i == 0 { x } else { &*read };
        let to = if i == last { &mut *y } else { &mut write[..outer * stretch.to * inner] };
        match inner {
            1 => along(table, stretch, from, to, outside),
            _ => across(table, stretch, *inner, from, to, outside),
        }
        std::mem::swap(&mut read, &mut write);
    }
}

/// Along the innermost axis, whose outputs have their own weights each.
fn along(table: &Table, stretch: &Stretch, from: &[f32], to: &mut [f32], outside: f32) {
    let lines = parallel::at_once(stretch.to);
    let from = from.chunks(lines * stretch.from);
    parallel::each(to.chunks_mut(lines * stretch.to).zip(from), |(to, from)| {
        let lines = to.chunks_exact_mut(stretch.to).zip(from.chunks_exact(stretch.from));
        for (to, from) in lines {
            let weights = table.weights.chunks_exact(table.taps);
            for ((to, weights), start) in to.iter_mut().zip(weights).zip(&table.start) {
                let Some(start) = *start else {
                    *to = outside;
                    continue;
                };
                *to = match (weights, &from[start..start + table.taps]) {
                    ([a, b], [x, y]) => a * x + b * y,
                    (weights, taken) => {
                        let products = weights.iter().zip(taken).map(|(w, x)| w * x);
                        products.reduce(|sum, product| sum + product).unwrap_or(outside)
                    }
                };
            }
        }
    });
}

/// Along an outer axis: whole runs of `inner` elements have the same weights.
fn across(
    table: &Table,
    stretch: &Stretch,
    inner: usize,
    from: &[f32],
    to: &mut [f32],
    outside: f32,
) {
    let rows = parallel::at_once(inner);
    parallel::each(to.chunks_mut(rows * inner).enumerate(), |(chunk, to)| {
        for (i, to) in to.chunks_mut(inner).enumerate() {
            let row = chunk * rows + i;
            let (outer, at) = (row / stretch.to, row % stretch.to);
            let Some(start) = table.start[at] else {
                to.fill(outside);
                continue;
            };
            let first = (outer * stretch.from + start) * inner;
            let weights = &table.weights[at * table.taps..][..table.taps];
            for (tap, &weight) in weights.iter().enumerate() {
                let from = &from[first + tap * inner..][..inner];
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = if tap == 0 { weight * from } else { *to + weight * from };
                }
            }
        }
    });
}
