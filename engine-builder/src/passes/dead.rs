//! Removes nodes whose results nobody reads, results that nobody asks for, and constants without a use.

use crate::error::BuildError;
use crate::graph::{Graph, blocks_mut};
use crate::op;
use crate::report::Notes;
use engine_format::{Node, ValueId};
use engine_ops::control::Ties;
use engine_ops::{Kind, OpName, lookup};
use std::collections::BTreeSet;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let mut live: BTreeSet<ValueId> = graph.outputs.iter().map(|o| o.value).collect();
    let mut changed = sweep(&mut graph.execute, &mut live, notes);
    changed |= sweep(&mut graph.prepare, &mut live, notes);
    let before = graph.constants.len();
    graph.constants.retain(|id, _| live.contains(id));
    Ok(changed || graph.constants.len() < before)
}

fn sweep(nodes: &mut Vec<Node>, live: &mut BTreeSet<ValueId>, notes: &mut Notes) -> bool {
    let before = nodes.len();
    let mut changed = false;
    let mut kept = Vec::with_capacity(before);
    for mut node in std::mem::take(nodes).into_iter().rev() {
        if !node.outputs.iter().flatten().any(|id| live.contains(id)) {
            notes.done(&node.name, format!("nothing reads what {} gives", node.op));
            continue;
        }
        changed |= drop_results(&mut node, live);
        for block in blocks_mut(&mut node) {
            live.extend(&block.outputs);
            changed |= sweep(&mut block.nodes, live, notes);
        }
        live.extend(node.inputs.iter().flatten());
        kept.push(node);
    }
    kept.reverse();
    *nodes = kept;
    changed | (nodes.len() < before)
}

/// Stops asking for results that nobody reads. An operator's first result always stays; those of an `If` also leave its
/// branches, and what a `Loop` stacks its body, so that what computed them dies too.
fn drop_results(node: &mut Node, live: &BTreeSet<ValueId>) -> bool {
    let dead = |output: &Option<ValueId>| output.is_none_or(|id| !live.contains(&id));
    if OpName::of(node) == op::If {
        let keep: Vec<bool> = node.outputs.iter().map(|output| !dead(output)).collect();
        if keep.iter().all(|&k| k) {
            return false;
        }
        let kept = |i: usize| keep.get(i).copied().unwrap_or(false);
        let mut i = 0..;
        node.outputs.retain(|_| i.next().is_some_and(kept));
        for block in blocks_mut(node) {
            let mut i = 0..;
            block.outputs.retain(|_| i.next().is_some_and(kept));
        }
        return true;
    }
    if let Some((ties, _)) = Ties::of_node(node) {
        return drop_repeated(node, &ties, dead);
    }
    if lookup(&node.op, node.version).is_none_or(|def| def.kind == Kind::Control) {
        return false;
    }
    let mut changed = false;
    for output in node.outputs.iter_mut().skip(1) {
        if output.is_some() && dead(output) {
            *output = None;
            changed = true;
        }
    }
    while node.outputs.len() > 1 && node.outputs.last() == Some(&None) {
        // An operator that counts its results (Split) keeps them all.
        if lookup(&node.op, node.version).is_some_and(|def| def.variadic_output) {
            break;
        }
        node.outputs.pop();
    }
    changed
}

/// The same for a Loop or Scan. A Scan lists axes and directions by result, so its body keeps all of them.
fn drop_repeated(node: &mut Node, ties: &Ties, dead: impl Fn(&Option<ValueId>) -> bool) -> bool {
    let mut changed = false;
    for output in node.outputs.iter_mut().filter(|output| output.is_some() && dead(output)) {
        *output = None;
        changed = true;
    }
    if OpName::of(node) != op::Loop {
        return changed;
    }
    for i in (ties.carried..ties.carried + ties.stacked).rev() {
        if node.outputs.get(i).is_some_and(Option::is_some) {
            continue;
        }
        if i < node.outputs.len() {
            node.outputs.remove(i);
        }
        for body in blocks_mut(node) {
            body.outputs.remove(ties.first_result + i);
        }
        changed = true;
    }
    changed
}
