//! What two engines differ in.

use crate::graph::Labels;
use engine_format::{Block, DType, Digest, Element, Engine, EngineParts, Tensor, Weight};
use half::{bf16, f16};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The differences of two engines; empty for engines that compute the same from the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EngineDiff {
    /// Names of the flags of both, if they differ.
    pub flags: Option<FlagsDiff>,
    /// Parts of the graph that differ: `inputs`, `outputs`, `literals`, `prepare`, `execute`, `constants`, `weight table`,
    /// `metadata`.
    pub graph: Vec<&'static str>,
    /// Nodes that differ, by their names: those of the first engine in its order, then those that only the second has.
    pub nodes: Vec<NodeDiff>,
    /// Weights whose values differ, in table order.
    pub changed: Vec<WeightDiff>,
    /// Weights of both whose type or role differs.
    pub retyped: Vec<RetypedWeight>,
    /// Weights that only the first engine has.
    pub only_in_a: Vec<String>,
    /// Weights that only the second engine has.
    pub only_in_b: Vec<String>,
    /// Weights that cannot be compared because an engine is stripped of them.
    pub unknown: Vec<String>,
}

impl EngineDiff {
    /// Whether nothing differs as far as it can be known.
    pub fn is_empty(&self) -> bool {
        *self == Self { unknown: self.unknown.clone(), ..Self::default() }
    }
}

/// Flags of two engines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlagsDiff {
    /// Those of the first.
    pub a: Vec<String>,
    /// Those of the second.
    pub b: Vec<String>,
}

/// A node that is another in each engine, or is in one only. What a node reads is told by name, so that numbering does not
/// show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeDiff {
    /// `prepare` or `execute`.
    pub program: &'static str,
    /// Its path in the model.
    pub node: String,
    /// Operator, operands and attributes in the first engine, if it is there.
    pub a: Option<String>,
    /// The same in the second.
    pub b: Option<String>,
}

/// A weight of another type in each engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetypedWeight {
    /// The weight.
    pub name: String,
    /// Type in the first engine.
    pub a: String,
    /// Type in the second.
    pub b: String,
}

/// How the values of a weight differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightDiff {
    /// The weight.
    pub name: String,
    /// Elements whose bits differ.
    pub elements: usize,
    /// Elements in all.
    pub of: usize,
    /// Largest absolute difference among elements that are numbers in both; none if there is no such element.
    pub max_abs: Option<f64>,
    /// Mean absolute difference over all elements that are numbers in both.
    pub mean_abs: Option<f64>,
    /// Elements whose bits differ and of which one is not finite.
    pub not_finite: usize,
}

/// Compares two engines. Values are read only where digests differ.
pub fn diff(a: &Engine, b: &Engine) -> EngineDiff {
    let flags = (a.flags() != b.flags())
        .then(|| FlagsDiff { a: a.flags().flag_names(), b: b.flags().flag_names() });
    let (graph, nodes) = (graph(a.parts(), b.parts()), nodes(a.parts(), b.parts()));
    let mut out = EngineDiff { flags, graph, nodes, ..EngineDiff::default() };
    let rows = |engine: &'_ Engine| -> BTreeMap<String, Weight> {
        engine.parts().weights.iter().map(|w| (w.name.clone(), w.clone())).collect()
    };
    let (rows_a, rows_b) = (rows(a), rows(b));
    let names: BTreeSet<&String> = rows_a.keys().chain(rows_b.keys()).collect();
    for name in names {
        match (rows_a.get(name), rows_b.get(name)) {
            (Some(a), Some(b)) => weight(a, b, &mut out),
            (Some(_), None) => out.only_in_a.push(name.clone()),
            (None, _) => out.only_in_b.push(name.clone()),
        }
    }
    out
}

fn weight(a: &Weight, b: &Weight, out: &mut EngineDiff) {
    let name = a.name.clone();
    if a.info() != b.info() {
        out.retyped.push(RetypedWeight { name, a: a.info().to_string(), b: b.info().to_string() });
        return;
    }
    match (digest(a), digest(b)) {
        (Some(x), Some(y)) if x == y => return,
        (None, _) | (_, None) => return out.unknown.push(name),
        _ => {}
    }
    match (a.tensor(), b.tensor()) {
        (Some(x), Some(y)) => out.changed.push(values(name, &x, &y)),
        // The digests alone say that they differ.
        _ => {
            let of = a.shape.iter().product();
            let (max_abs, mean_abs) = (None, None);
            out.changed.push(WeightDiff {
                name,
                elements: of,
                of,
                max_abs,
                mean_abs,
                not_finite: 0,
            });
        }
    }
}

fn digest(weight: &Weight) -> Option<Digest> {
    weight.digest.or_else(|| weight.tensor().map(|tensor| Digest::of(tensor.bytes())))
}

/// The parts of the graph that differ. Weights' values and digests are no part of it.
fn graph(a: &EngineParts, b: &EngineParts) -> Vec<&'static str> {
    let row = |w: &Weight| {
        (w.name.clone(), w.aliases.clone(), w.value, w.info(), w.class, w.pinned.clone())
    };
    let table = |parts: &EngineParts| parts.weights.iter().map(row).collect::<Vec<_>>();
    let same = [
        ("inputs", a.inputs == b.inputs),
        ("outputs", a.outputs == b.outputs),
        ("literals", a.literals == b.literals),
        ("prepare", a.prepare == b.prepare),
        ("execute", a.execute == b.execute),
        ("constants", a.source_literals == b.source_literals && a.ignored == b.ignored),
        ("weight table", table(a) == table(b)),
        ("metadata", a.metadata == b.metadata),
    ];
    same.iter().filter(|(_, same)| !same).map(|(part, _)| *part).collect()
}

fn nodes(a: &EngineParts, b: &EngineParts) -> Vec<NodeDiff> {
    let labels = [Labels::of(a), Labels::of(b)];
    let programs = [("prepare", [&a.prepare, &b.prepare]), ("execute", [&a.execute, &b.execute])];
    let mut differing = Vec::new();
    for (program, [a, b]) in programs {
        let (a, b) = (described(a, &labels[0]), described(b, &labels[1]));
        let in_a: BTreeSet<_> = a.iter().map(|(key, _)| key.clone()).collect();
        let in_b: BTreeMap<_, _> = b.iter().cloned().collect();
        for (key, text) in a {
            let other = in_b.get(&key).cloned();
            if other.as_ref() != Some(&text) {
                differing.push(NodeDiff { program, node: key.0, a: Some(text), b: other });
            }
        }
        for (key, text) in b.into_iter().filter(|(key, _)| !in_a.contains(key)) {
            differing.push(NodeDiff { program, node: key.0, a: None, b: Some(text) });
        }
    }
    differing
}

/// The nodes of a program by name and, of those that share one, which.
fn described(block: &Block, labels: &Labels) -> Vec<((String, usize), String)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let nodes = block.nodes.iter().map(|node| {
        let which = seen.entry(&node.name).or_insert(0);
        *which += 1;
        ((node.name.clone(), *which), labels.node(node))
    });
    nodes.collect()
}

fn values(name: String, a: &Tensor, b: &Tensor) -> WeightDiff {
    match a.dtype() {
        DType::F32 => compare::<f32>(name, a, b, |v| f64::from(*v)),
        DType::F64 => compare::<f64>(name, a, b, |v| *v),
        DType::F16 => compare::<f16>(name, a, b, |v| v.to_f64()),
        DType::BF16 => compare::<bf16>(name, a, b, |v| v.to_f64()),
        DType::I8 | DType::I4 | DType::I2 => compare::<i8>(name, a, b, |v| f64::from(*v)),
        DType::I16 => compare::<i16>(name, a, b, |v| f64::from(*v)),
        DType::I32 => compare::<i32>(name, a, b, |v| f64::from(*v)),
        // Differences of large 64-bit integers are rounded.
        DType::I64 => compare::<i64>(name, a, b, |v| *v as f64),
        DType::U64 => compare::<u64>(name, a, b, |v| *v as f64),
        DType::U16 => compare::<u16>(name, a, b, |v| f64::from(*v)),
        DType::U32 => compare::<u32>(name, a, b, |v| f64::from(*v)),
        // Small floats by their codes.
        _ => compare::<u8>(name, a, b, |v| f64::from(*v)),
    }
}

fn compare<T: Element>(
    name: String,
    a: &Tensor,
    b: &Tensor,
    number: impl Fn(&T) -> f64,
) -> WeightDiff {
    const TYPED: &str = "both tensors have the type that was matched on";
    let (a, b) = (a.as_slice::<T>().expect(TYPED), b.as_slice::<T>().expect(TYPED));
    let (mut elements, mut not_finite, mut comparable) = (0, 0, 0usize);
    let (mut max, mut sum) = (0f64, 0f64);
    for (x, y) in a.iter().zip(b) {
        let differs = bytemuck::bytes_of(x) != bytemuck::bytes_of(y);
        elements += usize::from(differs);
        let (x, y) = (number(x), number(y));
        if x.is_finite() && y.is_finite() {
            let distance = (x - y).abs();
            comparable += 1;
            max = max.max(distance);
            sum += distance;
        } else {
            not_finite += usize::from(differs);
        }
    }
    let known = comparable > 0;
    WeightDiff {
        name,
        elements,
        of: a.len(),
        max_abs: known.then_some(max),
        mean_abs: known.then(|| sum / comparable as f64),
        not_finite,
    }
}
