//! Attention without softmax, as a recurrence over a matrix of state.

use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::dtypes::FLOATS;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::filled;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, Attrs, Dim, Tensor};

pub static LINEAR_ATTENTION: OpDef = OpDef {
    name: "LinearAttention",
    doc: "For each head and position: the state S times `e^decay` (rules gated and gated_delta), plus `k ⊗ v` — or, with the \
          delta rules, `k ⊗ beta·(v − Sᵀk)` —, read as `scale · Sᵀq`. Query heads share the states of key heads.",
    onnx: &[OnnxName::since("LinearAttention", 27)],
    attrs: &[
        AttrDef::required("q_num_heads", AttrKind::Int),
        AttrDef::required("kv_num_heads", AttrKind::Int),
        AttrDef::float("scale", 0.0),
        AttrDef::str("update_rule", "gated_delta"),
        // A hint about how to compute, without influence on the results.
        AttrDef::int("chunk_size", 64),
    ],
    inputs: &[
        Operand::data("query").of(FLOATS).shaped("N T _"),
        Operand::data("key").like(0).shaped("N T _"),
        Operand::data("value").like(0).shaped("N T _"),
        Operand::opt_data("past_state").of(FLOATS).shaped("N _ _ _"),
        Operand::opt_data("decay").like(0).shaped("N T _"),
        Operand::opt_data("beta").like(0).shaped("N T _"),
    ],
    outputs: &["output", "present_state"],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let row = |v: &[f32]| Tensor::from_slice(&[1, 2, 2], v);
        let inputs = vec![
            row(&[1.0, 0.0, 1.0, 1.0]),
            row(&[1.0, 0.0, 0.0, 2.0]),
            row(&[3.0, 4.0, 1.0, 2.0]),
        ];
        let shared = |rule: &str, past: bool, decay: Option<usize>, beta: Option<usize>| {
            let operands = vec![ramp(&[2, 5, 24]), ramp(&[2, 5, 12]), ramp(&[2, 5, 10])];
            let gates = |width: usize| {
                let values: Vec<f32> = (0..10 * width).map(|i| -((i % 7) as f32) / 5.0).collect();
                Tensor::from_slice(&[2, 5, width], &values)
            };
            Case { outputs: 2, ..Case::new("", operands) }
                .input(past.then(|| ramp(&[2, 2, 6, 5])))
                .input(decay.map(gates))
                .input(beta.map(gates))
                .attr("q_num_heads", Attr::Int(4))
                .attr("kv_num_heads", Attr::Int(2))
                .attr("update_rule", Attr::Str(rule.to_owned()))
        };
        vec![
            Case { name: "gated, one a row", ..shared("gated", false, Some(12), None) },
            Case { name: "delta", ..shared("delta", true, None, Some(2)) },
            Case { name: "gated delta", ..shared("gated_delta", true, Some(2), Some(1)) },
            Case { outputs: 1, name: "without the state", ..shared("linear", true, None, None) },
            Case::new("linear", inputs)
                .attr("q_num_heads", Attr::Int(1))
                .attr("kv_num_heads", Attr::Int(1))
                .attr("scale", Attr::Float(1.0))
                .attr("update_rule", Attr::Str("linear".to_owned()))
                .expect(vec![
                    row(&[3.0, 4.0, 5.0, 8.0]),
                    Tensor::from_slice(&[1, 1, 2, 2], &[3.0f32, 4.0, 2.0, 4.0]),
                ]),
        ]
    },
    ..OpDef::BASE
};

/// How the state changes at a position.
#[derive(Clone, Copy)]
struct Rule {
    gated: bool,
    delta: bool,
}

impl Rule {
    fn read(attrs: &Attrs, decay: bool, beta: bool) -> Result<Self, OpError> {
        let name = attrs.str("update_rule");
        let rule = match name {
            "linear" => Self { gated: false, delta: false },
            "gated" => Self { gated: true, delta: false },
            "delta" => Self { gated: false, delta: true },
            "gated_delta" => Self { gated: true, delta: true },
            other => {
                return Err(OpError::new(format!(
                    "update_rule is {other:?}, expected linear, gated, delta or gated_delta"
                )));
            }
        };
        if rule.gated != decay || rule.delta != beta {
            return Err(OpError::new(format!(
                "update_rule {name:?} with operand decay {}, operand beta {}",
                if decay { "given" } else { "absent" },
                if beta { "given" } else { "absent" },
            )));
        }
        Ok(rule)
    }
}

fn heads(attrs: &Attrs) -> Result<(i64, i64), OpError> {
    let (all, own) = (attrs.int("q_num_heads"), attrs.int("kv_num_heads"));
    if own <= 0 || all <= 0 || all % own != 0 {
        return Err(OpError::new(format!(
            "q_num_heads {all} and kv_num_heads {own}, expected a multiple of a positive number"
        )));
    }
    Ok((all, own))
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (q, k, v) = (ctx.shape(0)?, ctx.shape(1)?, ctx.shape(2)?);
    let dtype = ctx.dtype(0)?;
    Rule::read(ctx.attrs, ctx.opt(4).is_some(), ctx.opt(5).is_some())?;
    let (all, own) = heads(ctx.attrs)?;
    let size = |dim: &Dim, heads: i64, i: usize| {
        let whole = dim.known().ok_or(InferError::NeedsValue(i))?;
        let name = LINEAR_ATTENTION.inputs[i].name;
        match whole % heads {
            0 => Ok(whole / heads),
            _ => Err(InferError::invalid(format!(
                "the {whole} columns of {name} do not divide into {heads} heads"
            ))),
        }
    };
    let (key, value) = (size(&k[2], own, 1)?, size(&v[2], own, 2)?);
    let differs = |dim: &Dim, sizes: &[i64]| dim.known().is_some_and(|n| !sizes.contains(&n));
    let wrong = |i: usize, expected: String| {
        let (name, found) = (LINEAR_ATTENTION.inputs[i].name, ctx.facts(i)?);
        Err(InferError::invalid(format!("operand {name} is {found}, expected {expected}")))
    };
    if differs(&q[2], &[all.saturating_mul(key)]) {
        return wrong(0, format!("{all} heads of {key} columns"));
    }
    if let Some(past) = ctx.opt(3).and_then(|past| past.shape.as_deref())
        && [own, key, value].iter().zip(&past[1..]).any(|(&size, dim)| differs(dim, &[size]))
    {
        return wrong(3, format!("[batch, {own}, {key}, {value}]"));
    }
    // Gates are one for each head, or one for each row of its state; shares one for all heads, or one for each.
    for (i, sizes) in [(4, [own, own.saturating_mul(key)]), (5, [1, own])] {
        let columns = ctx.opt(i).and_then(|gates| gates.shape.as_deref()?.last());
        if columns.is_some_and(|dim| differs(dim, &sizes)) {
            return wrong(i, format!("{} or {} columns", sizes[0], sizes[1]));
        }
    }
    let columns = &Dim::from(all) * &Dim::from(value);
    let output = vec![q[0].clone(), q[1].clone(), columns];
    let state = vec![q[0].clone(), Dim::from(own), Dim::from(key), Dim::from(value)];
    let state_type = ctx.opt(3).map_or(dtype, |past| past.dtype);
    Ok(vec![Facts::new(dtype, output), Facts::new(state_type, state)])
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let metas = || ctx.inputs.iter().chain(ctx.outputs).flatten();
    if metas().any(|m| element_type(m.dtype) != Some("f32") || m.is_empty()) {
        return Ok(None);
    }
    let (q_heads, heads) = heads(ctx.attrs)?;
    let (q_heads, heads) = (q_heads as usize, heads as usize);
    let (q, k, v, y) = (ctx.input(0), ctx.input(1), ctx.input(2), ctx.output());
    let (dk, dv) = (k.shape[2] / heads, v.shape[2] / heads);
    let states = q.shape[0] * heads * dk * dv;
    let given = |i: usize| ctx.opt_input(i).is_some();
    let rule = Rule::read(ctx.attrs, given(4), given(5))?;
    let mut buffers: Vec<(&str, Bind)> =
        vec![("q_in", Bind::In(0)), ("k_in", Bind::In(1)), ("v_in", Bind::In(2))];
    let optional = [("past_in", 3), ("decay_in", 4), ("beta_in", 5)].into_iter();
    buffers.extend(optional.filter(|(_, i)| given(*i)).map(|(name, i)| (name, Bind::In(i))));
    let present = ctx.outputs.get(1).and_then(Option::as_ref);
    let state = if present.is_some() { Bind::Out(1) } else { Bind::Scratch(0) };
    buffers.extend([("y_out", Bind::Out(0)), ("state", state)]);
    let last = present.map_or_else(|| "last".to_owned(), |m| rounded(m.dtype, "last"));
    let text = render(
        include_str!("linear_attention.wgsl"),
        &[
            ("bindings", &declared(&buffers)),
            ("functions", PRELUDE),
            ("past", if given(3) { "past_in[at]" } else { "0.0" }),
            ("gate", if rule.gated { GATE } else { "1.0" }),
            ("share", if rule.delta { SHARE } else { "1.0" }),
            ("y", &rounded(y.dtype, "value")),
            ("last", &last),
        ],
    );
    let scale = match ctx.attrs.float("scale") {
        0.0 => 1.0 / (dk as f32).sqrt(),
        scale => scale,
    };
    let decay_per = ctx.opt_input(4).map_or(1, |m| m.shape[2] / heads);
    let beta_per = ctx.opt_input(5).map_or(1, |m| m.shape[2]);
    let n = states / dk;
    let sizes = [n, heads, q_heads, q.shape[1], dk, dv, decay_per, beta_per];
    let mut params = sizes.map(|n| n as u32).to_vec();
    params.extend([scale.to_bits(), rule.delta.into(), 0, 0]);
    let scratch = if present.is_some() { Vec::new() } else { vec![states] };
    let readers = q_heads / heads.max(1);
    let dispatch = Dispatch {
        rounds: 2 * dk + q.shape[1] * (1 + 2 * dk + readers * (1 + dk)),
        label: "LinearAttention".into(),
        wgsl: text.into(),
        binds: buffers.into_iter().map(|(_, bind)| bind).collect(),
        params,
        groups: ctx.limits.linear(n, 64),
    };
    Ok(Some(GpuProgram { dispatches: vec![dispatch], scratch }))
}

/// The factor of a row of the state, and of what is added to it.
const GATE: &str = "exp(decay_in[own * params.decay_per + select(d, 0u, params.decay_per == 1u)])";
const SHARE: &str = "beta_in[row * params.beta_per + select(head, 0u, params.beta_per == 1u)]";

/// Declarations of buffers of floats, and of the parameters behind them.
fn declared(buffers: &[(&str, Bind)]) -> String {
    let line = |(i, (name, bind)): (usize, &(&str, Bind))| {
        let access = if matches!(bind, Bind::In(_)) { "read" } else { "read_write" };
        format!("@group(0) @binding({i}) var<storage, {access}> {name}: array<f32>;\n")
    };
    let lines: String = buffers.iter().enumerate().map(line).collect();
    format!("{lines}@group(0) @binding({}) var<uniform> params: Params;", buffers.len())
}

fn all(x: TensorRef<'_>) -> Result<Vec<f32>, OpError> {
    let mut values = filled(x.len(), 0.0)?;
    if x.dtype == engine_format::DType::F64 {
        let mut wide = filled(x.len(), 0.0f64)?;
        f64::load(x.dtype, x.bytes, 0, &mut wide);
        values.iter_mut().zip(wide).for_each(|(v, w)| *v = w as f32);
    } else {
        f32::load(x.dtype, x.bytes, 0, &mut values);
    }
    Ok(values)
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (q, k, v) = (ctx.input(0), ctx.input(1), ctx.input(2));
    let rule = Rule::read(ctx.attrs, ctx.opt_input(4).is_some(), ctx.opt_input(5).is_some())?;
    let (q_heads, heads) = heads(ctx.attrs)?;
    let (q_heads, heads) = (q_heads as usize, heads as usize);
    let (batches, length) = (q.shape[0], q.shape[1]);
    let (dk, dv) = (k.shape[2] / heads, v.shape[2] / heads);
    let scale = match ctx.attrs.float("scale") {
        0.0 => 1.0 / (dk as f32).sqrt(),
        scale => scale,
    };
    let (qs, ks, vs) = (all(q)?, all(k)?, all(v)?);
    let given = |i: usize| ctx.opt_input(i).map(|x| Ok::<_, OpError>((all(x)?, x.shape[2])));
    let decay = given(4).transpose()?.map(|(decay, columns)| (decay, columns / heads));
    let beta = given(5).transpose()?;
    let mut states = match ctx.opt_input(3) {
        Some(past) => all(past)?,
        None => filled(batches * heads * dk * dv, 0.0)?,
    };
    let mut output = filled(batches * length * q_heads * dv, 0.0f32)?;
    let mut change = vec![0.0f32; dv];
    for (at, state) in states.chunks_exact_mut((dk * dv).max(1)).enumerate() {
        let (batch, head) = (at / heads, at % heads);
        for t in 0..length {
            let row = batch * length + t;
            let key = &ks[(row * heads + head) * dk..][..dk];
            let value = &vs[(row * heads + head) * dv..][..dv];
            if let Some((decay, per)) = &decay {
                // One for the head, or one for each row of its state.
                for (d, line) in state.chunks_exact_mut(dv).enumerate() {
                    let gate =
                        decay[(row * heads + head) * per + if *per == 1 { 0 } else { d }].exp();
                    line.iter_mut().for_each(|s| *s *= gate);
                }
            }
            change.copy_from_slice(value);
            if rule.delta {
                for (line, &k) in state.chunks_exact(dv).zip(key) {
                    change.iter_mut().zip(line).for_each(|(c, s)| *c -= s * k);
                }
                if let Some((beta, per)) = &beta {
                    let share = beta[row * per + if *per == 1 { 0 } else { head }];
                    change.iter_mut().for_each(|c| *c *= share);
                }
            }
            for (line, &k) in state.chunks_exact_mut(dv).zip(key) {
                line.iter_mut().zip(&change).for_each(|(s, c)| *s += k * c);
            }
            let group = q_heads / heads;
            for reader in head * group..(head + 1) * group {
                let query = &qs[(row * q_heads + reader) * dk..][..dk];
                let out = &mut output[(row * q_heads + reader) * dv..][..dv];
                for (line, &q) in state.chunks_exact(dv).zip(query) {
                    out.iter_mut().zip(line).for_each(|(o, s)| *o += scale * q * s);
                }
            }
        }
    }
    for (result, values) in ctx.outputs.iter_mut().zip([&output, &states]) {
        if let Some(result) = result {
            store(result.dtype, values, result.bytes);
        }
    }
    Ok(())
}

fn store(dtype: engine_format::DType, values: &[f32], bytes: &mut [u8]) {
    if dtype == engine_format::DType::F64 {
        let wide: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        f64::store(dtype, &wide, bytes);
    } else {
        f32::store(dtype, values, bytes);
    }
}
