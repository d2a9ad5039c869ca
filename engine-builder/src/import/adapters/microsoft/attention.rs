//! The attentions of ONNX Runtime: over separate or packed operands, with caches, padding and causal masks, and with groups
//! of queries that share keys.

use super::caches::{Beams, Cache};
use super::{row, without};
use crate::import::adapters::Adapter;
use crate::import::adapters::attention::{
    as_bias, capped, iota, joined_heads, not_later, raw_scores, repeated_heads, split_heads,
    swapped,
};
use crate::import::adapters::quantize::centred;
use crate::import::adapters::rotary::Angles;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;
use half::f16;

pub(in crate::import::adapters) static ROWS: &[Adapter] = &[
    row("MultiHeadAttention", multi_head),
    row("DecoderMaskedMultiHeadAttention", decoder_masked),
    row("Attention", of_one_projection),
    row("QAttention", of_one_quantised_projection),
    row("GroupQueryAttention", group_query),
];

/// Queries, keys and values as (batch, heads, length, size).
pub(super) struct Heads {
    pub(super) q: ValueId,
    pub(super) k: ValueId,
    pub(super) v: ValueId,
}

impl Heads {
    /// `softmax(scale · Q·Kᵀ, capped, + biases) · V` as (batch, length, heads · size). What the softmax is over is result
    /// `scores_at`, if the node has such a result and the model asks for it.
    fn attend(
        &self,
        call: &mut Call<'_>,
        biases: &[ValueId],
        scores_at: Option<usize>,
    ) -> Result<Last, OpError> {
        let dtype = call.facts(self.q).dtype;
        let (q, k, v) = (call.widened(self.q)?, call.widened(self.k)?, call.widened(self.v)?);
        let mut scores = raw_scores(call, q, k)?;
        scores = capped(call, scores)?;
        for &bias in biases {
            let bias = call.widened(bias)?;
            scores = call.emit("Add", [scores, bias], vec![])?;
        }
        if let Some(result) = scores_at.filter(|&result| call.asks_for(result)) {
            // Where nothing is seen ONNX Runtime gives the least number of the type.
            let least = if dtype == DType::F16 { f64::from(f16::MIN) } else { f64::from(f32::MIN) };
            let least = call.scalar_like(scores, least)?;
            let given = call.emit("Max", [scores, least], vec![])?;
            let given = call.cast(given, dtype)?;
            call.give(result, given);
        }
        let shares = call.emit("Softmax", [scores], vec![("axis", Attr::Int(-1))])?;
        let v = repeated_heads(call, v, q)?;
        let y = call.emit("MatMul", [shares, v], vec![])?;
        let y = call.cast(y, dtype)?;
        joined_heads(call, y)
    }

    /// What is added to the scores for a mask of what is padding, and where `unidirectional` keeps a query from later keys;
    /// `past` is how many keys come before the first query.
    fn masks(
        &self,
        call: &mut Call<'_>,
        mask: Option<ValueId>,
        past: Option<ValueId>,
    ) -> Result<Vec<ValueId>, OpError> {
        let dtype = call.facts(self.q).dtype;
        let mut biases = Vec::new();
        let filter = call.float("mask_filter_value", -10000.0)?;
        if let Some(mask) = mask {
            let real = self.real_keys(call, mask)?;
            let (zero, filter) =
                (call.scalar_of(dtype, 0.0)?, call.scalar_of(dtype, f64::from(filter))?);
            biases.push(call.emit("Where", [real, zero, filter], vec![])?);
        }
        if call.int("unidirectional", 0)? != 0 {
            let allowed = not_later(call, self.q, self.k, past)?;
            biases.push(as_bias(call, allowed, dtype)?);
        }
        Ok(biases)
    }

    /// Whether keys are no padding, to be stretched to (batch, heads, queries, keys): the mask has a length for each text, a
    /// number for each key, or one for each pair.
    fn real_keys(&self, call: &mut Call<'_>, mask: ValueId) -> Result<ValueId, OpError> {
        let rank = call.rank(mask)?;
        if rank == 1 {
            let first = |call: &Call<'_>, id| call.facts(id).shape.as_ref()?.first().cloned();
            if first(call, mask) != first(call, self.q) {
                return Err(OpError::new(
                    "a mask of rank 1 must have one length for each text; lengths with starts are not taken",
                ));
            }
            let (behind, keys) = (call.vector(&[1, 2, 3]), call.sizes(self.k, 2, 3)?);
            let lengths = call.cast(mask, DType::I64)?;
            let lengths = call.emit("Unsqueeze", [lengths, behind], vec![])?;
            let places = iota(call, keys)?;
            return call.emit("Less", [places, lengths], vec![]);
        }
        let new: &[i64] = match rank {
            2 => &[1, 2],
            3 => &[1],
            _ => return Err(OpError::new(format!("a mask of rank {rank}, expected 1, 2 or 3"))),
        };
        let new = call.vector(new);
        let real = call.cast(mask, DType::Bool)?;
        call.emit("Unsqueeze", [real, new], vec![])
    }
}

/// Elements `from..to` along one axis.
fn part(
    call: &mut Call<'_>,
    x: ValueId,
    axis: i64,
    from: i64,
    to: i64,
) -> Result<ValueId, OpError> {
    let [from, to, axis] = [from, to, axis].map(|n| call.vector(&[n]));
    call.emit("Slice", [x, from, to, axis], vec![])
}

/// One index of an axis, which goes.
fn pick(call: &mut Call<'_>, x: ValueId, axis: i64, index: i64) -> Result<ValueId, OpError> {
    let index = call.literal(Tensor::from_slice(&[], &[index]));
    call.emit("Gather", [x, index], vec![("axis", Attr::Int(axis))])
}

fn width(call: &Call<'_>, x: ValueId, what: &str) -> Result<i64, OpError> {
    let last = call.facts(x).shape.as_ref().and_then(|shape| shape.last()?.known());
    last.ok_or_else(|| OpError::new(format!("the last axis of {what} must be known")))
}

/// query, key, value, bias, key_padding_mask, attention_bias, past_key, past_value, past_sequence_length, cache_indirection; query
/// alone may hold all three, key may hold values too, and both may be a cache already split into heads.
fn multi_head(call: &mut Call<'_>) -> Result<Last, OpError> {
    without(call, &[(9, "cache_indirection")], &[])?;
    let heads = call.int("num_heads", 0)?;
    let mut all = separate(call, heads, 3)?;
    let cache = Cache::new(call, call.opt(8))?;
    let mut past = None;
    if let (Some(past_key), Some(past_value)) = (call.opt(6), call.opt(7)) {
        past = Some(cache.length(call, past_key)?);
        all = cache.join(call, all, [past_key, past_value])?;
    } else {
        call.give(1, all.k);
        call.give(2, all.v);
    }
    let mut biases = all.masks(call, call.opt(4), past)?;
    biases.extend(call.opt(5));
    all.attend(call, &biases, Some(3))
}

/// query, key, value, mask_index, attention_bias, past_key, past_value, past_sequence_length, beam_width, cache_indirection, bias:
/// one query for each text, over its own cache or over one of another sequence.
fn decoder_masked(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("output_qk");
    let heads = call.int("num_heads", 0)?;
    let mut all = separate(call, heads, 10)?;
    let shared = call.int("past_present_share_buffer", 0)? != 0;
    let cache = Cache::new(call, call.opt(7).filter(|_| shared))?;
    if let (Some(past_key), Some(past_value)) = (call.opt(5), call.opt(6)) {
        let past = cache.length(call, past_key)?;
        all = cache.join(call, all, [past_key, past_value])?;
        // Without a beam width there is one beam, and nothing to look up.
        if let (Some(beams), Some(_)) = (call.opt(9), call.opt(8)) {
            let beams = Beams::new(call, beams, past, all.q)?;
            all.k = beams.pick(call, all.k)?;
            all.v = beams.pick(call, all.v)?;
        }
    }
    let mut biases = all.masks(call, call.opt(3), None)?;
    biases.extend(call.opt(4));
    all.attend(call, &biases, Some(3))
}

/// Queries, keys and values, the first three operands, split into heads; the biases in operand `bias_at` are added.
fn separate(call: &mut Call<'_>, heads: i64, bias_at: usize) -> Result<Heads, OpError> {
    let (query, bias) = (call.input(0)?, call.opt(bias_at));
    if call.rank(query)? == 5 {
        without(call, &[(bias_at, "bias")], &[])?;
        // (batch, length, heads, 3, size)
        let mut one = |index| {
            let x = pick(call, query, 3, index)?;
            swapped(call, x)
        };
        return Ok(Heads { q: one(0)?, k: one(1)?, v: one(2)? });
    }
    let (query, key, value) = match call.opt(1) {
        Some(key) => (query, key, call.opt(2)),
        None => {
            let one = width(call, query, "query")? / 3;
            let mut own = |i| part(call, query, 2, i * one, (i + 1) * one);
            (own(0)?, own(1)?, Some(own(2)?))
        }
    };
    let hidden = width(call, query, "query")?;
    let split = |call: &mut Call<'_>, x: ValueId, (from, to): (i64, i64)| {
        let x = match bias {
            Some(bias) => {
                let bias = part(call, bias, 0, from, to)?;
                call.emit("Add", [x, bias], vec![])?
            }
            None => x,
        };
        split_heads(call, x, heads)
    };
    let q = split(call, query, (0, hidden))?;
    if call.rank(key)? == 5 {
        without(call, &[(bias_at, "bias")], &[])?;
        // (batch, length, heads, 2, size)
        let (k, v) = (pick(call, key, 3, 0)?, pick(call, key, 3, 1)?);
        return Ok(Heads { q, k: swapped(call, k)?, v: swapped(call, v)? });
    }
    let value = value.ok_or_else(|| OpError::new("operand 2 is missing"))?;
    if call.rank(key)? == 4 {
        return Ok(Heads { q, k: key, v: value });
    }
    let k = split(call, key, (hidden, 2 * hidden))?;
    Ok(Heads { q, k, v: split(call, value, (2 * hidden, i64::MAX))? })
}

/// input, weights, bias, mask_index, past, attention_bias.
fn of_one_projection(call: &mut Call<'_>) -> Result<Last, OpError> {
    let mut projected = call.emit("MatMul", [call.input(0)?, call.input(1)?], vec![])?;
    if let Some(bias) = call.opt(2) {
        projected = call.emit("Add", [projected, bias], vec![])?;
    }
    let shared = call.int("past_present_share_buffer", 0)? != 0;
    let cache = Cache::new(call, call.opt(6).filter(|_| shared))?;
    attend_to_itself(call, projected, call.opt(3), (cache, call.opt(4)), call.opt(5))
}

/// input, weight, bias, input_scale, weight_scale, mask_index, input_zero_point, weight_zero_point, past.
fn of_one_quantised_projection(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = centred(call, call.input(0)?, call.opt(6), DType::I32)?;
    let weight = centred(call, call.input(1)?, call.opt(7), DType::I32)?;
    let sums = call.emit("MatMul", [x, weight], vec![])?;
    let bias = call.input(2)?;
    let dtype = call.facts(bias).dtype;
    let sums = call.cast(sums, dtype)?;
    call.scales(call.input(1)?, call.input(4)?, call.opt(7));
    let scale = call.emit("Mul", [call.input(3)?, call.input(4)?], vec![])?;
    let scaled = call.emit("Mul", [sums, scale], vec![])?;
    let projected = call.emit("Add", [scaled, bias], vec![])?;
    let cache = Cache::new(call, None)?;
    attend_to_itself(call, projected, call.opt(5), (cache, call.opt(8)), None)
}

/// Attention over queries, keys and values that lie side by side; what came before is one tensor for keys and values.
fn attend_to_itself(
    call: &mut Call<'_>,
    projected: ValueId,
    mask: Option<ValueId>,
    (cache, past): (Cache, Option<ValueId>),
    bias: Option<ValueId>,
) -> Result<Last, OpError> {
    let heads = call.int("num_heads", 0)?;
    let all = width(call, projected, "weights")?;
    let widths = match call.ints("qkv_hidden_sizes")? {
        Some(&[q, k, v]) => [q, k, v],
        Some(other) => {
            return Err(OpError::new(format!("qkv_hidden_sizes is {other:?}, expected three")));
        }
        None => [all / 3; 3],
    };
    let mut from = 0;
    let mut split = [projected; 3];
    for (slot, width) in split.iter_mut().zip(widths) {
        let own = part(call, projected, 2, from, from + width)?;
        *slot = split_heads(call, own, heads)?;
        from += width;
    }
    let [q, k, v] = split;
    let mut own = Heads { q, k, v };
    let past = match past {
        Some(past) => Some([pick(call, past, 0, 0)?, pick(call, past, 0, 1)?]),
        None => None,
    };
    let before = past.map(|[keys, _]| cache.length(call, keys)).transpose()?;
    let turned = call.int("rotary_embedding_dim", 0)?;
    if call.int("do_rotary", 0)? != 0 {
        let size = if turned > 0 { turned } else { widths[0] / heads };
        let angles = Angles::of_places(call, own.q, before, size)?;
        own.q = angles.turn(call, own.q)?;
        own.k = angles.turn(call, own.k)?;
    }
    let mut kept = [own.k, own.v];
    if let Some(past) = past {
        (own, kept) = cache.joined(call, own, past)?;
    }
    if call.asks_for(1) {
        let front = call.vector(&[0]);
        let [k, v] = kept;
        let k = call.emit("Unsqueeze", [k, front], vec![])?;
        let v = call.emit("Unsqueeze", [v, front], vec![])?;
        let present = call.emit("Concat", [k, v], vec![("axis", Attr::Int(0))])?;
        call.give(1, present);
    }
    let mut biases = own.masks(call, mask, before)?;
    biases.extend(bias);
    own.attend(call, &biases, None)
}

/// query (or all three packed), key, value, past_key, past_value, seqlens_k, total_sequence_length, cos_cache, sin_cache,
/// position_ids, attention_bias: causal attention with a cache that each text of the batch has filled to its own length,
/// `seqlens_k + 1` with the new keys in it.
fn group_query(call: &mut Call<'_>) -> Result<Last, OpError> {
    without(call, &[(11, "head_sink"), (12, "k_scale"), (13, "v_scale")], &[3])?;
    refuse_newer_forms(call)?;
    let mut all = grouped(call)?;
    let cached = filled(call, &all)?;
    let new = call.sizes(all.q, 2, 3)?;
    let steps = iota(call, new)?;
    let places = call.emit("Add", [cached, steps], vec![])?;
    if call.int("do_rotary", 0)? != 0 {
        let positions = call.opt(9).unwrap_or(places);
        let angles = Angles::read(call, [7, 8], Some(positions))?;
        all.q = angles.turn(call, all.q)?;
        all.k = angles.turn(call, all.k)?;
    }
    if let (Some(past_key), Some(past_value)) = (call.opt(3), call.opt(4)) {
        let joint = Joint::new(call, past_key, all.k, cached)?;
        all.k = joint.fill(call, past_key, all.k)?;
        all.v = joint.fill(call, past_value, all.v)?;
    }
    call.give(1, all.k);
    call.give(2, all.v);
    let keys = call.sizes(all.k, 2, 3)?;
    let mut biases = vec![window(call, places, keys, all.q)?];
    biases.extend(call.opt(10));
    all.attend(call, &biases, None)
}

/// An error for attributes that ask for another softmax or for quantised caches.
fn refuse_newer_forms(call: &mut Call<'_>) -> Result<(), OpError> {
    for name in ["smooth_softmax", "qk_output", "kv_cache_bit_width"] {
        if call.int(name, 0)? > 0 {
            return Err(OpError::new(format!("attribute {name:?} is set, which is not taken")));
        }
    }
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = call.str(name, "NONE")?;
        if kind != "NONE" {
            return Err(OpError::new(format!("attribute {name:?} is {kind:?}, expected NONE")));
        }
    }
    Ok(())
}

/// How much of the cache each text has filled, as a column: nothing in a prompt, whose texts may be shorter than the longest.
fn filled(call: &mut Call<'_>, all: &Heads) -> Result<ValueId, OpError> {
    let (new, lengths) = (call.sizes(all.q, 2, 3)?, call.input(5)?);
    let lengths = call.cast(lengths, DType::I64)?;
    let flat = call.vector(&[-1]);
    let lengths = call.emit("Reshape", [lengths, flat], vec![])?;
    let (one, zero) = (call.vector(&[1]), call.vector(&[0]));
    let cached = call.emit("Sub", [lengths, new], vec![])?;
    let cached = call.emit("Add", [cached, one], vec![])?;
    let cached = call.emit("Max", [cached, zero], vec![])?;
    let behind = call.vector(&[1]);
    call.emit("Unsqueeze", [cached, behind], vec![])
}

/// The operands of [`group_query`] split into heads.
fn grouped(call: &mut Call<'_>) -> Result<Heads, OpError> {
    let query = call.input(0)?;
    let (heads, shared) = (call.int("num_heads", 0)?, call.int("kv_num_heads", 0)?);
    if heads <= 0 || shared <= 0 || heads % shared != 0 {
        return Err(OpError::new(format!("{heads} heads of queries over {shared} of keys")));
    }
    if let (Some(key), Some(value)) = (call.opt(1), call.opt(2)) {
        let q = split_heads(call, query, heads)?;
        return Ok(Heads {
            q,
            k: split_heads(call, key, shared)?,
            v: split_heads(call, value, shared)?,
        });
    }
    let all = shared.checked_mul(2).and_then(|both| both.checked_add(heads));
    let width = width(call, query, "query")?;
    let size = all.filter(|all| width % all == 0).map(|all| width / all).ok_or_else(|| {
        OpError::new(format!(
            "query holds {width} numbers, expected as many for each of {heads} heads of queries and {shared} each of keys and values"
        ))
    })?;
    let mut take = |from: i64, count: i64| {
        let own = part(call, query, 2, from * size, (from + count) * size)?;
        split_heads(call, own, count)
    };
    Ok(Heads { q: take(0, heads)?, k: take(heads, shared)?, v: take(heads + shared, shared)? })
}

/// A cache and what joins it, when texts of a batch have filled the cache to different lengths.
struct Joint {
    /// Of each text and each place, where it is in the cache followed by what is new: (batch, 1, places, 1).
    from: ValueId,
}

impl Joint {
    fn new(
        call: &mut Call<'_>,
        past: ValueId,
        new: ValueId,
        cached: ValueId,
    ) -> Result<Self, OpError> {
        let (room, count) = (call.sizes(past, 2, 3)?, call.sizes(new, 2, 3)?);
        // A cache with room to spare keeps its size.
        let total = call.cast(call.input(6)?, DType::I64)?;
        let flat = call.vector(&[-1]);
        let total = call.emit("Reshape", [total, flat], vec![])?;
        let size = call.emit("Max", [room, total], vec![])?;
        let places = iota(call, size)?;
        let begun = call.emit("Less", [places, cached], vec![])?;
        let beyond = call.emit("Sub", [places, cached], vec![])?;
        let one = call.vector(&[1]);
        let last = call.emit("Sub", [count, one], vec![])?;
        // Places behind the new ones are not read; what is in the cache there stays, as far as it goes.
        let fresh = call.emit("LessOrEqual", [beyond, last], vec![])?;
        let behind = call.emit("Add", [beyond, room], vec![])?;
        let end = call.emit("Add", [room, last], vec![])?;
        let stale = call.emit("Min", [places, end], vec![])?;
        let from = call.emit("Where", [fresh, behind, stale], vec![])?;
        let from = call.emit("Where", [begun, places, from], vec![])?;
        let axes = call.vector(&[1, 3]);
        Ok(Self { from: call.emit("Unsqueeze", [from, axes], vec![])? })
    }

    fn fill(&self, call: &mut Call<'_>, past: ValueId, new: ValueId) -> Result<ValueId, OpError> {
        let joined = call.emit("Concat", [past, new], vec![("axis", Attr::Int(2))])?;
        let (batch, heads) = (call.sizes(joined, 0, 1)?, call.sizes(joined, 1, 2)?);
        let (places, size) = (call.sizes(self.from, 2, 3)?, call.sizes(joined, 3, 4)?);
        let parts = vec![Some(batch), Some(heads), Some(places), Some(size)];
        let shape = call.last("Concat", parts, vec![("axis", Attr::Int(0))])?;
        let shape = call.emit_last(shape)?;
        let from = call.emit("Expand", [self.from, shape], vec![])?;
        call.emit("GatherElements", [joined, from], vec![("axis", Attr::Int(2))])
    }
}

/// What keeps queries at `places` (batch, length) from later keys, and from those farther back than `local_window_size`.
fn window(
    call: &mut Call<'_>,
    places: ValueId,
    keys: ValueId,
    q: ValueId,
) -> Result<ValueId, OpError> {
    let axes = call.vector(&[1, 3]);
    let own = call.emit("Unsqueeze", [places, axes], vec![])?;
    let others = iota(call, keys)?;
    let allowed = call.emit("LessOrEqual", [others, own], vec![])?;
    let dtype = call.facts(q).dtype;
    let bias = as_bias(call, allowed, dtype)?;
    let reach = call.int("local_window_size", -1)?;
    if reach <= 0 {
        return Ok(bias);
    }
    let reach = call.vector(&[reach]);
    let first = call.emit("Sub", [own, reach], vec![])?;
    let near = call.emit("Greater", [others, first], vec![])?;
    let near = as_bias(call, near, dtype)?;
    call.emit("Add", [bias, near], vec![])
}
