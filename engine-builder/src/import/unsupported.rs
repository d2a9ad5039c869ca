//! Finds every operator of a model that is not known here, before anything is imported.

use super::adapters;
use engine_onnx::{AttrValue, Graph, Model, Node};
use engine_ops::{OnnxName, TABLE};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Node names written out for one operator; the rest is counted.
const NAMES_SHOWN: usize = 8;

/// Where an operator comes from, and why it is not taken.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Unsupported {
    domain: String,
    op: String,
    opset: i64,
    why: String,
}

/// A message that lists every unsupported operator with its nodes, and all these nodes; `None` if there is none.
pub(super) fn report(model: &Model) -> Option<(String, Vec<String>)> {
    let mut found = BTreeMap::<Unsupported, Vec<String>>::new();
    collect(&model.graph, &mut found);
    if found.is_empty() {
        return None;
    }
    let nodes: usize = found.values().map(Vec::len).sum();
    let mut text = format!("{} unsupported operators in {nodes} nodes:", found.len());
    for (Unsupported { domain, op, opset, why }, names) in &found {
        let domain = if domain.is_empty() { "ai.onnx" } else { domain };
        let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        let more = match names.len().saturating_sub(NAMES_SHOWN) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        write!(text, "\n  {domain} {op} (opset {opset}{why}): {}{more}", shown.join(", "))
            .expect("writing to a String does not fail");
    }
    Some((text, found.into_values().flatten().collect()))
}

fn collect(graph: &Graph, found: &mut BTreeMap<Unsupported, Vec<String>>) {
    for node in &graph.nodes {
        if let Some(why) = reason(node) {
            let key = Unsupported {
                domain: node.domain.clone(),
                op: node.op_type.clone(),
                opset: node.opset,
                why,
            };
            found.entry(key).or_default().push(graph.qualify(&node.name));
        }
        for inner in node.attrs.values().flat_map(AttrValue::graphs) {
            collect(inner, found);
        }
    }
}

/// Why `node` cannot be imported, as an addition to its opset; `None` if it can.
fn reason(node: &Node) -> Option<String> {
    if node.is_constant() {
        return None;
    }
    if node.domain.is_empty() && node.opset > OnnxName::LATEST {
        return Some(format!(", newest known {}", OnnxName::LATEST));
    }
    if engine_ops::lookup_onnx(&node.domain, &node.op_type, node.opset).is_some() {
        return None;
    }
    if adapters::has(node) {
        return None;
    }
    let known = |o: &&OnnxName| o.domain == node.domain && o.name == node.op_type;
    let ranges: Vec<String> = TABLE
        .iter()
        .flat_map(|def| def.onnx)
        .filter(known)
        .map(|o| format!("{} to {}", o.since, o.until))
        .collect();
    let ranges = ranges.join(" and ");
    Some(if ranges.is_empty() { String::new() } else { format!(", known {ranges}") })
}
