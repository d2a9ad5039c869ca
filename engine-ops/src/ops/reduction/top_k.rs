//! TopK: the largest or smallest elements of an axis.

use super::order::{Ordered, for_ordered};
use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::elementwise::{INT64, PRELUDE, element_type};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::operand::ONE;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand};
use engine_format::{Attr, DType, Element, Tensor};

/// TopK.
pub static TOP_K: OpDef = OpDef {
    name: "TopK",
    doc: "The `K` largest elements along `axis` (the smallest, where `largest` is 0) and where they stand. They come in order, equal \
          ones by position, also where `sorted` is 0; NaN is larger than every number.",
    onnx: &[OnnxName::since("TopK", 10)],
    attrs: &[AttrDef::int("axis", -1), AttrDef::int("largest", 1), AttrDef::int("sorted", 1)],
    inputs: &[Operand::data("X"), Operand::shape("K").shaped(ONE)],
    outputs: &["Values", "Indices"],
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let shape = ctx.shape(0)?;
    let at = axis(ctx.attrs.int("axis"), shape.len())?;
    let k = ctx.dims(1)?;
    let [k] = k.as_slice() else {
        return Err(InferError::invalid(format!("K is {k:?}, expected one number")));
    };
    if k.known().is_some_and(|k| k < 0 || shape[at].known().is_some_and(|n| k > n)) {
        return Err(InferError::invalid(format!("K is {k} of an axis of size {}", shape[at])));
    }
    let mut out = shape.to_vec();
    out[at] = k.clone();
    Ok(vec![Facts::new(ctx.dtype(0)?, out.clone()), Facts::new(DType::I64, out)])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    let largest = ctx.attrs.int("largest") != 0;
    let k = ctx.input(1).slice::<i64>()[0] as usize;
    let lanes = Lanes { size: x.shape[at], inner: x.shape[at + 1..].iter().product(), k, largest };
    let mut results = ctx.outputs.iter_mut();
    let mut values = results.next().and_then(Option::as_mut);
    let mut places = results.next().and_then(Option::as_mut);
    for_ordered!(x.dtype, T => {
        let values = values.as_mut().map(|v| v.slice::<T>());
        lanes.pick(x.slice::<T>(), values, places.as_mut().map(|p| p.slice::<i64>()));
        Ok(())
    })
}

/// How elements lie along the axis.
struct Lanes {
    size: usize,
    inner: usize,
    k: usize,
    largest: bool,
}

impl Lanes {
    fn pick<T: Element + Ordered>(
        &self,
        x: &[T],
        mut values: Option<&mut [T]>,
        mut places: Option<&mut [i64]>,
    ) {
        if self.k == 0 || x.is_empty() {
            return;
        }
        let mut order: Vec<usize> = Vec::with_capacity(self.size);
        for lane in 0..x.len() / self.size {
            let (outer, inner) = (lane / self.inner, lane % self.inner);
            let lane = &x[outer * self.size * self.inner + inner..];
            let compare = |a: &usize, b: &usize| {
                let by_value = lane[a * self.inner].order(&lane[b * self.inner]);
                let by_value = if self.largest { by_value.reverse() } else { by_value };
                by_value.then(a.cmp(b))
            };
            order.clear();
            order.extend(0..self.size);
            if self.k < self.size {
                order.select_nth_unstable_by(self.k - 1, compare);
            }
            order[..self.k].sort_unstable_by(compare);
            for (i, &place) in order[..self.k].iter().enumerate() {
                let to = (outer * self.k + i) * self.inner + inner;
                if let Some(values) = &mut values {
                    values[to] = lane[place * self.inner];
                }
                if let Some(places) = &mut places {
                    places[to] = place as i64;
                }
            }
        }
    }
}

/// The longest lane whose elements are all held against each other; a longer one is sorted on the CPU.
const LONGEST_COMPARED: usize = 4096;

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let at = axis(ctx.attrs.int("axis"), x.shape.len())?;
    let (size, inner) = (x.shape[at], x.shape[at + 1..].iter().product::<usize>());
    let Some(word) = element_type(x.dtype).filter(|_| size <= LONGEST_COMPARED) else {
        return Ok(None);
    };
    let k = ctx.output().shape[at];
    if k == 0 || x.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    let above = match x.dtype {
        dtype if dtype.is_float() => "!is_nan(b) && (is_nan(a) || (a > b))",
        DType::I64 => "less_i64(b, a)",
        DType::U64 => "less_u64(b, a)",
        _ => "a > b",
    };
    let largest = ctx.attrs.int("largest") != 0;
    let asked = ctx.outputs.get(1).is_some_and(Option::is_some);
    let binding = "@group(0) @binding(2) var<storage, read_write> places: array<vec2<u32>>;";
    let text = render(
        include_str!("top_k.wgsl"),
        &[
            ("functions", &[PRELUDE, INT64].concat()),
            ("word", word),
            ("above", above),
            ("before", if largest { "above(other, x)" } else { "above(x, other)" }),
            ("places_binding", if asked { binding } else { "" }),
            ("params", if asked { "3" } else { "2" }),
            ("places", if asked { "places[to] = vec2<u32>(own, 0u);" } else { "" }),
        ],
    );
    let mut binds = vec![Bind::In(0), Bind::Out(0)];
    binds.extend(asked.then_some(Bind::Out(1)));
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + size,
        label: "TopK".into(),
        wgsl: text.into(),
        binds,
        params: [x.len(), size, inner, k].map(|n| n as u32).to_vec(),
        groups: ctx.limits.linear(x.len(), 64),
    })))
}

fn cases() -> Vec<Case> {
    let rows = || Tensor::from_slice(&[2, 4], &[0f32, 3.0, 1.0, 3.0, 9.0, f32::NAN, 8.0, 11.0]);
    let places = |values: &[i64]| Tensor::from_slice(&[2, values.len() / 2], values);
    vec![
        Case::new("largest", vec![rows(), ints(&[3])]).expect(vec![
            Tensor::from_slice(&[2, 3], &[3f32, 3.0, 1.0, f32::NAN, 11.0, 9.0]),
            places(&[1, 3, 2, 1, 3, 0]),
        ]),
        Case::new("smallest", vec![rows(), ints(&[2])]).attr("largest", Attr::Int(0)).expect(vec![
            Tensor::from_slice(&[2, 2], &[0f32, 1.0, 8.0, 9.0]),
            places(&[0, 2, 2, 0]),
        ]),
        Case::new(
            "an outer axis of integers",
            vec![Tensor::from_slice(&[3, 2], &[1i64, 6, 5, 2, 3, 4]), ints(&[1])],
        )
        .attr("axis", Attr::Int(0))
        .expect(vec![
            Tensor::from_slice(&[1, 2], &[5i64, 6]),
            Tensor::from_slice(&[1, 2], &[1i64, 0]),
        ]),
        Case { outputs: 2, ..Case::new("many", vec![ramp(&[3, 200]), ints(&[17])]) },
        Case::new("values alone", vec![rows(), ints(&[1])]).attr("axis", Attr::Int(0)),
        Case::new("none", vec![ramp(&[3]), ints(&[0])]).expect(vec![ramp(&[0]), ints(&[])]),
    ]
}
