//! GPU programs of operators that give each element of their result from one element of each operand.

use crate::OpError;
use crate::broadcast::Broadcast;
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render, wgsl_type};
use engine_format::DType;
use std::fmt::Write;

/// Rounding, NaN and infinity.
pub(crate) const PRELUDE: &str = include_str!("prelude.wgsl");
/// Arithmetic on 64-bit integers.
pub(crate) const INT64: &str = include_str!("int64.wgsl");
/// Division of 64-bit integers, in terms of [`INT64`].
pub(crate) const DIVIDE64: &str = include_str!("divide64.wgsl");

/// The WGSL type of an element; `None` for types that are not kept on the GPU.
pub(crate) fn element_type(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::I64 | DType::U64 => Some("vec2<u32>"),
        other => wgsl_type(other),
    }
}

/// `y`, computed in the word of `dtype`, brought back to the values that `dtype` has.
pub(crate) fn rounded(dtype: DType, y: &str) -> String {
    match dtype {
        DType::F16 => format!("to_f16({y})"),
        DType::BF16 => format!("to_bf16({y})"),
        DType::I8 | DType::U8 => format!("extractBits({y}, 0u, 8u)"),
        DType::I16 | DType::U16 => format!("extractBits({y}, 0u, 16u)"),
        DType::I4 | DType::U4 => format!("extractBits({y}, 0u, 4u)"),
        DType::I2 | DType::U2 => format!("extractBits({y}, 0u, 2u)"),
        _ => y.to_owned(),
    }
}

/// What is computed: operands by position, bound to the names `a`, `b`, `c` in this order.
pub(crate) struct Formula<'a, const N: usize> {
    /// Name for traces.
    pub label: &'static str,
    /// Positions of the operands.
    pub operands: [usize; N],
    /// WGSL functions that `y` calls.
    pub functions: &'a [&'a str],
    /// The WGSL expression of the result; it may read `params.p0` to `params.p2`, and `y_out[i]` to go on from what
    /// an earlier dispatch left.
    pub y: &'a str,
    /// Contents of `params.p0` to `params.p2`.
    pub params: [u32; 3],
}

/// The dispatch of a formula whose operands broadcast to the first result; `None` where a type is not kept on the GPU.
pub(crate) fn dispatch<const N: usize>(
    ctx: &GpuCtx<'_>,
    formula: &Formula<'_, N>,
) -> Result<Option<Dispatch>, OpError> {
    const { assert!(N <= 3, "an axis has room for three strides") };
    let out = ctx.output();
    let metas = formula.operands.map(|i| ctx.input(i));
    let types = metas.map(|m| element_type(m.dtype));
    let Some(result) = element_type(out.dtype) else { return Ok(None) };
    let walk = Broadcast::new(&out.shape, metas.map(|m| m.shape.as_slice()))?;
    let rank = walk.axes().len();

    let (mut bindings, mut loads) = (String::new(), String::new());
    for (k, (name, lane)) in ["a", "b", "c"].into_iter().zip(["x", "y", "z"]).take(N).enumerate() {
        let Some(element) = types[k] else { return Ok(None) };
        let declared = format!("var<storage, read> {name}_in: array<{element}>;");
        let _ = writeln!(bindings, "@group(0) @binding({k}) {declared}");
        let _ = writeln!(loads, "    let {name} = {name}_in[at.{lane}];");
    }
    let declared = format!("var<storage, read_write> y_out: array<{result}>;");
    let _ = writeln!(bindings, "@group(0) @binding({N}) {declared}");
    let _ = writeln!(bindings, "@group(0) @binding({}) var<uniform> params: Params;", N + 1);

    let index = match rank {
        1 => "let at = i * params.axes[0].yzw;",
        _ => include_str!("unravel.wgsl"),
    };
    let wgsl = render(
        include_str!("elementwise.wgsl"),
        &[
            ("index", index),
            ("bindings", &bindings),
            ("functions", &formula.functions.concat()),
            ("loads", loads.trim()),
            ("y", formula.y),
            ("rank", &rank.to_string()),
        ],
    );
    let n = out.len();
    let mut params = vec![n as u32];
    params.extend(formula.params);
    for axis in walk.axes() {
        let mut words = [axis.size as u32, 0, 0, 0];
        for (word, stride) in words[1..].iter_mut().zip(axis.strides) {
            *word = stride as u32;
        }
        params.extend(words);
    }
    Ok(Some(Dispatch {
        rounds: FEW_ROUNDS,
        label: formula.label.into(),
        wgsl: wgsl.into(),
        binds: formula.operands.map(Bind::In).into_iter().chain([Bind::Out(0)]).collect(),
        params,
        groups: ctx.limits.linear(n, 256),
    }))
}

/// The program of one formula.
pub(crate) fn program<const N: usize>(
    ctx: &GpuCtx<'_>,
    formula: &Formula<'_, N>,
) -> Result<Option<GpuProgram>, OpError> {
    Ok(dispatch(ctx, formula)?.map(GpuProgram::one))
}
