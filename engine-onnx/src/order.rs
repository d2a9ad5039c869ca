//! Nodes in an order in which each comes after those whose results it uses. The standard asks files for it; not all keep to it.

use crate::{AttrValue, Graph, Node, OnnxError};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// Nodes of a cycle that a message names; the rest is counted.
const NODES_SHOWN: usize = 8;

/// Sorts the nodes of a graph and of those nested in it, so that each uses only what is before it. Nodes that may stay where
/// they are do.
///
/// # Errors
///
/// Nodes that need each other's results, and a value that two nodes define in a graph whose order does not say which is meant.
pub(crate) fn sort(graph: &mut Graph) -> Result<(), OnnxError> {
    sort_inside(graph, &mut Vec::new())
}

/// `around` has the names that each graph around this one defines.
fn sort_inside(graph: &mut Graph, around: &mut Vec<HashSet<String>>) -> Result<(), OnnxError> {
    sort_level(graph, around).map_err(|error| match graph.scope.as_str() {
        "" => error,
        scope => error.at(format_args!("graph {scope:?}")),
    })?;
    if graph.nodes.iter().all(|node| node.attrs.values().all(|attr| attr.graphs().is_empty())) {
        return Ok(());
    }
    let given = given(graph).map(str::to_owned);
    let results = graph.nodes.iter().flat_map(|node| &node.outputs).cloned();
    around.push(given.chain(results).collect());
    for node in &mut graph.nodes {
        for inner in node.attrs.values_mut().flat_map(AttrValue::graphs_mut) {
            sort_inside(inner, around)?;
        }
    }
    around.pop();
    Ok(())
}

/// What is there before the first node of a graph.
fn given(graph: &Graph) -> impl Iterator<Item = &str> {
    let inputs = graph.inputs.iter().map(|input| input.name.as_str());
    inputs.chain(graph.initializers.iter().map(|initializer| initializer.name.as_str()))
}

fn sort_level(graph: &mut Graph, around: &[HashSet<String>]) -> Result<(), OnnxError> {
    let needs = {
        let given: HashSet<&str> = given(graph).collect();
        let outside =
            |name: &str| given.contains(name) || around.iter().any(|names| names.contains(name));
        let uses: Vec<Vec<&str>> = graph.nodes.iter().map(uses).collect();
        if is_sorted(&graph.nodes, &uses, outside) {
            return Ok(());
        }
        needs(&graph.nodes, &uses, outside)?
    };
    let order = order(&needs).map_err(|at| cycle(&graph.nodes, &needs, at))?;
    let mut nodes: Vec<Option<Node>> =
        std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    Ok(())
}

/// Names of values that a node reads, those that its nested graphs take from around them included.
fn uses(node: &Node) -> Vec<&str> {
    let mut names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    for graph in node.attrs.values().flat_map(AttrValue::graphs) {
        captured(graph, &mut names);
    }
    names.retain(|name| !name.is_empty());
    names
}

/// Adds the names that a nested graph reads and does not define.
fn captured<'a>(graph: &'a Graph, names: &mut Vec<&'a str>) {
    let results = graph.nodes.iter().flat_map(|node| &node.outputs).map(String::as_str);
    let own: HashSet<&str> = given(graph).chain(results).collect();
    let read = graph.nodes.iter().flat_map(uses);
    let read = read.chain(graph.outputs.iter().map(|output| output.name.as_str()));
    names.extend(read.filter(|name| !own.contains(name)));
}

fn is_sorted(nodes: &[Node], uses: &[Vec<&str>], outside: impl Fn(&str) -> bool) -> bool {
    let all: HashSet<&str> = results(nodes).map(|(_, name)| name).collect();
    let mut defined = HashSet::new();
    nodes.iter().zip(uses).all(|(node, uses)| {
        let there = |name: &&str| defined.contains(name) || !all.contains(name) || outside(name);
        let sorted = uses.iter().all(there);
        defined.extend(node.outputs.iter().map(String::as_str));
        sorted
    })
}

/// The results of nodes, with the position of the node.
fn results(nodes: &[Node]) -> impl Iterator<Item = (usize, &str)> {
    let all = nodes.iter().enumerate();
    let all = all.flat_map(|(i, node)| node.outputs.iter().map(move |name| (i, name.as_str())));
    all.filter(|(_, name)| !name.is_empty())
}

/// For each node those whose results it uses.
fn needs(
    nodes: &[Node],
    uses: &[Vec<&str>],
    outside: impl Fn(&str) -> bool,
) -> Result<Vec<Vec<usize>>, OnnxError> {
    let mut producers = HashMap::new();
    for (i, name) in results(nodes) {
        if let Some(other) = producers.insert(name, i) {
            let (a, b) = (&nodes[other].name, &nodes[i].name);
            return Err(OnnxError::invalid(format!(
                "value {name:?} of a graph whose nodes are not sorted"
            ))
            .expected("one node that defines it")
            .found(format_args!("{a:?} and {b:?}")));
        }
    }
    let of = |uses: &Vec<&str>| {
        let inside = uses.iter().filter(|name| !outside(name));
        inside.filter_map(|name| producers.get(name).copied()).collect()
    };
    Ok(uses.iter().map(of).collect())
}

/// Positions so that each comes after those it needs, the lowest first where there is a choice; else one that is never reached.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut consumers = vec![Vec::new(); needs.len()];
    for (i, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|&needed| consumers[needed].push(i));
    }
    let ready = (0..needs.len()).filter(|&i| missing[i] == 0).map(Reverse);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &consumer in &consumers[i] {
            missing[consumer] -= 1;
            if missing[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    match missing.iter().position(|&missing| missing > 0) {
        Some(stuck) => Err(in_cycle(needs, &order, stuck)),
        None => Ok(order),
    }
}

/// A node of a cycle that keeps the node `stuck` from being reached.
fn in_cycle(needs: &[Vec<usize>], reached: &[usize], stuck: usize) -> usize {
    let reached: HashSet<usize> = reached.iter().copied().collect();
    let (mut at, mut seen) = (stuck, HashSet::new());
    while seen.insert(at) {
        // What is not reached needs something that is not.
        at = needs[at].iter().copied().find(|needed| !reached.contains(needed)).unwrap_or(at);
    }
    at
}

/// The error that names a cycle through the node `at`.
fn cycle(nodes: &[Node], needs: &[Vec<usize>], at: usize) -> OnnxError {
    // The shortest way back, so that nothing beside the cycle is named.
    let mut from = HashMap::new();
    let mut layer = vec![at];
    while !from.contains_key(&at) && !layer.is_empty() {
        let mut next = Vec::new();
        for i in layer {
            for &needed in &needs[i] {
                from.entry(needed).or_insert_with(|| {
                    next.push(needed);
                    i
                });
            }
        }
        layer = next;
    }
    let (mut path, mut i) = (vec![at], at);
    while let Some(&consumer) = from.get(&i) {
        path.push(consumer);
        i = consumer;
        if i == at {
            break;
        }
    }
    let named = |&i: &usize| format!("{:?} ({})", nodes[i].name, nodes[i].op_type);
    let shown: Vec<String> = path.iter().take(NODES_SHOWN).map(named).collect();
    let more = match path.len().saturating_sub(NODES_SHOWN) {
        0 => String::new(),
        more => format!(" → … and {more} more"),
    };
    OnnxError::invalid("nodes need each other's results")
        .expected("a graph without cycles")
        .found(format_args!("{}{more}", shown.join(" → ")))
}
