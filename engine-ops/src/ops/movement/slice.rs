//! Slice: every so many elements between two bounds.

use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuShapes, CpuStep};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::operand::INTEGERS;
use crate::strided::{self, StridedCopy, strides};
use crate::{Kind, OnnxName, OpDef, OpError, Operand};
use engine_format::{Dim, Tensor};

/// Slice.
pub static SLICE: OpDef = OpDef {
    name: "Slice",
    doc: "Along each of `axes` (all in order, if omitted) the elements from `starts` up to but not `ends`, every `steps`th \
          (each, if omitted). Negative bounds count from the end, bounds outside are clamped, negative steps go backwards.",
    onnx: &[OnnxName::since("Slice", 10)],
    inputs: &[
        Operand::data("data"),
        Operand::shape("starts").of(INTEGERS),
        Operand::shape("ends").of(INTEGERS),
        Operand::opt_shape("axes").of(INTEGERS),
        Operand::opt_shape("steps").of(INTEGERS),
    ],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::Planned(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

/// Bounds at least this large mean "to the end": exporters write the largest `i32` or `i64`.
const FAR: i64 = i32::MAX as i64;

/// What is taken of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Taken {
    start: i64,
    step: i64,
    size: usize,
}

/// What is taken of an axis of `dim` elements.
fn taken(dim: usize, start: i64, end: i64, step: i64) -> Taken {
    let dim = dim as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(dim) } else { at };
    // Going backwards, the first element is at most the last one and the bound may lie in front of the axis.
    let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let (start, end) = (from_end(start).clamp(low, high), from_end(end).clamp(low, high));
    let distance = if step > 0 { end - start } else { start - end };
    let size = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    Taken { start, step, size: size as usize }
}

/// What is taken of every axis of `shape`.
fn plan(
    shape: &[usize],
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Vec<Taken>, OpError> {
    let mut out: Vec<Taken> = shape.iter().map(|&size| Taken { start: 0, step: 1, size }).collect();
    for (i, (&start, &end)) in starts.iter().zip(ends).enumerate() {
        let at = axis(axes.map_or(i as i64, |a| a[i]), shape.len())?;
        out[at] = taken(shape[at], start, end, steps.map_or(1, |s| s[i]));
    }
    Ok(out)
}

fn copy(shape: &[usize], taken: &[Taken]) -> StridedCopy {
    let own = strides(shape);
    let to: Vec<usize> = taken.iter().map(|t| t.size).collect();
    let start = taken.iter().zip(&own).map(|(t, &s)| t.start as isize * s as isize).sum();
    // No step is taken to fewer than two elements, however far it would go.
    let step = |t: &Taken| if t.size > 1 { t.step as isize } else { 0 };
    let distances: Vec<isize> =
        taken.iter().zip(&own).map(|(t, &s)| step(t) * s as isize).collect();
    StridedCopy::gather(&to, start, &distances)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    let (starts, ends) = (ctx.dims(1)?, ctx.dims(2)?);
    let count = starts.len();
    let axes = match ctx.opt(3) {
        Some(_) => ctx.ints(3)?,
        None => (0..count as i64).collect(),
    };
    let steps = match ctx.opt(4) {
        Some(_) => ctx.ints(4)?,
        None => vec![1; count],
    };
    if [ends.len(), axes.len(), steps.len()] != [count; 3] || steps.contains(&0) {
        return Err(InferError::invalid(format!(
            "starts {starts:?}, ends {ends:?}, axes {axes:?}, steps {steps:?}, expected as many of each and no step 0"
        )));
    }
    let mut out = shape.to_vec();
    for i in 0..count {
        let at = axis(axes[i], shape.len())?;
        out[at] = match (shape[at].known(), starts[i].known(), ends[i].known()) {
            (Some(dim), Some(start), Some(end)) => {
                Dim::from(taken(dim as usize, start, end, steps[i]).size)
            }
            _ => symbolic(&shape[at], &starts[i], &ends[i], steps[i]),
        };
    }
    let numbers = |dims: &[Dim]| dims.iter().map(Dim::known).collect::<Option<Vec<i64>>>();
    if let (Some(all), [_], Some(starts), Some(ends)) =
        (ctx.known_dims(0), shape, numbers(&starts), numbers(&ends))
    {
        let t = plan(&[all.len()], &starts, &ends, Some(&axes), Some(&steps))?[0];
        let picked = (0..t.size).map(|i| all[(t.start + i as i64 * t.step) as usize].clone());
        return Ok(vec![Facts::vector(picked.collect())]);
    }
    Ok(vec![Facts::new(x.dtype, out)])
}

/// How much is taken of an axis where not all is a number. A symbolic axis is supposed to be long enough for a start that
/// is a number; a bound that may lie past the axis is clamped by name.
fn symbolic(dim: &Dim, start: &Dim, end: &Dim, step: i64) -> Dim {
    let forward = step > 0;
    let last = if forward { dim.clone() } else { dim - &Dim::from(1) };
    let front = Dim::from(if forward { 0 } else { -1 });
    let bound = |at: &Dim| match at.known() {
        Some(n) if n >= FAR => last.clone(),
        Some(n) if n <= -FAR => front.clone(),
        Some(n) if n < 0 => dim + at,
        _ => smaller(at, &last),
    };
    let start = match (start.known(), dim.known()) {
        (Some(0..FAR), None) => start.clone(),
        _ => bound(start),
    };
    let end = bound(end);
    let distance = if forward { &end - &start } else { &start - &end };
    let step = Dim::from(step.checked_abs());
    let size = (&(&distance + &step) - &Dim::from(1)).floor_div(&step);
    if size.known().is_some_and(|n| n < 0) { Dim::from(0) } else { size }
}

/// The smaller of two sizes: a symbol of that name where the difference is not known, so that the same bound on the same
/// axis is the same size everywhere.
fn smaller(at: &Dim, last: &Dim) -> Dim {
    match (last - at).known() {
        Some(room) if room < 0 => last.clone(),
        Some(_) => at.clone(),
        None if at.known() == Some(0) => at.clone(),
        None => Dim::symbol(&format!("min({at}, {last})")),
    }
}

fn cpu(shapes: &CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError> {
    let shape = &shapes.input(0).shape;
    let (Some(starts), Some(ends)) = (shapes.ints(1), shapes.ints(2)) else {
        return Err(OpError::new("the contents of starts and ends are not known"));
    };
    let (axes, steps) = (shapes.ints(3), shapes.ints(4));
    strided::one(copy(shape, &plan(shape, &starts, &ends, axes.as_deref(), steps.as_deref())?))
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let integers = |i: usize| ctx.value(i).and_then(Tensor::to_i64s);
    let (Some(starts), Some(ends)) = (integers(1), integers(2)) else { return Ok(None) };
    let (axes, steps) = (integers(3), integers(4));
    let taken = plan(&x.shape, &starts, &ends, axes.as_deref(), steps.as_deref())?;
    Ok(copy(&x.shape, &taken).program("Slice", x.dtype, ctx.limits))
}

fn cases() -> Vec<Case> {
    let matrix = || Tensor::from_slice(&[2, 4], &[1i32, 2, 3, 4, 5, 6, 7, 8]);
    let line = || Tensor::from_slice(&[5], &[0u8, 1, 2, 3, 4]);
    let bytes = |v: &[u8]| vec![Tensor::from_slice(&[v.len()], v)];
    let back = |name, start, end| {
        Case::new(name, vec![line(), ints(&[start]), ints(&[end]), ints(&[0]), ints(&[-2])])
    };
    vec![
        Case::new(
            "axes and steps",
            vec![matrix(), ints(&[1, 0]), ints(&[2, 3]), ints(&[0, 1]), ints(&[1, 2])],
        )
        .expect(vec![Tensor::from_slice(&[1, 2], &[5i32, 7])]),
        Case::new("without axes", vec![matrix(), ints(&[0, 1]), ints(&[-1, 1000])])
            .expect(vec![Tensor::from_slice(&[1, 3], &[2i32, 3, 4])]),
        back("backwards", -1, i64::MIN).expect(bytes(&[4, 2, 0])),
        back("backwards from past the end", 99, 0).expect(bytes(&[4, 2])),
        back("nothing", 1, 3).expect(bytes(&[])),
        Case::new(
            "reversed",
            vec![line(), ints(&[i64::MAX]), ints(&[-6]), ints(&[-1]), ints(&[-1])],
        )
        .expect(bytes(&[4, 3, 2, 1, 0])),
        Case::new(
            "bounds of 32 bits",
            vec![
                ints(&[5, 6, 7]),
                Tensor::from_slice(&[1], &[1i32]),
                Tensor::from_slice(&[1], &[2i32]),
            ],
        )
        .expect(vec![ints(&[6])]),
        Case::new(
            "a window",
            vec![ramp(&[3, 9, 8]), ints(&[2, -5]), ints(&[8, -1]), ints(&[1, -1])],
        ),
        Case::new("empty operand", vec![ramp(&[0, 3]), ints(&[1]), ints(&[9])])
            .expect(vec![ramp(&[0, 3])]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_sizes() {
        let s = Dim::symbol("s");
        let size = |start: i64, end: i64, step| {
            symbolic(&s, &Dim::from(start), &Dim::from(end), step).to_string()
        };
        assert_eq!(size(1, i64::MAX, 1), "s - 1");
        assert_eq!(size(0, -1, 1), "s - 1");
        assert_eq!(size(-3, i64::MAX, 1), "3");
        assert_eq!(size(0, 5, 1), "min(5, s)");
        assert_eq!(size(0, i64::MAX, 2), "floor(s + 1, 2)");
        assert_eq!(size(-1, i64::MIN, -1), "s");
        let whole = symbolic(&s, &Dim::from(0), &s, 1);
        assert_eq!(whole, s);
    }
}
