//! A part of an engine's graph: what is near to some of it.

use crate::graph::reads;
use engine_format::{EngineParts, Node, Port, ValueId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is looked at, and how far from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Names of nodes, of weights and of ports; of the latter two the nodes that read or make them.
    pub names: Vec<String>,
    /// Steps from node to node that are still seen, in either direction. Weights and inputs join no nodes: many may read one.
    pub depth: usize,
}

/// The engine without what is further away. Its weight table is whole, so that rows keep their numbers.
pub(super) fn near(parts: &EngineParts, around: &Around) -> EngineParts {
    let nodes: Vec<&Node> = parts.prepare.nodes.iter().chain(&parts.execute.nodes).collect();
    let reads: Vec<Vec<ValueId>> = nodes.iter().map(|node| reads(node)).collect();
    let made = |node: &Node| node.outputs.iter().flatten().copied().collect::<Vec<_>>();
    let producers: BTreeMap<ValueId, usize> = nodes
        .iter()
        .enumerate()
        .flat_map(|(i, node)| made(node).into_iter().map(move |v| (v, i)))
        .collect();
    let mut neighbours = vec![BTreeSet::new(); nodes.len()];
    for (reader, values) in reads.iter().enumerate() {
        for &producer in values.iter().filter_map(|value| producers.get(value)) {
            neighbours[reader].insert(producer);
            neighbours[producer].insert(reader);
        }
    }
    let is_meant = |name: &String| around.names.contains(name);
    let weights = parts.weights.iter().map(|weight| (&weight.name, weight.value));
    let ports = parts.inputs.iter().chain(&parts.outputs).map(|port| (&port.name, port.value));
    let meant: BTreeSet<ValueId> =
        weights.chain(ports).filter(|(name, _)| is_meant(name)).map(|(_, value)| value).collect();
    let mut distance: BTreeMap<usize, usize> = (0..nodes.len())
        .filter(|&i| {
            let touched = made(nodes[i]).into_iter().chain(reads[i].iter().copied());
            is_meant(&nodes[i].name) || touched.into_iter().any(|value| meant.contains(&value))
        })
        .map(|i| (i, 0))
        .collect();
    let mut next: VecDeque<usize> = distance.keys().copied().collect();
    while let Some(at) = next.pop_front() {
        let further = distance[&at] + 1;
        for &neighbour in neighbours[at].iter().filter(|_| further <= around.depth) {
            distance.entry(neighbour).or_insert_with(|| {
                next.push_back(neighbour);
                further
            });
        }
    }
    let mut part = parts.clone();
    let mut index = 0;
    for block in [&mut part.prepare, &mut part.execute] {
        block.nodes.retain(|_| {
            index += 1;
            distance.contains_key(&(index - 1))
        });
    }
    let kept = || distance.keys().copied();
    let read: BTreeSet<ValueId> = kept().flat_map(|i| reads[i].iter().copied()).collect();
    let made: BTreeSet<ValueId> = kept().flat_map(|i| made(nodes[i])).collect();
    part.prepare.outputs.retain(|value| made.contains(value));
    part.inputs.retain(|port: &Port| read.contains(&port.value));
    part.outputs.retain(|port| made.contains(&port.value));
    part
}
