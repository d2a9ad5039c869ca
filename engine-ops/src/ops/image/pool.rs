//! Pools: the greatest, the mean or the norm of each window.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, planned};
use crate::dtypes::FLOATS;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, narrowing, render, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::nchwc::{BLOCK, greatest};
use crate::kernels::pooling::reduce;
use crate::kernels::window::{Axis, Window, three, volume};
use crate::ops::convolution::window::{axis_params, window_rounds};
use crate::parallel;
use crate::{AttrDef, AttrKind, Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use crate::{Blocked, Takes};
use engine_format::{Attr, Attrs, DType, Element, Tensor};
use half::{bf16, f16};
use std::sync::Arc;

pub static MAX_POOL: OpDef = OpDef {
    name: "MaxPool",
    doc: "The greatest element of each window over the spatial axes; NaN if one is. The second result gives its position in \
          X, flat, over row-major (`storage_order` 0) or column-major spatial axes.",
    onnx: &[OnnxName::since("MaxPool", 1)],
    attrs: &[
        AttrDef::str("auto_pad", "NOTSET"),
        AttrDef::int("ceil_mode", 0),
        AttrDef::opt_ints("dilations"),
        AttrDef::required("kernel_shape", AttrKind::Ints),
        AttrDef::opt_ints("pads"),
        AttrDef::int("storage_order", 0),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[Operand::data("X").of(MAXIMA)],
    outputs: &["Y", "Indices"],
    kind: Kind::Compute,
    infer,
    blocked: Some(|attrs, shapes| blocked(&MAX_POOL, attrs, shapes)),
    cpu: Cpu::Planned(|shapes| planned(axes(shapes.attrs, &shapes.input(0).shape)?, 0, max)),
    gpu: Some(|ctx| gpu(ctx, &MAX_WGSL)),
    tolerance: Tolerance::EXACT,
    cases: max_cases,
    ..OpDef::BASE
};

pub static AVERAGE_POOL: OpDef = OpDef {
    name: "AveragePool",
    doc: "The mean of each window over the spatial axes; padding counts as zeros with `count_include_pad`, otherwise not at \
          all.",
    onnx: &[OnnxName::since("AveragePool", 7)],
    attrs: &[
        AttrDef::str("auto_pad", "NOTSET"),
        AttrDef::int("ceil_mode", 0),
        AttrDef::int("count_include_pad", 0),
        AttrDef::opt_ints("dilations"),
        AttrDef::required("kernel_shape", AttrKind::Ints),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[Operand::data("X").of(FLOATS)],
    kind: Kind::Compute,
    infer,
    blocked: Some(|attrs, shapes| blocked(&AVERAGE_POOL, attrs, shapes)),
    cpu: Cpu::Planned(|shapes| planned(axes(shapes.attrs, &shapes.input(0).shape)?, 0, average)),
    gpu: Some(|ctx| gpu(ctx, &AVERAGE_WGSL)),
    tolerance: Tolerance::SUMS,
    cases: average_cases,
    ..OpDef::BASE
};

pub static LP_POOL: OpDef = OpDef {
    name: "LpPool",
    doc: "`(Σ |x|^p)^(1/p)` over each window.",
    onnx: &[OnnxName::since("LpPool", 2)],
    attrs: &[
        AttrDef::str("auto_pad", "NOTSET"),
        AttrDef::int("ceil_mode", 0),
        AttrDef::opt_ints("dilations"),
        AttrDef::required("kernel_shape", AttrKind::Ints),
        AttrDef::int("p", 2),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[Operand::data("X").of(FLOATS)],
    kind: Kind::Compute,
    infer,
    cpu: Cpu::Planned(|shapes| planned(axes(shapes.attrs, &shapes.input(0).shape)?, 0, norm)),
    gpu: Some(|ctx| gpu(ctx, &NORM_WGSL)),
    tolerance: Tolerance::SUMS,
    cases: norm_cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (dtype, x) = (ctx.dtype(0)?, ctx.shape(0)?);
    if x.len() < 3 {
        return Err(InferError::invalid(format!("X {x:?}, expected at least 3 dimensions")));
    }
    let window = Window::read(ctx.attrs, x.len() - 2, None)?;
    let mut shape = x[..2].to_vec();
    for (i, size) in x[2..].iter().enumerate() {
        shape.push(window.output(i, size)?);
    }
    let mut facts = vec![Facts::new(dtype, shape.clone())];
    if ctx.outputs > 1 {
        facts.push(Facts::new(DType::I64, shape));
    }
    Ok(facts)
}

/// A pool of blocks is one with a third axis, along which it does nothing.
pub(in crate::ops) fn blocked(
    def: &'static OpDef,
    attrs: &Arc<Attrs>,
    shapes: &CpuShapes<'_>,
) -> Option<Blocked> {
    let window = Window::read(attrs, 2, None).ok()?;
    let [h, w] = window.axes(&shapes.inputs[0].as_ref()?.shape[2..]).ok()?[..] else { return None };
    let mut attrs = Attrs::clone(attrs);
    let mut set = |name: &str, values: [usize; 3]| {
        attrs.insert(name.to_owned(), Attr::Ints(values.map(|v| v as i64).to_vec()));
    };
    set("kernel_shape", [h.kernel, w.kernel, 1]);
    set("strides", [h.stride, w.stride, 1]);
    set("dilations", [h.dilation, w.dilation, 1]);
    let pads = [h.before, w.before, 0, h.after, w.after, 0];
    attrs.insert("pads".to_owned(), Attr::Ints(pads.map(|p| p as i64).to_vec()));
    attrs.insert("auto_pad".to_owned(), Attr::Str("NOTSET".to_owned()));
    Some(Blocked { def, attrs: Arc::new(attrs), takes: vec![Takes::Blocks], leads: false })
}

fn axes(attrs: &Attrs, x: &[usize]) -> Result<[Axis; 3], OpError> {
    three(&Window::read(attrs, x.len() - 2, None)?.axes(&x[2..])?)
}

/// Element types of MaxPool.
pub(in crate::ops) trait Greatest: Element + PartialOrd {
    /// What an empty window gives.
    const LEAST: Self;

    /// Whether this element takes the place of `best`: it is greater, or the first NaN. Without branches, so that it is done to
    /// whole registers.
    #[inline(always)]
    fn beats(self, best: Self) -> bool {
        #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
        let (own, other) = (self != self, best != best);
        (self > best) | (own & !other)
    }
}

macro_rules! greatest {
    ($($t:ty => $least:expr),* $(,)?) => {$(
        impl Greatest for $t { const LEAST: Self = $least; }
    )*};
}
greatest!(
    f32 => f32::NEG_INFINITY, f64 => f64::NEG_INFINITY, f16 => f16::NEG_INFINITY, bf16 => bf16::NEG_INFINITY,
    i8 => i8::MIN, i32 => i32::MIN, u8 => u8::MIN,
);

fn max(axes: &[Axis; 3], ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let places = ctx.outputs.get(1).is_some_and(Option::is_some);
    let [h, w, lanes] = axes;
    if x.dtype == DType::F32 && !places && lanes.is_still() && lanes.input == BLOCK {
        greatest(h, w, x.slice(), ctx.output().slice());
        return Ok(());
    }
    for_dtype!(
        x.dtype,
        [F32 => f32, F64 => f64, F16 => f16, BF16 => bf16, I8 => i8, I32 => i32, U8 => u8],
        T => {
            let x = x.slice::<T>();
            if places {
                max_and_where::<T>(ctx, axes, x);
            } else {
                let pick = |best: T, x: T| if x.beats(best) { x } else { best };
                reduce(axes, (x, ctx.output().slice()), T::LEAST, pick, |best, _| best);
            }
            Ok(())
        }
    )
}

/// Types of numbers whose maxima are taken.
const MAXIMA: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::I32, DType::U8];

/// Taps along an axis that the shader goes through; larger windows are mostly padding.
const MOST_TAPS: usize = 1 << 12;

/// MaxPool with its second result: the flat position of the first greatest element, or of the window's first element where all
/// are the least value; -1 for a window on padding alone.
fn max_and_where<T: Greatest>(ctx: &mut CpuCtx<'_>, axes: &[Axis; 3], x: &[T]) {
    let columns = ctx.attrs.int("storage_order") != 0;
    let [y, indices] = ctx.outputs else { return };
    let (Some(y), Some(indices)) = (y, indices) else { return };
    let (y, indices) = (y.slice::<T>(), indices.slice::<i64>());
    let [d, h, w] = axes;
    let (plane, outputs) = (volume(axes, |a| a.input), volume(axes, |a| a.output).max(1));
    let find = |i: usize, y: &mut T, index: &mut i64| {
        let (image, at) = (i / outputs, i % outputs);
        let at = [at / w.output / h.output, at / w.output % h.output, at % w.output];
        let mut best: Option<(T, usize)> = None;
        let [kd, kh, kw] = [d.inside(at[0]), h.inside(at[1]), w.inside(at[2])];
        let taps = kd.flat_map(|d| kh.clone().map(move |h| (d, h)));
        for (kd, kh, kw) in taps.flat_map(|(d, h)| kw.clone().map(move |w| (d, h, w))) {
            let (Some(z), Some(v), Some(u)) = (d.at(at[0], kd), h.at(at[1], kh), w.at(at[2], kw))
            else {
                continue;
            };
            let value = x[image * plane + (z * h.input + v) * w.input + u];
            if best.is_none_or(|(b, _)| value.beats(b)) {
                let within = match columns {
                    false => (z * h.input + v) * w.input + u,
                    true => (u * h.input + v) * d.input + z,
                };
                best = Some((value, image * plane + within));
            }
        }
        *y = best.map_or(T::LEAST, |(value, _)| value);
        *index = best.map_or(-1, |(_, index)| index as i64);
    };
    let at_once = parallel::at_once(volume(axes, |axis| axis.kernel.min(axis.input.max(1))));
    let pieces = y.chunks_mut(at_once).zip(indices.chunks_mut(at_once)).enumerate();
    parallel::each(pieces, |(piece, (y, indices))| {
        let first = piece * at_once;
        let results = y.iter_mut().zip(indices).enumerate();
        results.for_each(|(i, (y, index))| find(first + i, y, index));
    });
}

fn average(axes: &[Axis; 3], ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let padding = ctx.attrs.int("count_include_pad") != 0;
    let count = |at: [usize; 3]| {
        let along = |i: usize| match padding {
            true => axes[i].padded_taps(at[i]),
            false => axes[i].inside(at[i]).len(),
        };
        along(0).saturating_mul(along(1)).saturating_mul(along(2))
    };
    let y = ctx.output();
    match x.dtype {
        DType::F32 => {
            let finish = |sum: f32, at| sum / count(at) as f32;
            reduce(axes, (x.slice::<f32>(), y.slice()), 0.0, |s, x| s + x, finish);
        }
        DType::F64 => {
            let finish = |sum: f64, at| sum / count(at) as f64;
            reduce(axes, (x.slice::<f64>(), y.slice()), 0.0, |s, x| s + x, finish);
        }
        DType::F16 => {
            let finish = |sum: f32, at| f16::from_f32(sum / count(at) as f32);
            reduce(axes, (x.slice::<f16>(), y.slice()), 0.0, |s, x| s + x.to_f32(), finish);
        }
        DType::BF16 => {
            let finish = |sum: f32, at| bf16::from_f32(sum / count(at) as f32);
            reduce(axes, (x.slice::<bf16>(), y.slice()), 0.0, |s, x| s + x.to_f32(), finish);
        }
        other => return Err(OpError::new(format!("operand X is {other}, expected a float type"))),
    }
    Ok(())
}

fn norm(axes: &[Axis; 3], ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let p = ctx.attrs.int("p") as f64;
    let step = |sum: f64, x: f64| sum + x.abs().powf(p);
    let root = |sum: f64| sum.powf(1.0 / p);
    let y = ctx.output();
    match x.dtype {
        DType::F32 => {
            let (step, finish) = (|s, x: f32| step(s, x.into()), |s, _| root(s) as f32);
            reduce(axes, (x.slice::<f32>(), y.slice()), 0.0, step, finish);
        }
        DType::F64 => {
            reduce(axes, (x.slice::<f64>(), y.slice()), 0.0, step, |s, _| root(s));
        }
        DType::F16 => {
            let (step, finish) = (|s, x: f16| step(s, x.into()), |s, _| f16::from_f64(root(s)));
            reduce(axes, (x.slice::<f16>(), y.slice()), 0.0, step, finish);
        }
        DType::BF16 => {
            let (step, finish) = (|s, x: bf16| step(s, x.into()), |s, _| bf16::from_f64(root(s)));
            reduce(axes, (x.slice::<bf16>(), y.slice()), 0.0, step, finish);
        }
        other => return Err(OpError::new(format!("operand X is {other}, expected a float type"))),
    }
    Ok(())
}

/// What differs between the pools' shaders.
struct PoolWgsl {
    label: &'static str,
    /// The value before the first element.
    init: fn(&str) -> &'static str,
    /// The value after element `x`.
    step: &'static str,
    /// The result.
    finish: &'static str,
}

static MAX_WGSL: PoolWgsl = PoolWgsl {
    label: "MaxPool",
    // WGSL has no literal for infinity, and refuses constant expressions that give it.
    init: |element| match element {
        "f32" => "bitcast<f32>(params.least)",
        "i32" => "bitcast<i32>(params.least)",
        _ => "params.least",
    },
    step: "select(sum, x, x > sum || is_nan(x))",
    finish: "sum",
};
static AVERAGE_WGSL: PoolWgsl = PoolWgsl {
    label: "AveragePool",
    init: |_| "0.0",
    step: "sum + x",
    finish: "sum / f32(select(inside, padded, params.flag == 1u))",
};
static NORM_WGSL: PoolWgsl = PoolWgsl {
    label: "LpPool",
    init: |_| "0.0",
    step: "sum + pow(abs(x), f32(params.flag))",
    finish: "pow(sum, 1.0 / f32(params.flag))",
};

/// By bits, since compilers of shaders may take `x != x` for false.
pub(in crate::ops) const IS_NAN: &str =
    "fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }";
const NEVER_NAN: &str = "fn is_nan(x: {{T}}) -> bool { return false; }";

/// The second result of MaxPool: minus one where a window lies on padding alone.
const PLACES: &str = "@group(0) @binding(2) var<storage, read_write> places_out: array<vec2<u32>>;
var<private> best: vec2<u32> = vec2<u32>(0xffffffffu, 0xffffffffu);
fn note(start: u32, j: vec3<u32>) {
    let rows = (j.x * params.input.y + j.y) * params.input.z + j.z;
    let columns = (j.z * params.input.y + j.y) * params.input.x + j.x;
    best = vec2<u32>(start + select(rows, columns, params.columns == 1u), 0u);
}";
const NOTE: &str =
    "if (inside == 1u || x > sum || (is_nan(x) && !is_nan(sum))) { note(start, j); }";

fn gpu(ctx: &GpuCtx<'_>, pool: &PoolWgsl) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let Some(element) = wgsl_type(x.dtype) else { return Ok(None) };
    let axes = axes(ctx.attrs, &x.shape)?;
    // The shader goes through all taps, those on padding too.
    if axes.iter().any(|axis| axis.kernel > MOST_TAPS) {
        return Ok(None);
    }
    let places = ctx.outputs.get(1).is_some_and(Option::is_some);
    let flag = ["count_include_pad", "p"].iter().find_map(|name| ctx.attrs.opt_int(name));
    let least = match x.dtype {
        DType::I8 => i32::from(i8::MIN) as u32,
        DType::I32 => i32::MIN as u32,
        DType::U8 => 0,
        _ => f32::NEG_INFINITY.to_bits(),
    };
    let columns = ctx.attrs.opt_int("storage_order").unwrap_or(0) != 0;
    let mut params = vec![y.len() as u32, flag.unwrap_or(0) as u32, least, u32::from(columns)];
    params.extend(axis_params(&axes));
    params.extend([axes[0].after as u32, axes[1].after as u32, axes[2].after as u32, 0]);
    let values = [
        ("init", (pool.init)(element)),
        ("step", pool.step),
        ("finish", pool.finish),
        ("narrow", narrowing(x.dtype)),
        ("is_nan", if element == "f32" { IS_NAN } else { NEVER_NAN }),
        ("places", if places { PLACES } else { "" }),
        ("uniform", if places { "3" } else { "2" }),
        ("note", if places { NOTE } else { "" }),
        ("store", if places { "places_out[i] = best;" } else { "" }),
        ("T", element),
    ];
    let mut binds = vec![Bind::In(0), Bind::Out(0)];
    binds.extend(places.then_some(Bind::Out(1)));
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: window_rounds(&axes),
        label: pool.label.into(),
        wgsl: render(include_str!("pool.wgsl"), &values).into(),
        binds,
        params,
        groups: ctx.limits.linear(y.len(), 256),
    })))
}

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

/// Windows that every pool is tried on.
fn windows() -> Vec<Case> {
    let pool = |name, x: &[usize], kernel: &[i64]| {
        Case::new(name, vec![ramp(x)]).attr("kernel_shape", ints(kernel))
    };
    vec![
        pool("one axis", &[2, 3, 20], &[3]),
        pool("halving", &[1, 4, 10, 150], &[2, 2]).attr("strides", ints(&[2, 2])),
        pool("padded", &[1, 2, 8, 9], &[3, 3]).attr("pads", ints(&[1, 1, 1, 1])),
        pool("same", &[1, 2, 7, 7], &[3, 2])
            .attr("auto_pad", Attr::Str("SAME_UPPER".to_owned()))
            .attr("strides", ints(&[2, 2])),
        pool("partial last windows", &[1, 2, 8, 7], &[3, 3])
            .attr("strides", ints(&[2, 2]))
            .attr("pads", ints(&[1, 0, 1, 0]))
            .attr("ceil_mode", Attr::Int(1)),
        pool("dilated", &[1, 1, 9, 12], &[2, 3]).attr("dilations", ints(&[3, 2])),
        pool("three axes", &[1, 2, 4, 5, 6], &[2, 3, 2]).attr("strides", ints(&[1, 2, 2])),
        pool("no images", &[0, 2, 4, 4], &[2, 2]),
    ]
}

fn max_cases() -> Vec<Case> {
    let x = || Tensor::from_slice(&[1, 1, 2, 4], &[1.0f32, -2.0, 7.0, 7.0, 4.0, 3.0, -8.0, 0.5]);
    let mut cases = vec![
        Case::new("worked by hand", vec![x()])
            .attr("kernel_shape", ints(&[2, 2]))
            .attr("strides", ints(&[2, 2]))
            .expect(vec![Tensor::from_slice(&[1, 1, 1, 2], &[4.0f32, 7.0])]),
        Case::new("positions, row by row", vec![x()]).attr("kernel_shape", ints(&[2, 2])).expect(
            vec![
                Tensor::from_slice(&[1, 1, 1, 3], &[4.0f32, 7.0, 7.0]),
                Tensor::from_slice(&[1, 1, 1, 3], &[4i64, 2, 2]),
            ],
        ),
        Case::new("positions, column by column", vec![x()])
            .attr("kernel_shape", ints(&[2, 2]))
            .attr("storage_order", Attr::Int(1))
            .expect(vec![
                Tensor::from_slice(&[1, 1, 1, 3], &[4.0f32, 7.0, 7.0]),
                Tensor::from_slice(&[1, 1, 1, 3], &[1i64, 4, 4]),
            ]),
        Case::new("positions in images", vec![ramp(&[2, 3, 9, 11])])
            .attr("kernel_shape", ints(&[3, 2]))
            .attr("strides", ints(&[2, 1]))
            .attr("pads", ints(&[1, 1, 1, 1]))
            .attr("storage_order", Attr::Int(1))
            .outputs(2),
        Case::new(
            "positions of no number and of nothing",
            vec![Tensor::from_slice(
                &[1, 1, 6],
                &[1.0, f32::NAN, f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY, -1.0],
            )],
        )
        .attr("kernel_shape", ints(&[2]))
        .attr("strides", ints(&[2]))
        .expect(vec![
            Tensor::from_slice(&[1, 1, 3], &[f32::NAN, f32::NAN, -1.0]),
            Tensor::from_slice(&[1, 1, 3], &[1i64, 2, 5]),
        ]),
        Case::new(
            "NaN survives, and so does infinity",
            vec![Tensor::from_slice(
                &[1, 1, 5],
                &[f32::NEG_INFINITY, f32::NEG_INFINITY, 1.0, f32::NAN, 2.0],
            )],
        )
        .attr("kernel_shape", ints(&[2]))
        .expect(vec![Tensor::from_slice(
            &[1, 1, 4],
            &[f32::NEG_INFINITY, 1.0, f32::NAN, f32::NAN],
        )]),
        Case::new("bytes", vec![Tensor::from_slice(&[1, 1, 4], &[-3i8, -7, -128, -1])])
            .attr("kernel_shape", ints(&[2]))
            .attr("pads", ints(&[1, 0]))
            .expect(vec![Tensor::from_slice(&[1, 1, 4], &[-3i8, -3, -7, -1])]),
    ];
    cases.extend(windows());
    cases
}

fn average_cases() -> Vec<Case> {
    let x = || Tensor::from_slice(&[1, 1, 3], &[3.0f32, 6.0, -3.0]);
    let mut cases = vec![
        Case::new("padding does not count", vec![x()])
            .attr("kernel_shape", ints(&[2]))
            .attr("pads", ints(&[1, 1]))
            .expect(vec![Tensor::from_slice(&[1, 1, 4], &[3.0f32, 4.5, 1.5, -3.0])]),
        Case::new("padding counts", vec![x()])
            .attr("kernel_shape", ints(&[2]))
            .attr("pads", ints(&[1, 1]))
            .attr("count_include_pad", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[1, 1, 4], &[1.5f32, 4.5, 1.5, -1.5])]),
        // The last window reaches one element beyond even the padding, which is never counted.
        Case::new("what is beyond the padding never counts", vec![x()])
            .attr("kernel_shape", ints(&[3]))
            .attr("strides", ints(&[2]))
            .attr("pads", ints(&[0, 1]))
            .attr("ceil_mode", Attr::Int(1))
            .attr("count_include_pad", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[1, 1, 2], &[2.0f32, -1.5])]),
    ];
    cases.extend(windows());
    cases
}

fn norm_cases() -> Vec<Case> {
    let x = Tensor::from_slice(&[1, 1, 3], &[3.0f32, -4.0, 0.0]);
    let mut cases = vec![
        Case::new("worked by hand", vec![x])
            .attr("kernel_shape", ints(&[2]))
            .expect(vec![Tensor::from_slice(&[1, 1, 2], &[5.0f32, 4.0])]),
        Case::new("sum of magnitudes", vec![ramp(&[1, 2, 9])])
            .attr("kernel_shape", ints(&[3]))
            .attr("p", Attr::Int(1)),
    ];
    cases.extend(windows());
    cases
}
