//! Counts of n-grams.

use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::fill::filled;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::{self, collected};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Text};
use crate::{AttrKind, AttrsExt, Default};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub static TF_IDF_VECTORIZER: OpDef = OpDef {
    name: "TfIdfVectorizer",
    doc: "How often each n-gram of `pool_int64s` or `pool_strings` occurs in a row, its items at most `max_skip_count` apart: at its place of \
          `ngram_indexes`, counted (TF), weighed if it occurs at all (IDF), or both (TFIDF).",
    onnx: &[OnnxName::since("TfIdfVectorizer", 9)],
    attrs: &[
        AttrDef::required("max_gram_length", AttrKind::Int),
        AttrDef::required("max_skip_count", AttrKind::Int),
        AttrDef::required("min_gram_length", AttrKind::Int),
        AttrDef::required("mode", AttrKind::Str),
        AttrDef::required("ngram_counts", AttrKind::Ints),
        AttrDef::required("ngram_indexes", AttrKind::Ints),
        AttrDef::opt_ints("pool_int64s"),
        AttrDef { name: "pool_strings", kind: AttrKind::Strs, default: Default::Absent },
        AttrDef { name: "weights", kind: AttrKind::Floats, default: Default::Absent },
    ],
    inputs: &[Operand::data("X").of(&[DType::I32, DType::I64, DType::String, DType::U32])],
    infer,
    text: Text::Kernel(run_strings),
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    cases: || {
        let ints = |v: &[i64]| Attr::Ints(v.to_vec());
        vec![
            Case::new("words and pairs", vec![Tensor::from_slice(&[5], &[1i64, 2, 1, 3, 2])])
                .attr("max_gram_length", Attr::Int(2))
                .attr("max_skip_count", Attr::Int(1))
                .attr("min_gram_length", Attr::Int(1))
                .attr("mode", Attr::Str("TF".to_owned()))
                .attr("ngram_counts", ints(&[0, 2]))
                .attr("ngram_indexes", ints(&[0, 1, 2]))
                .attr("pool_int64s", ints(&[1, 2, 1, 2]))
                .expect(vec![Tensor::from_slice(&[3], &[2.0f32, 2.0, 2.0])]),
            Case::new("rows of long integers", {
                let items: Vec<i64> =
                    (0..60i64).map(|i| (i * i) % 5 - (1 << 40) * (i % 2)).collect();
                vec![Tensor::from_slice(&[3, 20], &items)]
            })
            .attr("max_gram_length", Attr::Int(3))
            .attr("max_skip_count", Attr::Int(2))
            .attr("min_gram_length", Attr::Int(2))
            .attr("mode", Attr::Str("TFIDF".to_owned()))
            .attr("ngram_counts", ints(&[0, 1, 5]))
            .attr("ngram_indexes", ints(&[4, 0, 2, 2]))
            .attr(
                "pool_int64s",
                ints(&[0, 0, 1 - (1 << 40), 4, 4 - (1 << 40), 0, 4 - (1 << 40), 4]),
            )
            .attr("weights", Attr::Floats(vec![0.5, 2.0, 3.0, 1.0, 7.0])),
            Case::new("of no item", vec![Tensor::from_slice::<i32>(&[2, 0], &[])])
                .attr("max_gram_length", Attr::Int(1))
                .attr("max_skip_count", Attr::Int(0))
                .attr("min_gram_length", Attr::Int(1))
                .attr("mode", Attr::Str("IDF".to_owned()))
                .attr("ngram_counts", ints(&[0]))
                .attr("ngram_indexes", ints(&[0]))
                .attr("pool_int64s", ints(&[3]))
                .expect(vec![Tensor::zeros(DType::F32, &[2, 1])]),
            Case::new("strings", vec![Tensor::from_strings(&[1, 4], &["a", "b", "c", "a"])])
                .attr("max_gram_length", Attr::Int(2))
                .attr("max_skip_count", Attr::Int(0))
                .attr("min_gram_length", Attr::Int(1))
                .attr("mode", Attr::Str("TFIDF".to_owned()))
                .attr("ngram_counts", ints(&[0, 2]))
                .attr("ngram_indexes", ints(&[1, 0, 2]))
                .attr("pool_strings", Attr::Strs(["a", "z", "b", "c"].map(str::to_owned).to_vec()))
                .attr("weights", Attr::Floats(vec![5.0, 0.5, 3.0]))
                .expect(vec![Tensor::from_slice(&[1, 3], &[0.0f32, 1.0, 3.0])]),
        ]
    },
    ..OpDef::BASE
};

/// The n-grams by their items, each with its place in the result.
struct Grams {
    places: BTreeMap<Vec<i64>, usize>,
    width: usize,
}

impl Grams {
    fn read(attrs: &Attrs) -> Result<Self, OpError> {
        let list = |name: &str| attrs.ints(name).unwrap_or_default();
        let starts = list("ngram_counts");
        let pool = pool(attrs)?;
        let mut indexes = list("ngram_indexes").iter();
        let mut places = BTreeMap::new();
        let mut width = 0;
        for (i, &start) in starts.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(pool.len() as i64);
            let items = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let items = items.and_then(|(start, end)| pool.get(start..end)).ok_or_else(|| {
                OpError::new(format!(
                    "ngram_counts {starts:?} do not rise within the pool of {}",
                    pool.len()
                ))
            })?;
            for gram in items.chunks_exact(i + 1) {
                let place = indexes.next().copied().and_then(|place| usize::try_from(place).ok());
                let place = place.ok_or_else(|| {
                    OpError::new("ngram_indexes does not have a place for each n-gram")
                })?;
                width = width.max(place + 1);
                places.insert(gram.to_vec(), place);
            }
        }
        Ok(Self { places, width })
    }
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (dtype, shape) = (ctx.dtype(0)?, ctx.shape(0)?);
    let strings = ctx.attrs.contains_key("pool_strings");
    let taken = match strings {
        true => dtype == DType::String,
        false => matches!(dtype, DType::I32 | DType::I64),
    };
    if !taken || shape.is_empty() || shape.len() > 2 {
        let expected = if strings { "string" } else { "i32 or i64" };
        return Err(InferError::invalid(format!(
            "operand X is {dtype}{shape:?}, expected {expected} of rank 1 or 2"
        )));
    }
    let width = Dim::from(Grams::read(ctx.attrs)?.width);
    let out = shape[..shape.len() - 1].iter().cloned().chain([width]).collect();
    mode(ctx.attrs)?;
    Ok(vec![Facts::new(DType::F32, out)])
}

fn numbers(x: TensorRef<'_>) -> Vec<i64> {
    match x.dtype {
        DType::I32 => x.slice::<i32>().iter().map(|&v| v.into()).collect(),
        _ => x.slice::<i64>().to_vec(),
    }
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let columns = x.shape[x.shape.len() - 1];
    count_all(
        ctx.attrs,
        &Grams::read(ctx.attrs)?,
        &numbers(x),
        columns,
        ctx.output().slice::<f32>(),
    )
}

/// Strings are counted by their numbers in the pool; what is not in the pool is in no n-gram.
fn run_strings(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let grams = Grams::read(ctx.attrs)?;
    let numbers = word_numbers(ctx.attrs.strs("pool_strings").unwrap_or_default());
    let texts = x.strings();
    let items = collected(texts.iter().map(|&t| numbers.get(t).copied().unwrap_or(-1)))?;
    let (&columns, outer) = x.shape.split_last().expect("the rule takes rank 1 or 2");
    let mut y = memory::filled(outer.iter().product::<usize>() * grams.width, 0f32)?;
    count_all(ctx.attrs, &grams, &items, columns, &mut y)?;
    Ok(vec![Tensor::from_slice(&[outer, &[grams.width]].concat(), &y)])
}

/// The items that n-grams are made of, strings by number.
fn pool(attrs: &Attrs) -> Result<Vec<i64>, OpError> {
    match (attrs.ints("pool_int64s"), attrs.strs("pool_strings")) {
        (Some(pool), None) => Ok(pool.to_vec()),
        (None, Some(words)) => {
            let numbers = word_numbers(words);
            Ok(words.iter().map(|word| numbers[word.as_str()]).collect())
        }
        _ => Err(OpError::new("there is to be either pool_int64s or pool_strings")),
    }
}

fn word_numbers(words: &[String]) -> BTreeMap<&str, i64> {
    let mut numbers = BTreeMap::new();
    for word in words {
        let next = numbers.len() as i64;
        numbers.entry(word.as_str()).or_insert(next);
    }
    numbers
}

/// Whether n-grams are counted, and whether they are weighed.
fn mode(attrs: &Attrs) -> Result<(bool, bool), OpError> {
    match attrs.str("mode") {
        "TF" => Ok((true, false)),
        "IDF" => Ok((false, true)),
        "TFIDF" => Ok((true, true)),
        other => Err(OpError::new(format!("mode {other:?}, expected TF, IDF or TFIDF"))),
    }
}

/// The lengths of n-grams and the largest number of items between two of one, as far as they fit a row of `columns` items.
fn reach(attrs: &Attrs, columns: usize) -> (RangeInclusive<usize>, usize) {
    let within = |name: &str, least: usize| {
        usize::try_from(attrs.int(name)).unwrap_or(0).clamp(least, columns + 1)
    };
    let (shortest, longest) = (within("min_gram_length", 1), within("max_gram_length", 0));
    (shortest..=longest.min(columns), within("max_skip_count", 0))
}

/// Fills a row of `y` for every row of `columns` items.
fn count_all(
    attrs: &Attrs,
    grams: &Grams,
    items: &[i64],
    columns: usize,
    y: &mut [f32],
) -> Result<(), OpError> {
    let (lengths, skips) = reach(attrs, columns);
    let weights = attrs.floats("weights");
    let (counted, weighed) = mode(attrs)?;
    let rows = y.chunks_exact_mut(grams.width.max(1));
    for (row, out) in items.chunks_exact(columns.max(1)).zip(rows) {
        out.fill(0.0);
        for length in lengths.clone() {
            // How far apart items are makes no difference to a single one.
            let most = if length == 1 { 0 } else { skips };
            for step in 1..=most + 1 {
                count(row, length, step, &grams.places, out);
            }
        }
        for (i, value) in out.iter_mut().enumerate() {
            let weight = weights.filter(|_| weighed).and_then(|w| w.get(i)).copied().unwrap_or(1.0);
            *value = weight * if counted { *value } else { f32::from(*value > 0.0) };
        }
    }
    Ok(())
}

/// Adds 1 at the place of every n-gram of `length` items that are `step` apart.
fn count(
    row: &[i64],
    length: usize,
    step: usize,
    places: &BTreeMap<Vec<i64>, usize>,
    out: &mut [f32],
) {
    let span = step.saturating_mul(length - 1);
    for start in 0..row.len().saturating_sub(span) {
        let gram: Vec<i64> = row[start..].iter().step_by(step).take(length).copied().collect();
        if let Some(&place) = places.get(&gram) {
            out[place] += 1.0;
        }
    }
}

/// Vectors of four words that n-grams may take among the parameters of a shader.
const GPU_LINES: usize = 3800;

/// The n-grams as the shader takes them: for each its length, place, where its items begin, and weight; then all items, two words
/// each.
fn gpu_table(attrs: &Attrs, grams: &Grams) -> Result<Vec<u32>, OpError> {
    let (_, weighed) = mode(attrs)?;
    let weights = attrs.floats("weights").filter(|_| weighed);
    let (mut heads, mut items) = (Vec::new(), Vec::new());
    for (gram, &place) in &grams.places {
        let weight = weights.and_then(|w| w.get(place)).copied().unwrap_or(1.0);
        let start = items.len() / 2;
        heads.extend([gram.len() as u32, place as u32, start as u32, weight.to_bits()]);
        items.extend(gram.iter().flat_map(|&item| [item as u32, (item >> 32) as u32]));
    }
    heads.extend(items);
    heads.resize(heads.len().next_multiple_of(4), 0);
    Ok(heads)
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let (word, item) = match x.dtype {
        DType::I32 => ("i32", "vec2<u32>(bitcast<u32>(v), u32(v >> 31u))"),
        DType::I64 => ("vec2<u32>", "v"),
        _ => return Ok(None),
    };
    let grams = Grams::read(ctx.attrs)?;
    let table = gpu_table(ctx.attrs, &grams)?;
    if x.is_empty() && !y.is_empty() {
        return Ok(filled(ctx, [0; 2]));
    }
    if table.len() / 4 > GPU_LINES {
        return Ok(None);
    }
    let (lengths, skips) = reach(ctx.attrs, x.shape[x.shape.len() - 1]);
    let (counted, _) = mode(ctx.attrs)?;
    let sizes = [y.len(), x.shape[x.shape.len() - 1], grams.width, grams.places.len()];
    let mut params = sizes.map(|n| n as u32).to_vec();
    params.extend([*lengths.start(), *lengths.end(), skips].map(|n| n as u32));
    params.push(u32::from(counted));
    let lines = (table.len() / 4).max(1);
    params.extend(table);
    params.resize(8 + 4 * lines, 0);
    let keys = [("word", word), ("item", item), ("lines", &lines.to_string())];
    let skips = ctx.attrs.int("max_skip_count").max(0) as usize + 1;
    let columns = x.shape[x.shape.len() - 1];
    let gram = |gram: &Vec<i64>| skips.saturating_mul(1 + columns * (1 + gram.len()));
    let rounds = grams.places.keys().map(|items| gram(items).saturating_add(1));
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: rounds.fold(0, usize::saturating_add),
        label: "TfIdfVectorizer".into(),
        wgsl: render(include_str!("tf_idf.wgsl"), &keys).into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}
