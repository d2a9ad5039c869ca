//! OneHot: indices as vectors with one element set.

use crate::AttrsExt;
use crate::case::{Case, ints};
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::gpu::elementwise::{INT64, PRELUDE};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render, words};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::collected;
use crate::operand::ONE;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, for_size};
use engine_format::{Attr, DType, Dim, Tensor};

/// Types of indices and of a depth: integers, and floats that stand for them.
const COUNTS: &[DType] = &[DType::F32, DType::F64, DType::I64, DType::I32, DType::U8, DType::U32];

/// OneHot.
pub static ONE_HOT: OpDef = OpDef {
    name: "OneHot",
    doc: "A new axis of size `depth` in place `axis`, along which the element that the index names is `values[1]` and every other \
          one `values[0]`. Negative indices count from the end; one outside sets nothing.",
    onnx: &[OnnxName::since("OneHot", 9)],
    attrs: &[AttrDef::int("axis", -1)],
    inputs: &[
        Operand::index("indices").of(COUNTS),
        Operand::shape("depth").of(COUNTS).shaped(ONE),
        Operand::data("values").shaped("2"),
    ],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    cases,
    ..OpDef::BASE
};

/// The elements of a tensor of any integer type, or of floats that stand for integers.
fn integers(t: TensorRef<'_>) -> Result<Vec<i64>, OpError> {
    match t.dtype {
        DType::F32 => collected(t.slice::<f32>().iter().map(|&v| v as i64)),
        DType::F64 => collected(t.slice::<f64>().iter().map(|&v| v as i64)),
        DType::I64 => collected(t.slice::<i64>().iter().copied()),
        DType::I32 => collected(t.slice::<i32>().iter().map(|&v| v.into())),
        DType::U8 => collected(t.slice::<u8>().iter().map(|&v| v.into())),
        DType::U32 => collected(t.slice::<u32>().iter().map(|&v| v.into())),
        other => Err(OpError::new(format!(
            "indices or depth are {other}, expected f32, f64, i32, i64, u8 or u32"
        ))),
    }
}

/// The new axis, in a result with one axis more than the indices.
fn new_axis(at: i64, rank: usize) -> Result<usize, OpError> {
    axis(at, rank + 1)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let shape = ctx.shape(0)?;
    let at = new_axis(ctx.attrs.int("axis"), shape.len())?;
    let depth = match ctx.dtype(1)? {
        DType::F32 | DType::F64 => integers(ctx.tensor(1)?.into())?.first().map(|&n| Dim::from(n)),
        _ => ctx.dims(1)?.first().cloned(),
    };
    let depth = depth.filter(|d| d.known().is_none_or(|d| d >= 0));
    let depth = depth.ok_or_else(|| InferError::invalid("depth, expected one number from 0 on"))?;
    let mut out = shape.to_vec();
    out.insert(at, depth);
    Ok(vec![Facts::new(ctx.dtype(2)?, out)])
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let which = integers(ctx.input(0))?;
    let values = ctx.input(2);
    let at = new_axis(ctx.attrs.int("axis"), ctx.input(0).shape.len())?;
    let y = ctx.output();
    let depth = y.shape[at];
    let inner: usize = y.shape[at + 1..].iter().product();
    for_size!(values.dtype, T => {
        let values = values.raw::<T>();
        let to = y.raw::<T>();
        to.fill(values[0]);
        for (i, &index) in which.iter().enumerate() {
            let index = if index < 0 { index.saturating_add(depth as i64) } else { index };
            if (0..depth as i64).contains(&index) {
                to[(i / inner * depth + index as usize) * inner + i % inner] = values[1];
            }
        }
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (which, y) = (ctx.input(0), ctx.output());
    let at = new_axis(ctx.attrs.int("axis"), which.shape.len())?;
    if y.is_empty() {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    let (index_width, index) = match which.dtype {
        DType::I32 => (1, "vec2<u32>(word, u32(bitcast<i32>(word) >> 31u))"),
        DType::I64 => (2, "vec2<u32>(word, indices[at + 1u])"),
        DType::U8 | DType::U32 => (1, "vec2<u32>(word, 0u)"),
        DType::F32 => (1, "f32_to_i64(bitcast<f32>(word))"),
        _ => return Ok(None),
    };
    let functions = [PRELUDE, INT64, include_str!("../elementwise/cast.wgsl")].concat();
    let keys = [("functions", functions.as_str()), ("index", index)];
    let Some(width) = words(y.dtype) else { return Ok(None) };
    let inner: usize = y.shape[at + 1..].iter().product();
    let numbers = [y.len() * width, y.shape[at], inner, width, index_width];
    let Ok(params) = numbers.into_iter().map(u32::try_from).collect() else { return Ok(None) };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS,
        label: "OneHot".into(),
        wgsl: render(include_str!("one_hot.wgsl"), &keys).into(),
        binds: vec![Bind::In(0), Bind::In(2), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(y.len() * width, 256),
    })))
}

fn cases() -> Vec<Case> {
    let depth = |n: i64| Tensor::from_slice(&[], &[n]);
    let bits = || Tensor::from_slice(&[2], &[0f32, 1.0]);
    vec![
        Case::new("rows", vec![ints(&[1, -1, 5]), depth(3), bits()]).expect(vec![
            Tensor::from_slice(&[3, 3], &[0f32, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        ]),
        Case::new(
            "in front, of two words",
            vec![
                Tensor::from_slice(&[2], &[0i32, 1]),
                Tensor::from_slice(&[1], &[2f32]),
                ints(&[-7, 9]),
            ],
        )
        .attr("axis", Attr::Int(0))
        .expect(vec![Tensor::from_slice(&[2, 2], &[9i64, -7, -7, 9])]),
        Case::new(
            "float indices",
            vec![Tensor::from_slice(&[3], &[2f32, -2.5, 1e20]), depth(3), bits()],
        )
        .expect(vec![Tensor::from_slice(&[3, 3], &[0f32, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])]),
        Case::new("bytes", vec![Tensor::from_slice(&[2], &[1u8, 255]), depth(2), bits()])
            .expect(vec![Tensor::from_slice(&[2, 2], &[0f32, 1.0, 0.0, 0.0])]),
        Case::new("nothing", vec![ints(&[]), depth(3), bits()]).expect(vec![Tensor::from_slice::<
            f32,
        >(
            &[0, 3], &[]
        )]),
    ]
}
