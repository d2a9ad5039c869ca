//! Attention without its matrix of scores: a block of queries against a block of keys at a time.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::chain::{self, Chain, Finish};
use crate::cpu::{Cpu, CpuCtx, CpuShapes};
use crate::gpu::elementwise::PRELUDE;
use crate::gpu::halves::Lying;
use crate::gpu::product::{Along, Strided};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCandidate, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::gemm::{Gemm, MatRef};
use crate::parallel;
use crate::reduction::{Folded, fold_here};
use crate::wide::{Loop, wide};
use crate::{AttrDef, OpDef, OpError, Operand, Tolerance, approx};
use engine_format::{Attr, DType, Dim, Tensor};
use std::sync::{Mutex, PoisonError};

pub static ATTENTION: OpDef = OpDef {
    name: "Attention",
    doc: "`softmax(stages(Q·Kᵀ))·V` over the last axis of the scores, which the stages scale and mask; Q, K and V are (batch, \
          heads, length, size) or (batch, length, size), and several heads of Q may share one of K and V. With `zero_nan`, \
          shares that are not numbers are zeros, as where a query sees no key. Written by the builder's passes; ONNX's \
          Attention is composed on import.",
    attrs: &[chain::STAGES, chain::SCALARS, AttrDef::int(ZERO_NAN, 0)],
    inputs: &[
        Operand::data("Q").of(&[DType::F32]),
        Operand::data("K").like(0),
        Operand::data("V").like(0),
        chain::OPERANDS,
    ],
    variadic_input: true,
    infer,
    cpu: Cpu::Kernel { run, scratch },
    gpu: Some(gpu),
    gpu_candidates: &[
        GpuCandidate { name: "tiles of queries", kernel: tiled, pays: tiles_pay },
        GpuCandidate { name: "parts of keys", kernel: parted, pays: parts_pay },
    ],
    multiplications: |_, inputs| {
        let [Some(q), Some(k), Some(v), ..] = inputs else { return None };
        let Plan { batch, heads, queries, keys, size, width, .. } =
            Plan::new(&q.shape, &k.shape, &v.shape);
        let sizes = [batch, heads, queries, keys, size.saturating_add(width)];
        Some(sizes.iter().fold(1, |all: u64, &n| all.saturating_mul(n as u64)))
    },
    tolerance: Tolerance::SUMS,
    cases,
    ..OpDef::BASE
};

/// Operands before those of the stages.
const OWN: usize = 3;

/// Attribute: 1 if the shares of a query are zeros where its softmax is not a number.
const ZERO_NAN: &str = "zero_nan";

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (q, k, v) = (ctx.shape(0)?, ctx.shape(1)?, ctx.shape(2)?);
    let wrong = |what: &str| {
        let message = format!("{what}: Q {q:?}, K {k:?}, V {v:?}");
        Err(InferError::invalid(message))
    };
    if !(3..=4).contains(&q.len()) || k.len() != q.len() || v.len() != q.len() {
        return wrong("expected three operands of rank 3, or of rank 4");
    }
    let differ = |a: &Dim, b: &Dim| matches!((a.known(), b.known()), (Some(a), Some(b)) if a != b);
    let [.., queries, size] = q else { return wrong("Q has no rows") };
    let [.., keys, key_size] = k else { return wrong("K has no rows") };
    let [.., values, width] = v else { return wrong("V has no rows") };
    if differ(size, key_size)
        || differ(keys, values)
        || differ(&q[0], &k[0])
        || differ(&k[0], &v[0])
    {
        return wrong("sizes do not fit");
    }
    if let (4, Some(heads), Some(own)) = (q.len(), q[1].known(), k[1].known())
        && (own == 0 || heads % own != 0 || differ(&k[1], &v[1]))
    {
        return wrong("the heads of Q do not divide among those of K and V");
    }
    let lead = &q[..q.len() - 2];
    let scores = Facts::new(ctx.dtype(0)?, [lead, &[queries.clone(), keys.clone()]].concat());
    chain::infer(ctx, OWN, vec![scores])?;
    Ok(vec![Facts::new(ctx.dtype(0)?, [lead, &[queries.clone(), width.clone()]].concat())])
}

/// Queries of one task: enough that packing the keys for each costs little.
const QUERIES: usize = 128;
/// Keys whose scores are kept at once.
const KEYS: usize = 256;

/// An attention of concrete shapes.
struct Plan {
    batch: usize,
    heads: usize,
    /// Heads of Q that share one of K and V.
    shared: usize,
    queries: usize,
    keys: usize,
    size: usize,
    width: usize,
    /// Shape of the scores, of which the last `rank` dimensions count.
    scores: [usize; 4],
    rank: usize,
}

impl Plan {
    fn new(q: &[usize], k: &[usize], v: &[usize]) -> Self {
        let rank = q.len();
        let (heads, own) = if rank == 4 { (q[1], k[1]) } else { (1, 1) };
        let mut scores = [1; 4];
        scores[4 - rank..].copy_from_slice(q);
        scores[3] = k[rank - 2];
        Self {
            batch: q[0],
            heads,
            shared: heads / own.max(1),
            queries: q[rank - 2],
            keys: k[rank - 2],
            size: q[rank - 1],
            width: v[rank - 1],
            scores,
            rank,
        }
    }

    fn scores(&self) -> &[usize] {
        &self.scores[4 - self.rank..]
    }

    /// The head of K and V that head `head` of all batches reads.
    fn source(&self, head: usize) -> usize {
        let own = self.heads / self.shared.max(1);
        head / self.heads * own + head % self.heads / self.shared
    }

    fn score_product(&self, rows: usize, keys: usize) -> Gemm {
        Gemm { batch: 1, m: rows, n: keys, k: self.size }
    }

    fn value_product(&self, rows: usize, keys: usize) -> Gemm {
        Gemm { batch: 1, m: rows, n: self.width, k: keys }
    }

    /// Elements of a task's memory: scores, a part of the result, for each query the largest score and the sum; and
    /// bytes for the products.
    fn slot(&self) -> (usize, usize) {
        let (rows, keys) = (self.queries.min(QUERIES), self.keys.min(KEYS));
        let products = self.score_product(rows, keys).scratch_here();
        let products = products.max(self.value_product(rows, keys).scratch_here());
        (rows * (keys + self.width + 2), products.next_multiple_of(64))
    }

    fn slot_bytes(&self) -> usize {
        let (elements, products) = self.slot();
        (elements * size_of::<f32>()).next_multiple_of(64) + products
    }

    fn tasks(&self) -> usize {
        self.batch * self.heads * self.queries.div_ceil(QUERIES)
    }
}

fn scratch(shapes: &CpuShapes<'_>) -> usize {
    let [Some(q), Some(k), Some(v)] = [0, 1, 2].map(|i| shapes.inputs[i].as_ref()) else {
        return 0;
    };
    let plan = Plan::new(&q.shape, &k.shape, &v.shape);
    plan.slot_bytes() * plan.tasks().clamp(1, parallel::threads())
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (q, k, v) = (ctx.input(0), ctx.input(1), ctx.input(2));
    let plan = Plan::new(q.shape, k.shape, v.shape);
    let chain = Chain::new(ctx.attrs, &ctx.inputs[OWN..], plan.scores())?;
    let out = ctx.outputs[0].as_mut().expect("the first result is never omitted").slice::<f32>();
    if out.is_empty() {
        return Ok(());
    }
    let call = Call {
        plan: &plan,
        q: q.slice::<f32>(),
        k: k.slice::<f32>(),
        v: v.slice::<f32>(),
        chain: chain.as_ref(),
        zero_nan: ctx.attrs.int(ZERO_NAN) != 0,
    };
    // Each thread takes the next block of queries until there is none.
    let blocks = out.chunks_mut(plan.queries * plan.width).enumerate().flat_map(|(head, out)| {
        let blocks = out.chunks_mut(QUERIES * plan.width).enumerate();
        blocks.map(move |(block, out)| (head, block * QUERIES, out))
    });
    let blocks = Mutex::new(blocks);
    let next = || blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = |slot: &mut [u8]| {
        while let Some((head, first, out)) = next() {
            call.block(head, first, out, slot);
        }
    };
    match plan.tasks() {
        1 => drain(&mut ctx.scratch[..plan.slot_bytes()]),
        _ => parallel::each(ctx.scratch.chunks_exact_mut(plan.slot_bytes()), drain),
    }
    Ok(())
}

struct Call<'a> {
    plan: &'a Plan,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    chain: Option<&'a Chain<'a>>,
    zero_nan: bool,
}

impl Call<'_> {
    /// The results of queries `first..` of one head. Blocks of keys follow one another in order, so that bits depend on
    /// shapes alone.
    fn block(&self, head: usize, first: usize, out: &mut [f32], slot: &mut [u8]) {
        let Plan { queries, keys, size, width, .. } = *self.plan;
        let rows = out.len() / width.max(1);
        let (elements, _) = self.plan.slot();
        let (own, products) = slot.split_at_mut((elements * 4).next_multiple_of(64));
        let own: &mut [f32] = &mut bytemuck::cast_slice_mut(own)[..elements];
        let most_rows = queries.min(QUERIES);
        let (scores, own) = own.split_at_mut(most_rows * keys.min(KEYS));
        let (part, running) = own.split_at_mut(most_rows * width);
        let q = &self.q[(head * queries + first) * size..];
        let source = self.plan.source(head);
        running.chunks_exact_mut(2).for_each(|r| r.copy_from_slice(&[f32::NEG_INFINITY, 0.0]));
        for from in (0..keys).step_by(KEYS) {
            let n = KEYS.min(keys - from);
            let k = &self.k[(source * keys + from) * size..];
            let v = &self.v[(source * keys + from) * width..];
            let scores = &mut scores[..rows * n];
            let operands = |_| (MatRef::rows(q, size), MatRef::rows(k, size).t());
            self.plan.score_product(rows, n).run_here(operands, scores, products);
            let at = |row: usize| (head * queries + first + row) * keys + from;
            match self.chain {
                // Rows of all keys follow one another.
                Some(chain) if n == keys => chain.apply(at(0), scores),
                Some(chain) => {
                    let rows = scores.chunks_exact_mut(n).enumerate();
                    rows.for_each(|(row, scores)| chain.apply(at(row), scores));
                }
                None => {}
            }
            let earlier = if from == 0 { &mut [] } else { &mut *out };
            wide(Powers { scores, keys: n, running, out: earlier, width });
            let operands = |_| (MatRef::rows(scores, n), MatRef::rows(v, width));
            let product = self.plan.value_product(rows, n);
            if from == 0 {
                product.run_here(operands, out, products);
            } else {
                let part = &mut part[..rows * width];
                product.run_here(operands, part, products);
                out.iter_mut().zip(part).for_each(|(y, part)| *y += *part);
            }
        }
        if keys == 0 {
            return out.fill(0.0);
        }
        wide(Divide { out, width, running });
        if self.zero_nan {
            for (row, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
                let sum = running[2 * row + 1];
                if sum.is_nan() || sum <= 0.0 {
                    self.nothing_of(source, out);
                }
            }
        }
    }

    /// The sum of all values of a head times 0: zeros, but for what is not finite.
    fn nothing_of(&self, source: usize, out: &mut [f32]) {
        let len = self.plan.keys * out.len();
        out.fill(0.0);
        for v in self.v[source * len..(source + 1) * len].chunks_exact(out.len()) {
            out.iter_mut().zip(v).for_each(|(y, v)| *y += 0.0 * v);
        }
    }
}

/// Replaces rows of scores by powers of `e` relative to each row's largest so far, and multiplies earlier results by what
/// that takes from them. Scores of −∞ alone leave a sum of 0, and so NaN, as a softmax does.
struct Powers<'a> {
    scores: &'a mut [f32],
    /// Scores of a row.
    keys: usize,
    /// For each row the largest score so far, and the sum of the powers of `e` by that.
    running: &'a mut [f32],
    /// Results so far; empty if there are none.
    out: &'a mut [f32],
    /// Elements of a row of them.
    width: usize,
}

impl Loop for Powers<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { scores, keys, running, out, width } = self;
        let states = running.as_chunks_mut::<2>().0;
        for (row, (scores, state)) in scores.chunks_exact_mut(keys).zip(states).enumerate() {
            let [before, sum_before] = *state;
            let more = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
            let most = fold_here(scores, Folded { start: before, step: more, merge: more });
            let shift = if most == f32::NEG_INFINITY { 0.0 } else { most };
            let kept = if before == f32::NEG_INFINITY { 0.0 } else { approx::exp(before - shift) };
            scores.iter_mut().for_each(|score| *score = approx::exp(*score - shift));
            let add = |a: f32, b: f32| a + b;
            let sum = fold_here(scores, Folded { start: 0.0, step: add, merge: add });
            *state = [most, sum_before * kept + sum];
            if kept != 1.0 && !out.is_empty() {
                out[row * width..(row + 1) * width].iter_mut().for_each(|y| *y *= kept);
            }
        }
    }
}

/// Divides results by the sums of their rows' powers.
struct Divide<'a> {
    out: &'a mut [f32],
    width: usize,
    running: &'a [f32],
}

impl Loop for Divide<'_> {
    #[inline(always)]
    fn run(self) {
        let states = self.running.as_chunks::<2>().0;
        for (out, [_, sum]) in self.out.chunks_exact_mut(self.width.max(1)).zip(states) {
            out.iter_mut().for_each(|y| *y /= *sum);
        }
    }
}

/// Largest size of a head that the shader keeps in workgroup memory.
const MOST_SIZE: usize = 256;

/// Shares of keys, relative to the largest score, and what no share gives.
const POWERS: &str = include_str!("attention_powers.wgsl");

/// What the kernels are made from.
struct OnGpu {
    plan: Plan,
    finish: Finish,
    binds: Vec<Bind>,
    params: Vec<u32>,
}

impl OnGpu {
    /// `None` where there is nothing to attend to.
    fn new(ctx: &GpuCtx<'_>) -> Result<Option<Self>, OpError> {
        let (q, k, v) = (ctx.input(0), ctx.input(1), ctx.input(2));
        let plan = Plan::new(&q.shape, &k.shape, &v.shape);
        let rows = plan.batch * plan.heads * plan.queries;
        if rows * plan.width > 0 && (k.is_empty() || v.is_empty()) {
            return Ok(None);
        }
        let finish = Finish::new(ctx, plan.scores(), (OWN, OWN), "f32")?;
        let mut binds = vec![Bind::In(0), Bind::In(1), Bind::In(2)];
        binds.extend(&finish.binds);
        binds.push(Bind::Out(0));
        let Plan { heads, shared, queries, keys, size, width, .. } = plan;
        let zero_nan = usize::from(ctx.attrs.int(ZERO_NAN) != 0);
        let params = [rows, heads, shared, queries, keys, size, width, zero_nan];
        let mut params = params.map(|n| n as u32).to_vec();
        params.extend(&finish.params);
        Ok(Some(Self { plan, finish, binds, params }))
    }

    /// A query a workgroup, of which each sees up to `keys`; `None` where heads are too large.
    fn queries(
        &self,
        ctx: &GpuCtx<'_>,
        own: &[(&str, &str)],
        tasks: usize,
        keys: usize,
    ) -> Option<Dispatch> {
        let Plan { size, width, .. } = self.plan;
        if size.max(width) > MOST_SIZE {
            return None;
        }
        let (blocks, columns) = (keys.div_ceil(128), width.div_ceil(128));
        let block = 16 + size + 129 * columns;
        let rounds = blocks * block + columns * (1 + self.plan.keys);
        let groups = ctx.limits.linear(if width == 0 { 0 } else { tasks }, 1);
        let own = [own, &[("powers", POWERS)]].concat();
        Some(self.dispatch(include_str!("attention.wgsl"), &own, groups, rounds))
    }

    fn dispatch(
        &self,
        text: &str,
        own: &[(&str, &str)],
        groups: [u32; 3],
        rounds: usize,
    ) -> Dispatch {
        let finish = &self.finish;
        let (output, uniform) = (self.binds.len() - 1, self.binds.len());
        let (output, uniform) = (output.to_string(), uniform.to_string());
        let values = [
            ("chain", finish.field.as_str()),
            ("prelude", if finish.functions.contains(PRELUDE) { "" } else { PRELUDE }),
            ("finish", &finish.functions),
            ("output", &output),
            ("uniform", &uniform),
        ];
        Dispatch {
            rounds: FEW_ROUNDS + rounds,
            label: "Attention".into(),
            wgsl: render(text, &[own, &values].concat()).into(),
            binds: self.binds.clone(),
            params: self.params.clone(),
            groups,
        }
    }
}

/// One query a workgroup.
fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let Some(made) = OnGpu::new(ctx)? else { return Ok(None) };
    let Plan { batch, heads, queries, keys, .. } = made.plan;
    let text = [("task", ALL_KEYS), ("store", STORE_RESULT)];
    let dispatch = made.queries(ctx, &text, batch * heads * queries, keys);
    Ok(dispatch.map(GpuProgram::one))
}

const ALL_KEYS: &str = "let row = task;
    let begin = 0u;
    let end = params.keys;";
const STORE_RESULT: &str = "for (var c = lane; c < params.width; c += 128u) {
        var y = nan();
        if (!is_nan(sum) && sum > 0.0) {
            y = result[c] / sum;
        } else if (params.zero_nan != 0u) {
            y = nothing_of(source, c);
        }
        y_out[row * params.width + c] = y;
    }";

/// Keys of a part.
const PART: usize = 64;
const ONE_PART: &str = "let count_of_parts = (params.keys + 63u) / 64u;
    let row = task / count_of_parts;
    let begin = task % count_of_parts * 64u;
    let end = min(begin + 64u, params.keys);";
const STORE_PART: &str = "let at = task * (params.width + 2u);
    if (lane == 0u) {
        y_out[at] = most;
        y_out[at + 1u] = sum;
    }
    for (var c = lane; c < params.width; c += 128u) { y_out[at + 2u + c] = result[c]; }";

/// A query and a part of the keys a workgroup; a second dispatch joins the parts.
fn parted(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let Some(mut made) = OnGpu::new(ctx)? else { return Ok(None) };
    let Plan { batch, heads, shared, queries, keys, width, .. } = made.plan;
    let (rows, parts) = (batch * heads * queries, keys.div_ceil(PART).max(1));
    let words = rows * parts * (width + 2);
    if u32::try_from(words).is_err() {
        return Ok(None);
    }
    if let Some(output) = made.binds.last_mut() {
        *output = Bind::Scratch(0);
    }
    let text = [("task", ONE_PART), ("store", STORE_PART)];
    let Some(first) = made.queries(ctx, &text, rows * parts, PART) else { return Ok(None) };
    let values = [("prelude", PRELUDE), ("powers", POWERS)];
    let zero_nan = usize::from(ctx.attrs.int(ZERO_NAN) != 0);
    let params = [rows, heads, shared, queries, keys, width, zero_nan, parts];
    let join = Dispatch {
        rounds: FEW_ROUNDS + 3 * parts * width.div_ceil(64).max(1) + width.div_ceil(64) * keys,
        label: "Attention, joined".into(),
        wgsl: render(include_str!("attention_join.wgsl"), &values).into(),
        binds: vec![Bind::Scratch(0), Bind::In(2), Bind::Out(0)],
        params: params.map(|n| n as u32).to_vec(),
        groups: ctx.limits.linear(if width == 0 { 0 } else { rows }, 1),
    };
    Ok(Some(GpuProgram { dispatches: vec![first, join], scratch: vec![words] }))
}

/// A few queries have too few workgroups of their own to keep a GPU busy.
fn parts_pay(ctx: &GpuCtx<'_>) -> bool {
    let (q, k, v) = (ctx.input(0), ctx.input(1), ctx.input(2));
    let Plan { batch, heads, queries, keys, .. } = Plan::new(&q.shape, &k.shape, &v.shape);
    batch * heads * queries <= FEW_WORKGROUPS && keys >= 4 * PART
}

/// Workgroups with which a large GPU is half busy.
const FEW_WORKGROUPS: usize = 256;

/// Queries, keys and columns of a tile.
const TILE: usize = 64;
/// Columns of the result that an invocation of tiles has registers for.
const MOST_TILED: usize = 2 * TILE;
/// Bytes of workgroup memory of tiles: terms of queries and keys, powers, and what is folded over a row.
const TILE_BYTES: u32 = ((16 + 16 + 64) * 17 + 16 * 16) * 16;

/// Tiles of queries and keys.
fn tiled(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let Some(mut made) = OnGpu::new(ctx)? else { return Ok(None) };
    let Plan { batch, heads, queries, keys, size, width, .. } = made.plan;
    if width > MOST_TILED || ctx.limits.workgroup_memory < TILE_BYTES {
        return Ok(None);
    }
    made.params[0] = (batch * heads) as u32;
    let mut text = TileText::default();
    text.products();
    (0..width.div_ceil(TILE)).for_each(|block| text.columns(block));
    let quads = |n: usize| n.is_multiple_of(4);
    let element = |quads| if quads { "vec4<f32>" } else { "f32" };
    let operand = |(name, binding, start), size, steps, along, quads| {
        Strided { name, binding, start, size, steps, lying: Lying::Words, along, quads }.wgsl()
    };
    let rows =
        |names, count| operand(names, count, ["params.size", "1u"], Along::Terms, quads(size));
    let columns = ["1u", "params.width"];
    let loaders = [
        rows(("query", "q_in", "at.q"), "params.queries"),
        rows(("key", "k_in", "at.k"), "params.keys"),
        operand(("value", "v_in", "at.v"), "params.width", columns, Along::Side, quads(width)),
        if quads(width) { ONE_OF_QUADS } else { ONE }.to_owned(),
    ];
    let values = [
        ("loaders", loaders.join("\n")),
        ("scores", if quads(keys) { SCORES_OF_QUADS } else { SCORES }.to_owned()),
        ("results", text.results),
        ("multiply", text.multiply),
        ("keep", text.keep),
        ("values", text.values),
        ("put", text.put),
    ];
    let elements = [("q_element", size), ("k_element", size), ("v_element", width)]
        .map(|(key, n)| (key, element(quads(n))));
    let values = values.each_ref().map(|(key, text)| (*key, text.as_str()));
    // The loaders read elements of one type.
    let values = [&values[..], &elements, &[("T", "f32")]].concat();
    let down = queries.div_ceil(TILE);
    let groups = ctx.limits.linear(if width == 0 { 0 } else { batch * heads * down }, 1);
    let rounds = keys.div_ceil(TILE) * (size.div_ceil(16) + 24) + width.div_ceil(TILE) * 16 * keys;
    let text = include_str!("attention_tiles.wgsl");
    Ok(Some(GpuProgram::one(made.dispatch(text, &values, groups, rounds))))
}

/// Queries from which on most of a tile has something to do.
const FEW_QUERIES: usize = 16;

fn tiles_pay(ctx: &GpuCtx<'_>) -> bool {
    let (q, k, v) = (ctx.input(0), ctx.input(1), ctx.input(2));
    Plan::new(&q.shape, &k.shape, &v.shape).queries >= FEW_QUERIES
}

/// Lines of the kernel of tiles that are written out.
#[derive(Default)]
struct TileText {
    results: String,
    multiply: String,
    keep: String,
    values: String,
    put: String,
}

impl TileText {
    /// Queries times keys, over 16 terms.
    fn products(&mut self) {
        for k in 0..16 {
            self.multiply += &format!(
                "            {{ let a = left_tile[{k}][hi]; let b = right_tile[{k}][lo]; s0 += a.x * b; s1 += a.y * b; s2 += a.z * b; s3 += a.w * b; }}\n"
            );
        }
    }

    /// Powers times values, over 16 keys, for a block of 64 columns.
    fn columns(&mut self, block: usize) {
        let first = block * TILE;
        self.results += &format!(
            "    let value_at{block} = value_place(at, {first}u + column * 4u);
    var v{block} = value(value_at{block}, line, params.keys);\n"
        );
        self.values += &format!(
            "            workgroupBarrier();
            right_tile[line][column] = v{block};
            workgroupBarrier();
            v{block} = value(value_at{block}, first + k0 + 16u + line, params.keys);\n"
        );
        for k in 0..16 {
            self.values += &format!(
                "            {{ let a = powers[k0 + {k}u][hi]; let b = right_tile[{k}][lo];"
            );
            for (row, lane) in ["x", "y", "z", "w"].iter().enumerate() {
                self.values += &format!(" y{block}_{row} += a.{lane} * b;");
            }
            self.values += " }\n";
        }
        for (row, lane) in ["x", "y", "z", "w"].iter().enumerate() {
            self.results += &format!("    var y{block}_{row} = vec4<f32>();\n");
            self.keep += &format!("        y{block}_{row} *= kept.{lane};\n");
            self.put += &format!("    if (row0 + hi * 4u + {row}u < params.queries) {{\n");
            for (col, of) in ["x", "y", "z", "w"].iter().enumerate() {
                self.put += &format!(
                    "        put(at, row + {row}u, {first}u + lo * 4u + {col}u, y{block}_{row}.{of}, sum.{lane});\n"
                );
            }
            self.put += "    }\n";
        }
    }
}

const ONE: &str = "fn value_one(at: Operands, key: u32, column: u32) -> f32 {
    return v_in[at.v + key * params.width + column];
}";
const ONE_OF_QUADS: &str = "fn value_one(at: Operands, key: u32, column: u32) -> f32 {
    let i = at.v + key * params.width + column;
    return v_in[i / 4u][i % 4u];
}";
const SCORES_OF_QUADS: &str = "scores = finish4(products, i);";
const SCORES: &str = "scores.x = finish(products.x, i);
    if (key + 1u < params.keys) { scores.y = finish(products.y, i + 1u); }
    if (key + 2u < params.keys) { scores.z = finish(products.z, i + 2u); }
    if (key + 3u < params.keys) { scores.w = finish(products.w, i + 3u); }";

fn cases() -> Vec<Case> {
    let f = |shape: &[usize], values: &[f32]| Tensor::from_slice(shape, values);
    let stages = crate::ops::fused::named;
    let scale = || f(&[], &[0.125]);
    let never = f32::NEG_INFINITY;
    vec![
        // Scores 0 and ln 3, shares 1/4 and 3/4; the second query sees the first key alone, the third none.
        Case::new(
            "worked by hand",
            vec![
                f(&[1, 3, 1], &[1.0, 5.0, 1.0]),
                f(&[1, 2, 1], &[0.0, 1.098_612_3]),
                f(&[1, 2, 2], &[0.0, 8.0, 4.0, -4.0]),
                f(&[3, 2], &[0.0, 0.0, 0.0, never, never, never]),
            ],
        )
        .attr("stages", Attr::Strs(vec!["Add".to_owned()]))
        .expect(vec![f(&[1, 3, 2], &[3.0, -1.0, 0.0, 8.0, f32::NAN, f32::NAN])]),
        // The same, but what the third query sees is nothing: 0 times values, of which one is infinite.
        Case::new(
            "shares that are not numbers are zeros",
            vec![
                f(&[1, 3, 1], &[1.0, f32::NAN, 1.0]),
                f(&[1, 2, 1], &[0.0, 1.098_612_3]),
                f(&[1, 2, 3], &[0.0, 8.0, 1.0, 4.0, -4.0, f32::INFINITY]),
                f(&[3, 2], &[0.0, 0.0, 0.0, 0.0, never, never]),
            ],
        )
        .attr("stages", Attr::Strs(vec!["Add".to_owned()]))
        .attr(ZERO_NAN, Attr::Int(1))
        .expect(vec![f(
            &[1, 3, 3],
            &[3.0, -1.0, f32::INFINITY, 0.0, 0.0, f32::NAN, 0.0, 0.0, f32::NAN],
        )]),
        // As finite masks leave it, a query that sees nothing sees all alike.
        Case::new(
            "masked by the smallest number",
            vec![
                f(&[1, 2, 1], &[1.0, 1.0]),
                f(&[1, 2, 1], &[0.5, 2.0]),
                f(&[1, 2, 1], &[2.0, 6.0]),
                f(&[2, 2], &[f32::MIN, 0.0, f32::MIN, f32::MIN]),
            ],
        )
        .attr("stages", Attr::Strs(vec!["Add".to_owned()]))
        .expect(vec![f(&[1, 2, 1], &[6.0, 4.0])]),
        Case::new(
            "an infinite score",
            vec![
                f(&[1, 1, 1], &[1.0]),
                f(&[1, 2, 1], &[f32::INFINITY, 2.0]),
                f(&[1, 2, 1], &[2.0, 6.0]),
            ],
        )
        .attr("stages", stages(&[]))
        .expect(vec![f(&[1, 1, 1], &[f32::NAN])]),
        Case::new("no keys", vec![ramp(&[1, 2, 4]), ramp(&[1, 0, 4]), ramp(&[1, 0, 3])])
            .attr("stages", stages(&[]))
            .expect(vec![f(&[1, 2, 3], &[0.0; 6])]),
        Case::new(
            "not a number",
            vec![
                f(&[1, 1, 1], &[f32::NAN]),
                f(&[1, 2, 1], &[1.0, 2.0]),
                f(&[1, 2, 1], &[1.0, 2.0]),
            ],
        )
        .attr("stages", stages(&[]))
        .expect(vec![f(&[1, 1, 1], &[f32::NAN])]),
        Case::new(
            "heads, scaled and masked",
            vec![ramp(&[2, 3, 10, 16]), ramp(&[2, 3, 12, 16]), ramp(&[2, 3, 12, 8])],
        )
        .input(Some(scale()))
        .input(Some(ramp(&[2, 1, 1, 12])))
        .attr("stages", stages(&["Mul", "Add"])),
        Case::new(
            "blocks of queries and keys, none whole",
            vec![ramp(&[1, 2, 150, 33]), ramp(&[1, 2, 600, 33]), ramp(&[1, 2, 600, 40])],
        )
        .input(Some(f(&[1], &[6.0])))
        .input(Some(ramp(&[150, 600])))
        .attr("stages", stages(&["Div", "Add"])),
        Case::new(
            "heads that share keys",
            vec![ramp(&[2, 6, 5, 20]), ramp(&[2, 2, 9, 20]), ramp(&[2, 2, 9, 20])],
        )
        .input(Some(scale()))
        .attr("stages", stages(&["Mul"])),
        Case::new(
            "one query",
            vec![ramp(&[1, 4, 1, 64]), ramp(&[1, 4, 300, 64]), ramp(&[1, 4, 300, 64])],
        )
        .input(Some(scale()))
        .attr("stages", stages(&["Mul"])),
        Case::new("no batch", vec![ramp(&[0, 4, 8]), ramp(&[0, 4, 8]), ramp(&[0, 4, 8])])
            .attr("stages", stages(&[])),
    ]
}
