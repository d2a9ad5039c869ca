//! The places that maxima came from, filled again.

use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::fill::filled;
use crate::gpu::{GpuCtx, GpuProgram, outside_wgsl, words};
use crate::infer::{Facts, InferCtx, InferError};
use crate::ops::movement::scatter::Places;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};

pub static MAX_UNPOOL: OpDef = OpDef {
    name: "MaxUnpool",
    doc: "Zeros with each element of X at its index in I, which counts through the whole unpadded result of a pool's inverse; \
          `output_shape` adds zeros behind. An index that occurs twice takes either element.",
    onnx: &[OnnxName::since("MaxUnpool", 9)],
    attrs: &[
        AttrDef::required("kernel_shape", AttrKind::Ints),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[
        Operand::data("X").shaped("N C ..."),
        Operand::data("I").of(&[DType::I64]).shaped("N C ..."),
        Operand::opt_shape("output_shape").shaped("_"),
    ],
    outputs: &["output"],
    kind: Kind::Move,
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases: || {
        let x = Tensor::from_slice(&[1, 1, 1, 2], &[5.0f32, 6.0]);
        let at = Tensor::from_slice(&[1, 1, 1, 2], &[3i64, 4]);
        let y = Tensor::from_slice(&[1, 1, 2, 4], &[0.0f32, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        let wide = Tensor::from_slice(&[1, 1, 1, 2], &[5i64 << 33, -6]);
        let larger = Tensor::from_slice(&[4], &[1i64, 1, 3, 5]);
        let mut padded = [0i64; 15];
        (padded[3], padded[5]) = (5 << 33, -6);
        let halved = |case: Case| {
            case.attr("kernel_shape", Attr::Ints(vec![2, 2]))
                .attr("strides", Attr::Ints(vec![2, 2]))
        };
        let many: Vec<i64> = (0..3 * 5 * 8).map(|i| i * 4 + i % 2).collect();
        let many = Tensor::from_slice(&[1, 3, 5, 8], &many);
        let count: Vec<f32> = (0..1024).map(|i| i as f32).collect();
        let counted = Tensor::from_slice(&[1, 1, 32, 32], &count);
        let same = Tensor::from_slice(&[1, 1, 32, 32], &[7i64; 1024]);
        let mut last = vec![0f32; 4096];
        last[7] = 1023.0;
        let last = Tensor::from_slice(&[1, 1, 64, 64], &last);
        vec![
            halved(Case::new("two places", vec![x, at.clone()])).expect(vec![y]),
            halved(Case::new("into a larger result, of two words", vec![wide, at, larger]))
                .expect(vec![Tensor::from_slice(&[1, 1, 3, 5], &padded)]),
            halved(Case::new("many", vec![ramp(&[1, 3, 5, 8]), many])),
            // Whichever invocation comes first, the last one of a place stays.
            halved(Case::new("the last one stays", vec![counted, same])).expect(vec![last]),
        ]
    },
    ..OpDef::BASE
};

/// The shape that indices count through.
fn inner_shape(attrs: &Attrs, x: &[i64]) -> Result<Vec<i64>, OpError> {
    let spatial = x.len().saturating_sub(2);
    let list = |name: &str, length: usize, default: i64| match attrs.ints(name) {
        None => Ok(vec![default; length]),
        Some(given) if given.len() == length => Ok(given.to_vec()),
        Some(given) => {
            Err(OpError::new(format!("attribute {name:?} is {given:?}, expected {length} numbers")))
        }
    };
    let (kernel, strides) = (list("kernel_shape", spatial, 1)?, list("strides", spatial, 1)?);
    let pads = list("pads", 2 * spatial, 0)?;
    let size = |i: usize| {
        let reach = (x[i + 2] - 1).checked_mul(strides[i])?.checked_add(kernel[i])?;
        let size = reach.checked_sub(pads[i])?.checked_sub(pads[spatial + i])?;
        (size >= 0).then_some(size)
    };
    let sizes = x[..2.min(x.len())].iter().copied().map(Some).chain((0..spatial).map(size));
    sizes.collect::<Option<_>>().ok_or_else(|| {
        OpError::new(format!(
            "kernel_shape {kernel:?}, strides {strides:?} and pads {pads:?} give no size from {x:?}"
        ))
    })
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, shape) = (ctx.facts(0)?, ctx.shape(0)?);
    let sizes: Option<Vec<i64>> = shape.iter().map(Dim::known).collect();
    if ctx.opt(2).is_some() {
        let out = ctx.dims(2)?;
        if out.len() != shape.len() {
            return Err(InferError::invalid(format!(
                "output_shape {out:?} of an operand of rank {}",
                shape.len()
            )));
        }
        sizes.map(|sizes| inner_shape(ctx.attrs, &sizes)).transpose()?;
        return Ok(vec![Facts::new(x.dtype, out)]);
    }
    let inner = inner_shape(ctx.attrs, &sizes.ok_or(InferError::NeedsValue(0))?)?;
    Ok(vec![Facts::new(x.dtype, inner.into_iter().map(Dim::from).collect())])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, places) = (ctx.input(0), ctx.input(1));
    let sizes: Vec<i64> = x.shape.iter().map(|&n| n as i64).collect();
    let inner = inner_shape(ctx.attrs, &sizes)?;
    let y = ctx.output();
    let size = y.dtype.width();
    y.bytes.fill(0);
    for (&place, element) in places.slice::<i64>().iter().zip(x.bytes.chunks_exact(size)) {
        // Coordinates in the inner shape are coordinates in the result, which may be larger.
        let (mut rest, mut at, mut stride) = (place, 0, 1);
        for (&n, &outer) in inner.iter().zip(y.shape).rev() {
            let index = rest.rem_euclid(n.max(1)) as usize;
            if index >= outer {
                return Err(OpError::new(format!("index {place} lies outside {:?}", y.shape)));
            }
            at += index * stride;
            stride *= outer;
            rest = rest.div_euclid(n.max(1));
        }
        if rest != 0 {
            return Err(OpError::new(format!("index {place} lies outside {inner:?}")));
        }
        y.bytes[at * size..][..size].copy_from_slice(element);
    }
    Ok(())
}

/// Axes that the shader has room for.
const GPU_AXES: usize = 8;

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let sizes: Vec<i64> = x.shape.iter().map(|&n| n as i64).collect();
    let inner = inner_shape(ctx.attrs, &sizes)?;
    let (Some(program), Some(width)) = (filled(ctx, [0; 2]), words(y.dtype)) else {
        return Ok(None);
    };
    let n = x.len() * width;
    if inner.len() > GPU_AXES || i32::try_from(y.len() * width).is_err() {
        return Ok(None);
    }
    if n == 0 {
        return Ok(Some(program));
    }
    let mut params = [n, width, inner.len(), 0].map(|n| n as u32).to_vec();
    for (&own, &outer) in inner.iter().zip(&y.shape).rev() {
        params.extend([own.max(1) as u32, outer as u32, 0, 0]);
    }
    params.resize(4 + 4 * GPU_AXES, 0);
    let places = Places {
        text: include_str!("max_unpool.wgsl"),
        of: 0,
        indices: "var<storage, read> places: array<vec2<u32>>",
        notes: outside_wgsl,
        params,
        rounds: GPU_AXES,
        n,
    };
    Ok(places.replace(program, ctx, "MaxUnpool", false))
}
