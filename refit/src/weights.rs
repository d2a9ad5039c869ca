//! What there is to say about an engine's weights.

use crate::graph::{each_node, reads};
use engine_format::{Engine, EngineParts, ValueId, Weight, WeightClass, WeightData};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A row of the weight table, and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightSummary {
    /// Its own name.
    pub name: String,
    /// Other names under which a source may bring it.
    pub aliases: Vec<String>,
    /// Element type.
    pub dtype: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Bytes it takes unpacked.
    pub bytes: usize,
    /// `weight` or `parameter`.
    pub class: &'static str,
    /// Why it is pinned, if it is.
    pub pinned: Option<String>,
    /// Why it takes no other values than those it was built with; none if it takes any.
    pub fixed: Option<String>,
    /// Whether it may be given values at all.
    pub refittable: bool,
    /// Whether its bytes are here.
    pub stored: bool,
    /// Digest of its bytes, if it is known.
    pub digest: Option<String>,
    /// The nodes of `execute` that read it, or something prepared from it, in program order.
    pub reaches: Vec<ReachedNode>,
}

/// A node of `execute` that a weight reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReachedNode {
    /// Its path in the model.
    pub node: String,
    /// Its operator.
    pub op: String,
}

/// Every weight of `engine`, in table order.
pub fn weight_summaries(engine: &Engine) -> Vec<WeightSummary> {
    let mut reached = reached(engine.parts());
    let weights = engine.parts().weights.iter().zip(&mut reached);
    weights.map(|(weight, reached)| summary(engine, weight, std::mem::take(reached))).collect()
}

fn summary(engine: &Engine, weight: &Weight, reaches: Vec<ReachedNode>) -> WeightSummary {
    WeightSummary {
        name: weight.name.clone(),
        aliases: weight.aliases.iter().map(ToString::to_string).collect(),
        dtype: weight.dtype.to_string(),
        shape: weight.shape.clone(),
        bytes: weight.byte_len(),
        class: match weight.class {
            WeightClass::Weight => "weight",
            WeightClass::Parameter => "parameter",
        },
        pinned: weight.pinned.clone(),
        fixed: weight.fixed(engine.flags()),
        refittable: weight.refittable,
        stored: weight.data != WeightData::Missing,
        digest: weight.digest.map(|digest| digest.to_string()),
        reaches,
    }
}

/// By row of the table: the nodes of `execute` that depend on the weight at once or through `prepare`.
fn reached(parts: &EngineParts) -> Vec<Vec<ReachedNode>> {
    // The weights that each value is made of, as far as `prepare` goes.
    let rows = parts.weights.iter().enumerate();
    let mut made_of: BTreeMap<ValueId, BTreeSet<usize>> =
        rows.map(|(row, weight)| (weight.value, BTreeSet::from([row]))).collect();
    for node in &parts.prepare.nodes {
        let of: BTreeSet<usize> =
            reads(node).iter().filter_map(|v| made_of.get(v)).flatten().copied().collect();
        made_of.extend(node.outputs.iter().flatten().map(|&output| (output, of.clone())));
    }
    let mut reached = vec![Vec::new(); parts.weights.len()];
    each_node(&parts.execute, &mut |node| {
        let direct = node.inputs.iter().flatten().filter_map(|v| made_of.get(v)).flatten();
        for &row in direct.collect::<BTreeSet<_>>() {
            reached[row].push(ReachedNode { node: node.name.clone(), op: node.op.clone() });
        }
    });
    reached
}
