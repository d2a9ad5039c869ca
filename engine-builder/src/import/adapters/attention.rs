//! Attention and what goes with it, in terms of matrix products and softmax.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Attention", ALL, attention),
    Adapter { domain: "ai.onnx.preview", ..row("FlexAttention", ALL, flex_attention) },
    row("CausalConvWithState", ALL, causal_conv),
];

/// (batch, length, heads·size) ↔ (batch, heads, length, size).
const SWAP: [i64; 4] = [0, 2, 1, 3];

pub(super) fn swapped(call: &mut Call<'_>, x: ValueId) -> Result<ValueId, OpError> {
    call.emit("Transpose", [x], vec![("perm", Attr::Ints(SWAP.to_vec()))])
}

/// (batch, heads, length, size) → (batch, length, heads·size), as the last node.
pub(super) fn joined_heads(call: &mut Call<'_>, x: ValueId) -> Result<Last, OpError> {
    let x = swapped(call, x)?;
    let shape = call.vector(&[0, 0, -1]);
    call.finish("Reshape", [x, shape], vec![])
}

pub(super) fn split_heads(call: &mut Call<'_>, x: ValueId, heads: i64) -> Result<ValueId, OpError> {
    if heads <= 0 {
        return Err(OpError::new("operands of rank 3 need the number of heads as an attribute"));
    }
    let width = call.facts(x).shape.as_ref().and_then(|dims| dims.last()?.known());
    if let Some(width) = width.filter(|width| width % heads != 0) {
        return Err(OpError::new(format!(
            "rows of {width} elements, expected a multiple of the {heads} heads"
        )));
    }
    let shape = call.vector(&[0, 0, heads, -1]);
    let x = call.emit("Reshape", [x, shape], vec![])?;
    swapped(call, x)
}

/// `softmax(scale · Q·Kᵀ, capped, + bias) · V` for each head; the intermediate product, which a model may ask for, is taken
/// after as many of these steps as `qk_matmul_output_mode` says.
fn attention(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let flat = call.rank(q)? == 3;
    let (q_heads, kv_heads) = (call.int("q_num_heads", 0)?, call.int("kv_num_heads", 0)?);
    let (q, mut k, mut v) = match flat {
        true => {
            let q = split_heads(call, q, q_heads)?;
            (q, split_heads(call, k, kv_heads)?, split_heads(call, v, kv_heads)?)
        }
        false => (q, k, v),
    };
    let own = call.facts(q).dtype;
    if let (Some(past_key), Some(past_value)) = (call.opt(4), call.opt(5)) {
        k = call.emit("Concat", [past_key, k], vec![("axis", Attr::Int(2))])?;
        v = call.emit("Concat", [past_value, v], vec![("axis", Attr::Int(2))])?;
    }
    for (result, present) in [(1, k), (2, v)] {
        if call.asks_for(result) {
            let copy = call.emit("Identity", [present], vec![])?;
            call.give(result, copy);
        }
    }
    let (q, k, v) = (call.widened(q)?, call.widened(k)?, call.widened(v)?);
    let dtype = call.facts(q).dtype;
    let mode = call.int("qk_matmul_output_mode", 0)?;
    let mut scores = raw_scores(call, q, k)?;
    give_scores(call, mode == 0, scores, own)?;
    scores = capped(call, scores)?;
    give_scores(call, mode == 1, scores, own)?;
    let bias = bias(call, q, k, dtype)?;
    if let Some(bias) = bias {
        scores = call.emit("Add", [scores, bias], vec![])?;
    }
    // Without a mask every query sees the first key.
    let blind = match bias.filter(|_| call.opt(3).is_some() || call.opt(6).is_some()) {
        Some(bias) => Some(sees_nothing(call, bias, dtype)?),
        None => None,
    };
    give_scores(call, mode == 2, scores, own)?;
    let precision = call.element_type("softmax_precision")?.unwrap_or(dtype);
    let scores = call.cast(scores, precision)?;
    let shares = call.emit("Softmax", [scores], vec![("axis", Attr::Int(-1))])?;
    let shares = call.cast(shares, dtype)?;
    if mode == 3 && call.asks_for(3) {
        let given = call.last("Identity", vec![Some(shares)], vec![])?;
        let given = zero_where(call, blind, given, dtype)?;
        let given = call.emit_last(given)?;
        let given = call.cast(given, own)?;
        call.give(3, given);
    }
    let v = repeated_heads(call, v, q)?;
    let y = call.last("MatMul", vec![Some(shares), Some(v)], vec![])?;
    let y = zero_where(call, blind, y, dtype)?;
    let y = call.narrowed(y, own)?;
    if !flat {
        return Ok(y);
    }
    let y = call.emit_last(y)?;
    joined_heads(call, y)
}

/// For each query whether the bias keeps it from every key.
fn sees_nothing(call: &mut Call<'_>, bias: ValueId, dtype: DType) -> Result<ValueId, OpError> {
    let axis = call.vector(&[-1]);
    let most = call.emit("ReduceMax", [bias, axis], vec![("keepdims", Attr::Int(1))])?;
    let never = call.scalar_of(dtype, f64::NEG_INFINITY)?;
    call.emit("Equal", [most, never], vec![])
}

/// What `node` gives, but zeros in the rows where `blind` holds: the standard wants them, where a softmax has NaN.
fn zero_where(
    call: &mut Call<'_>,
    blind: Option<ValueId>,
    node: Last,
    dtype: DType,
) -> Result<Last, OpError> {
    let Some(blind) = blind else { return Ok(node) };
    let (y, zero) = (call.emit_last(node)?, call.scalar_of(dtype, 0.0)?);
    call.finish("Where", [blind, zero, y], vec![])
}

/// The scores held between ±`softcap`, if there is such an attribute above 0.
pub(super) fn capped(call: &mut Call<'_>, scores: ValueId) -> Result<ValueId, OpError> {
    let cap = call.float("softcap", 0.0)?;
    if cap <= 0.0 {
        return Ok(scores);
    }
    let cap = call.scalar_like(scores, f64::from(cap))?;
    let share = call.emit("Div", [scores, cap], vec![])?;
    let bent = call.emit("Tanh", [share], vec![])?;
    call.emit("Mul", [bent, cap], vec![])
}

/// Attention with graphs that change the scores and the shares.
fn flex_attention(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let dtype = call.facts(v).dtype;
    let precision = match call.element_type("softmax_precision")? {
        Some(precision) => precision,
        None if dtype == DType::F64 => dtype,
        None => DType::F32,
    };
    let (q, k) = (call.cast(q, precision)?, call.cast(k, precision)?);
    let mut scores = raw_scores(call, q, k)?;
    if let Some(changed) = call.inline("score_mod", &[scores])? {
        scores = only(&changed)?;
    }
    let mut shares = call.emit("Softmax", [scores], vec![("axis", Attr::Int(-1))])?;
    if let Some(changed) = call.inline("prob_mod", &[shares])? {
        shares = only(&changed)?;
    }
    let v = repeated_heads(call, v, q)?;
    let v = call.cast(v, precision)?;
    let y = call.emit("MatMul", [shares, v], vec![])?;
    let y = call.cast(y, dtype)?;
    call.finish("Identity", [y], vec![])
}

fn only(results: &[ValueId]) -> Result<ValueId, OpError> {
    match results {
        [one] => Ok(*one),
        many => Err(OpError::new(format!("the graph has {} results, expected one", many.len()))),
    }
}

fn give_scores(
    call: &mut Call<'_>,
    here: bool,
    scores: ValueId,
    dtype: DType,
) -> Result<(), OpError> {
    if here && call.asks_for(3) {
        let scores = call.cast(scores, dtype)?;
        call.give(3, scores);
    }
    Ok(())
}

/// `Q·Kᵀ · scale`, half of the scale on either side as the standard has it, so that f16 does not overflow.
pub(super) fn raw_scores(call: &mut Call<'_>, q: ValueId, k: ValueId) -> Result<ValueId, OpError> {
    let scale = match call.float("scale", 0.0)? {
        0.0 => {
            let size = call.facts(q).shape.as_ref().and_then(|shape| shape.last()?.known());
            let size = size.ok_or_else(|| {
                OpError::new("without attribute \"scale\" the size of a head must be known")
            })?;
            1.0 / (size as f64).sqrt()
        }
        scale => f64::from(scale),
    };
    let half = call.scalar_like(q, scale.sqrt())?;
    let k = repeated_heads(call, k, q)?;
    let q = call.emit("Mul", [q, half], vec![])?;
    let k = call.emit("Mul", [k, half], vec![])?;
    let transposed = call.emit("Transpose", [k], vec![("perm", Attr::Ints(vec![0, 1, 3, 2]))])?;
    call.emit("MatMul", [q, transposed], vec![])
}

/// Keys or values with each head repeated for the queries that share it.
pub(super) fn repeated_heads(
    call: &mut Call<'_>,
    x: ValueId,
    q: ValueId,
) -> Result<ValueId, OpError> {
    let heads = |call: &Call<'_>, id| call.facts(id).shape.as_ref()?.get(1)?.known();
    if let (Some(own), Some(all)) = (heads(call, x), heads(call, q))
        && own == all
    {
        return Ok(x);
    }
    let (own, all) = (call.sizes(x, 1, 2)?, call.sizes(q, 1, 2)?);
    let times = call.emit("Div", [all, own], vec![])?;
    let (batch, rest) = (call.sizes(x, 0, 2)?, call.sizes(x, 2, 4)?);
    let wide = call.emit("Concat", [batch, times, rest], vec![("axis", Attr::Int(0))])?;
    let batch = call.sizes(x, 0, 1)?;
    let shape = call.emit("Concat", [batch, all, rest], vec![("axis", Attr::Int(0))])?;
    let axis = call.vector(&[2]);
    let x = call.emit("Unsqueeze", [x, axis], vec![])?;
    let x = call.emit("Expand", [x, wide], vec![])?;
    call.emit("Reshape", [x, shape], vec![])
}

/// What is added to the scores: the mask, and −∞ where a query must not look.
fn bias(
    call: &mut Call<'_>,
    q: ValueId,
    k: ValueId,
    dtype: DType,
) -> Result<Option<ValueId>, OpError> {
    let mut parts = Vec::new();
    if let Some(mask) = call.opt(3) {
        parts.push(full_mask(call, mask, k, dtype)?);
    }
    let keys = call.sizes(k, 2, 3)?;
    if call.int("is_causal", 0)? != 0 {
        let before = keys_before(call, q)?;
        let allowed = not_later(call, q, k, before)?;
        parts.push(as_bias(call, allowed, dtype)?);
    }
    if let Some(lengths) = call.opt(6) {
        let axes = call.vector(&[1, 2, 3]);
        let lengths = call.emit("Unsqueeze", [lengths, axes], vec![])?;
        let others = iota(call, keys)?;
        let real = call.emit("Less", [others, lengths], vec![])?;
        parts.push(as_bias(call, real, dtype)?);
    }
    let mut parts = parts.into_iter();
    let Some(mut sum) = parts.next() else { return Ok(None) };
    for part in parts {
        sum = call.emit("Add", [sum, part], vec![])?;
    }
    Ok(Some(sum))
}

/// How many keys come before the first query: those of the cache or, where the cache is kept outside and holds the keys of the
/// queries too, those that count less the queries, for each text (batch, 1, 1).
fn keys_before(call: &mut Call<'_>, q: ValueId) -> Result<Option<ValueId>, OpError> {
    if let Some(past) = call.opt(4) {
        return call.sizes(past, 2, 3).map(Some);
    }
    let Some(lengths) = call.opt(6) else { return Ok(None) };
    let queries = call.sizes(q, 2, 3)?;
    let before = call.emit("Sub", [lengths, queries], vec![])?;
    let axes = call.vector(&[1, 2]);
    call.emit("Unsqueeze", [before, axes], vec![]).map(Some)
}

/// Whether a key is not later than the query, for each pair; `past` is how many keys come before the first query, as a vector of
/// one element or for each text (batch, 1, 1).
pub(super) fn not_later(
    call: &mut Call<'_>,
    q: ValueId,
    k: ValueId,
    past: Option<ValueId>,
) -> Result<ValueId, OpError> {
    let (queries, keys) = (call.sizes(q, 2, 3)?, call.sizes(k, 2, 3)?);
    let mut own = iota(call, queries)?;
    if let Some(past) = past {
        own = call.emit("Add", [own, past], vec![])?;
    }
    let column = call.vector(&[-1]);
    let own = call.emit("Unsqueeze", [own, column], vec![])?;
    let others = iota(call, keys)?;
    call.emit("LessOrEqual", [others, own], vec![])
}

/// The mask as a bias, with −∞ for keys beyond those it speaks of.
fn full_mask(
    call: &mut Call<'_>,
    mask: ValueId,
    k: ValueId,
    dtype: DType,
) -> Result<ValueId, OpError> {
    let last =
        call.rank(mask)?.checked_sub(1).ok_or_else(|| OpError::new("the mask is a scalar"))?;
    let size = |call: &Call<'_>, id, axis: usize| call.facts(id).shape.as_ref()?.get(axis).cloned();
    let same = size(call, mask, last).is_some_and(|n| size(call, k, 2) == Some(n));
    let mask = match call.facts(mask).dtype {
        DType::Bool => as_bias(call, mask, dtype)?,
        _ => call.cast(mask, dtype)?,
    };
    if same {
        return Ok(mask);
    }
    let (has, all) = (call.sizes(mask, last as i64, last as i64 + 1)?, call.sizes(k, 2, 3)?);
    let lacks = call.emit("Sub", [all, has], vec![])?;
    let zero = call.vector(&[0]);
    let pads = call.emit("Concat", [zero, lacks], vec![("axis", Attr::Int(0))])?;
    let (never, axis) = (call.scalar_like(mask, f64::NEG_INFINITY)?, call.vector(&[last as i64]));
    call.emit("Pad", [mask, pads, never, axis], vec![])
}

/// 0 where `allowed`, else −∞.
pub(super) fn as_bias(
    call: &mut Call<'_>,
    allowed: ValueId,
    dtype: DType,
) -> Result<ValueId, OpError> {
    let (zero, never) = (call.scalar_of(dtype, 0.0)?, call.scalar_of(dtype, f64::NEG_INFINITY)?);
    call.emit("Where", [allowed, zero, never], vec![])
}

/// `0, 1, 2 …`, as many as the vector `count` of one element says.
pub(super) fn iota(call: &mut Call<'_>, count: ValueId) -> Result<ValueId, OpError> {
    let one = call.literal(Tensor::from_slice(&[], &[1i64]));
    let ones = call.emit("Expand", [one, count], vec![])?;
    let axis = call.literal(Tensor::from_slice(&[], &[0i64]));
    call.emit("CumSum", [ones, axis], vec![("exclusive", Attr::Int(1))])
}

/// A convolution along the length, one filter for each channel, that sees only what came before; what it saw last is the state.
fn causal_conv(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, weight, shift) = (call.input(0)?, call.input(1)?, call.opt(2));
    let sizes = call.facts(weight).concrete();
    let Some(&[channels, _, length]) = sizes.as_deref() else {
        return Err(OpError::new("the shape of the weight must be known and of rank 3"));
    };
    let before = length as i64 - 1;
    let padded = match call.opt(3) {
        Some(past) => call.emit("Concat", [past, x], vec![("axis", Attr::Int(2))])?,
        None => {
            let (pads, zero) = (call.vector(&[0, 0, before, 0, 0, 0]), call.scalar_like(x, 0.0)?);
            call.emit("Pad", [x, pads, zero], vec![])?
        }
    };
    if call.asks_for(1) {
        // With a filter of one element the state is empty; counting from the end would take all of it.
        let (from, to) = if before == 0 { (0, 0) } else { (-before, i64::MAX) };
        let [from, to, axis] = [from, to, 2].map(|n| call.vector(&[n]));
        let state = call.emit("Slice", [padded, from, to, axis], vec![])?;
        call.give(1, state);
    }
    let operands = vec![Some(padded), Some(weight), shift];
    let conv = call.last("Conv", operands, vec![("group", Attr::Int(channels as i64))])?;
    match call.str("activation", "none")? {
        "none" => Ok(conv),
        "silu" | "swish" => {
            let y = call.emit_last(conv)?;
            let share = call.emit("Sigmoid", [y], vec![])?;
            call.finish("Mul", [y, share], vec![])
        }
        other => Err(OpError::new(format!("activation {other:?}, expected none, silu or swish"))),
    }
}
