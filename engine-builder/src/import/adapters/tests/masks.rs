//! Causal masks of every attention, with caches, for whole prompts, chunks of prompts and single tokens, held to a loop that is
//! written from the operators' texts.

use crate::testing::{Onnx, int, run, value};
use crate::{BuildOptions, build};
use engine_format::Tensor;

/// Numbers in −1..1 that differ from element to element and from `seed` to `seed`.
fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let number = |i: usize| ((i * 37 + seed * 29 + 11) % 101) as f32 / 50.0 - 1.0;
    Tensor::from_slice(shape, &(0..n).map(number).collect::<Vec<f32>>())
}

fn floats(tensor: &Tensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap()
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    heads: usize,
    /// Heads of keys and values.
    shared: usize,
    queries: usize,
    keys: usize,
    size: usize,
}

impl Sizes {
    /// The attention of queries, keys and values that are (batch, heads, length, size), as (batch, queries, heads · size): for each
    /// query the keys to which `bias` gives a number, which is added to their scores. A query without any gets zeros.
    fn attend(
        self,
        [q, k, v]: [&[f32]; 3],
        bias: impl Fn(usize, usize, usize) -> Option<f32>,
    ) -> Vec<f32> {
        let Self { batch, heads, shared, queries, keys, size } = self;
        let mut out = vec![0.0; batch * queries * heads * size];
        for (b, h, i) in places(batch, heads, queries) {
            let source = b * shared + h / (heads / shared);
            let row = |x: &[f32], at: usize| x[at * size..][..size].to_vec();
            let query = row(q, (b * heads + h) * queries + i);
            let score = |j: usize| {
                let key = row(k, source * keys + j);
                let products = query.iter().zip(&key).map(|(&q, &k)| f64::from(q) * f64::from(k));
                Some(products.sum::<f64>() / (size as f64).sqrt() + f64::from(bias(b, i, j)?))
            };
            let scores: Vec<Option<f64>> = (0..keys).map(score).collect();
            let most = scores.iter().flatten().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let share = |score: &Option<f64>| score.map_or(0.0, |score| (score - most).exp());
            let shares: Vec<f64> = scores.iter().map(share).collect();
            let sum: f64 = shares.iter().sum();
            for c in 0..size {
                let mixed = |(j, share): (usize, &f64)| {
                    share * f64::from(v[(source * keys + j) * size + c])
                };
                let y: f64 = shares.iter().enumerate().map(mixed).sum();
                let y = if sum == 0.0 { 0.0 } else { y / sum };
                out[((b * queries + i) * heads + h) * size + c] = y as f32;
            }
        }
        out
    }
}

fn places(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / c / b, i / c % b, i % c))
}

/// (batch, heads, length, size) ← (batch, length, heads · size).
fn by_heads(x: &Tensor, heads: usize) -> Vec<f32> {
    let &[batch, length, width] = x.shape() else { panic!("of rank 3") };
    let (size, x) = (width / heads, floats(x));
    let at = |(b, h, i)| x[((b * length + i) * heads + h) * size..][..size].to_vec();
    places(batch, heads, length).flat_map(at).collect()
}

/// `past` and then `new` along the length of (batch·heads, length, size).
fn joined(past: &[f32], new: &[f32], rows: usize) -> Vec<f32> {
    let (a, b) = (past.len() / rows, new.len() / rows);
    let row = |r: usize| [&past[r * a..][..a], &new[r * b..][..b]].concat();
    (0..rows).flat_map(row).collect()
}

/// The first output, built with passes and without, of a model of one node over these operands, held to what is expected of
/// queries (batch, query) that count.
fn check(
    label: &str,
    model: Onnx,
    inputs: &[(&str, Tensor)],
    expected: &[f32],
    (sizes, counts): (Sizes, impl Fn(usize, usize) -> bool),
) {
    let declare = |model: Onnx, (name, tensor): &(&str, Tensor)| {
        model.input(&format!("{name}: {}{:?}", tensor.dtype(), tensor.shape()))
    };
    let model = inputs.iter().fold(model, declare).output("y").model();
    for optimise in [true, false] {
        let options = BuildOptions { optimise, ..BuildOptions::default() };
        let engine = build(&model, &options).unwrap_or_else(|error| panic!("{label}: {error}"));
        let y = run(&engine, inputs).remove(0);
        let found = match *y.shape() {
            [_, heads, length, size] => {
                let at = |(b, i, h)| {
                    floats(&y)[((b * heads + h) * length + i) * size..][..size].to_vec()
                };
                places(sizes.batch, length, heads).flat_map(at).collect()
            }
            _ => floats(&y).to_vec(),
        };
        assert_eq!(found.len(), expected.len(), "{label}");
        let width = sizes.heads * sizes.size;
        for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let (b, i) = (at / width / sizes.queries, at / width % sizes.queries);
            let close = (found - expected).abs() <= 2e-6;
            assert!(
                close || !counts(b, i),
                "{label}, passes: {optimise}: text {b}, query {i}: found {found}, expected {expected}"
            );
        }
    }
}

/// A mask of ONNX's Attention, and what it adds.
enum Mask {
    None,
    /// (queries, keys)
    Bool(usize),
    /// (batch, 1, queries, keys)
    Float,
}

const MASKS: [Mask; 4] = [Mask::None, Mask::Bool(7), Mask::Bool(6), Mask::Float];

impl Mask {
    fn tensor(&self, sizes: Sizes) -> Option<Tensor> {
        let Sizes { batch, queries, keys, .. } = sizes;
        match *self {
            Mask::None => None,
            Mask::Bool(keys) => {
                let seen: Vec<bool> = (0..queries * keys).map(|i| i % 3 != 1).collect();
                Some(Tensor::from_bools(&[queries, keys], &seen))
            }
            Mask::Float => Some(numbers(&[batch, 1, queries, keys], 9)),
        }
    }

    fn bias(
        &self,
        tensor: Option<&Tensor>,
        sizes: Sizes,
        (b, i, j): (usize, usize, usize),
    ) -> Option<f32> {
        match *self {
            Mask::None => Some(0.0),
            // Keys beyond the mask are not seen.
            Mask::Bool(keys) => (j < keys && (i * keys + j) % 3 != 1).then_some(0.0),
            Mask::Float => Some(floats(tensor?)[(b * sizes.queries + i) * sizes.keys + j]),
        }
    }
}

/// ONNX's Attention of opset 24 over a cache that is kept outside: key j counts if `j < nonpad`, and where it is causal, query i sees it
/// if `j <= i + nonpad - queries`.
#[test]
fn of_onnx_over_caches_kept_outside() {
    for (queries, causal) in [(1, 0), (1, 1), (3, 0), (3, 1), (7, 1)] {
        for lengths in [[7i64, 5], [3, 4], [2, 1], [6, 0]] {
            for (number, mask) in MASKS.iter().enumerate() {
                let sizes = Sizes { batch: 2, heads: 4, shared: 2, queries, keys: 7, size: 8 };
                let q = numbers(&[2, 4, queries, 8], 1);
                let (k, v) = (numbers(&[2, 2, 7, 8], 2), numbers(&[2, 2, 7, 8], 3));
                let given = mask.tensor(sizes);
                let expected = sizes.attend([floats(&q), floats(&k), floats(&v)], |b, i, j| {
                    let (at, before) = (j as i64, lengths[b] - queries as i64);
                    let seen = at < lengths[b] && (causal == 0 || at <= i as i64 + before);
                    mask.bias(given.as_ref(), sizes, (b, i, j)).filter(|_| seen)
                });
                let operands = if given.is_some() { "m" } else { "_" };
                let call = format!("y = Attention(q, k, v, {operands}, _, _, n)");
                let model = Onnx::new(24).node(&call, vec![int("is_causal", causal)]);
                let lengths_of = Tensor::from_slice(&[2], &lengths);
                let mut inputs = vec![("q", q), ("k", k), ("v", v), ("n", lengths_of)];
                inputs.extend(given.map(|mask| ("m", mask)));
                let label =
                    format!("{queries} queries, causal {causal}, {lengths:?}, mask {number}");
                check(&label, model, &inputs, &expected, (sizes, |_, _| true));
            }
        }
    }
}

/// ONNX's Attention with a cache of its own or none: query i sees key j if `j <= i + past`.
#[test]
fn of_onnx_over_caches_of_their_own() {
    for (past, queries, new) in [(0, 7, 7), (0, 3, 7), (4, 3, 3), (6, 1, 1), (2, 5, 5)] {
        for (number, mask) in MASKS.iter().enumerate() {
            let keys = past + new;
            let sizes = Sizes { batch: 2, heads: 4, shared: 2, queries, keys, size: 8 };
            let q = numbers(&[2, 4, queries, 8], 1);
            let (k, v) = (numbers(&[2, 2, new, 8], 2), numbers(&[2, 2, new, 8], 3));
            let (pk, pv) = (numbers(&[2, 2, past, 8], 4), numbers(&[2, 2, past, 8], 5));
            let given = mask.tensor(sizes);
            let all =
                [(&pk, &k), (&pv, &v)].map(|(past, new)| joined(floats(past), floats(new), 4));
            let expected = sizes.attend([floats(&q), &all[0], &all[1]], |b, i, j| {
                mask.bias(given.as_ref(), sizes, (b, i, j)).filter(|_| j <= i + past)
            });
            let operands = match (given.is_some(), past) {
                (false, 0) => "",
                (true, 0) => ", m",
                (false, _) => ", _, pk, pv",
                (true, _) => ", m, pk, pv",
            };
            let call = format!("y = Attention(q, k, v{operands})");
            let model = Onnx::new(24).node(&call, vec![int("is_causal", 1)]);
            let mut inputs = vec![("q", q), ("k", k), ("v", v)];
            inputs.extend((past > 0).then_some([("pk", pk), ("pv", pv)]).into_iter().flatten());
            inputs.extend(given.map(|mask| ("m", mask)));
            let label = format!("{queries} queries after {past} keys, mask {number}");
            check(&label, model, &inputs, &expected, (sizes, |_, _| true));
        }
    }
}

/// MultiHeadAttention and Attention of ONNX Runtime: with `unidirectional`, query i sees key j if `j <= i + past`; what is padding has
/// −10000 added.
#[test]
fn of_onnx_runtime_over_caches_of_their_own() {
    for (past, queries) in [(0, 7), (4, 3), (6, 1)] {
        for padded in [false, true] {
            let keys = past + queries;
            let sizes = Sizes { batch: 2, heads: 2, shared: 2, queries, keys, size: 8 };
            let real = |b: usize, j: usize| !padded || j != b;
            let flags: Vec<i32> = (0..2 * keys).map(|i| real(i / keys, i % keys).into()).collect();
            let mask = Tensor::from_slice(&[2, keys], &flags);
            let bias = |b, i, j| (j <= i + past).then_some(if real(b, j) { 0.0 } else { -10000.0 });
            let attrs = || vec![int("num_heads", 2), int("unidirectional", 1)];
            let label = format!("{queries} queries after {past} keys, padded: {padded}");

            let [q, k, v] = [1, 2, 3].map(|seed| numbers(&[2, queries, 16], seed));
            let (pk, pv) = (numbers(&[2, 2, past, 8], 4), numbers(&[2, 2, past, 8], 5));
            let all = [(&pk, &k), (&pv, &v)]
                .map(|(past, new)| joined(floats(past), &by_heads(new, 2), 4));
            let expected = sizes.attend([&by_heads(&q, 2), &all[0], &all[1]], bias);
            let m = if padded { "m" } else { "_" };
            let cache = if past > 0 { ", pk, pv" } else { "" };
            let call = format!("y = MultiHeadAttention(q, k, v, _, {m}, _{cache})");
            let model = Onnx::new(17).node(&call, attrs()).in_domain("com.microsoft");
            let mut inputs = vec![("q", q), ("k", k), ("v", v)];
            inputs.extend((past > 0).then_some([("pk", pk), ("pv", pv)]).into_iter().flatten());
            inputs.extend(padded.then(|| ("m", mask.clone())));
            check(&label, model, &inputs, &expected, (sizes, |_, _| true));

            // Queries, keys and values are one product; the cache is one tensor.
            let x = numbers(&[2, queries, 4], 6);
            let (w, p) = (numbers(&[4, 48], 7), numbers(&[2, 2, 2, past, 8], 8));
            let side = |first: usize| {
                let at = |(row, c)| -> f32 {
                    let terms =
                        (0..4).map(|t| floats(&x)[row * 4 + t] * floats(&w)[t * 48 + first + c]);
                    terms.sum()
                };
                let all = (0..2 * queries * 16).map(|i| at((i / 16, i % 16)));
                by_heads(&Tensor::from_slice(&[2, queries, 16], &all.collect::<Vec<_>>()), 2)
            };
            let (pk, pv) = floats(&p).split_at(floats(&p).len() / 2);
            let (k, v) = (joined(pk, &side(16), 4), joined(pv, &side(32), 4));
            let expected = sizes.attend([&side(0), &k, &v], bias);
            let cache = if past > 0 { ", p" } else { "" };
            let call = format!("y = Attention(x, w, _, {m}{cache})");
            let model = Onnx::new(17)
                .constant(value("w", &w))
                .node(&call, attrs())
                .in_domain("com.microsoft");
            let mut inputs = vec![("x", x)];
            inputs.extend((past > 0).then_some(("p", p)));
            inputs.extend(padded.then_some(("m", mask)));
            check(&label, model, &inputs, &expected, (sizes, |_, _| true));
        }
    }
}

/// GroupQueryAttention of ONNX Runtime: each text has filled the cache to a length of its own, `lengths` with the new keys in it, and
/// query i stands at `lengths - queries + i`, of a first prompt at i. It sees the keys up to there, and of these the last `window`.
#[test]
fn of_onnx_runtime_over_caches_of_many_lengths() {
    for (room, queries, lengths) in
        [(0, 5, [5, 3]), (8, 1, [6, 3]), (8, 3, [8, 5]), (8, 4, [4, 4]), (6, 2, [4, 8])]
    {
        for window in [-1, 2] {
            let keys = room.max(lengths[0].max(lengths[1]));
            let sizes = Sizes { batch: 2, heads: 4, shared: 2, queries, keys, size: 8 };
            let q = numbers(&[2, queries, 32], 1);
            let (k, v) = (numbers(&[2, queries, 16], 2), numbers(&[2, queries, 16], 3));
            let (pk, pv) = (numbers(&[2, 2, room, 8], 4), numbers(&[2, 2, room, 8], 5));
            let before = |b: usize| lengths[b].saturating_sub(queries);
            let filled = |past: &Tensor, new: &Tensor| -> Vec<f32> {
                let (past, new) = (floats(past), by_heads(new, 2));
                let at = |(b, h, j): (usize, usize, usize)| {
                    let row = b * 2 + h;
                    match j.checked_sub(before(b)) {
                        Some(fresh) if fresh < queries => {
                            new[(row * queries + fresh) * 8..][..8].to_vec()
                        }
                        _ if j < room => past[(row * room + j) * 8..][..8].to_vec(),
                        _ => vec![f32::NAN; 8],
                    }
                };
                places(2, 2, keys).flat_map(at).collect()
            };
            let (all_k, all_v) = (filled(&pk, &k), filled(&pv, &v));
            let clean =
                |x: &[f32]| x.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect::<Vec<_>>();
            let expected =
                sizes.attend([&by_heads(&q, 4), &clean(&all_k), &clean(&all_v)], |b, i, j| {
                    let own = before(b) + i;
                    let near = window < 0 || j as i64 > own as i64 - window;
                    (j <= own && near).then_some(0.0)
                });
            let cache = if room > 0 { "pk, pv" } else { "_, _" };
            let call = format!("y = GroupQueryAttention(q, k, v, {cache}, n, t)");
            let mut attrs = vec![int("num_heads", 4), int("kv_num_heads", 2)];
            attrs.push(int("local_window_size", window));
            let model = Onnx::new(17).node(&call, attrs).in_domain("com.microsoft");
            let last = lengths.map(|n| n as i32 - 1);
            let longest = lengths[0].max(lengths[1]) as i32;
            let n = Tensor::from_slice(&[2, 1], &last);
            let t = Tensor::from_slice(&[1], &[longest]);
            let mut inputs = vec![("q", q), ("k", k), ("v", v), ("n", n), ("t", t)];
            inputs.extend((room > 0).then_some([("pk", pk), ("pv", pv)]).into_iter().flatten());
            let label = format!("{queries} queries, lengths {lengths:?}, window {window}");
            check(&label, model, &inputs, &expected, (sizes, |b, i| before(b) + i < lengths[b]));
        }
    }
}
