//! Fuses elementwise operators into the product before them, or into each other: a chain of stages that runs while the
//! elements are at hand ([`engine_ops::chain`]). Bias, activation, bounds and residual are all stages.
//!
//! A chain goes on as long as its value is read by one elementwise operator alone, whose result has the same shape. The
//! fused node stands where the last of them stood, so that everything it reads is there.

use super::product::scalar;
use super::scalars::{peek, pin};
use super::transposes::axes;
use super::use_def::{Rewriter, UseDef};
use crate::error::BuildError;
use crate::graph::{Graph, blocks_mut};
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Dim, Node, ValueId};
use engine_ops::chain::{AsStage, MOST_OPERANDS, MOST_STAGES, REPLACE, as_stages};
use engine_ops::{OpName, lookup};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let results: Vec<ValueId> = graph.outputs.iter().map(|output| output.value).collect();
    let nodes = std::mem::take(&mut graph.execute);
    let prepare = std::mem::take(&mut graph.prepare);
    let none = BTreeSet::new();
    let prepared = UseDef::new(&prepare, &[], &none);
    let (nodes, changed) = fuse(graph, nodes, &prepared, &results, notes);
    graph.execute = nodes;
    graph.prepare = prepare;
    if changed {
        super::dead::run(graph, &mut Notes::default())?;
    }
    Ok(changed)
}

fn fuse(
    graph: &mut Graph,
    mut nodes: Vec<Node>,
    prepared: &UseDef<'_>,
    results: &[ValueId],
    notes: &mut Notes,
) -> (Vec<Node>, bool) {
    let mut changed = false;
    for block in nodes.iter_mut().flat_map(blocks_mut) {
        let inner = std::mem::take(&mut block.nodes);
        let (inner, inside) = fuse(graph, inner, prepared, &block.outputs, notes);
        block.nodes = inner;
        changed |= inside;
    }
    let none = BTreeSet::new();
    let use_def = UseDef::new(&nodes, results, &none);
    let mut fused = Fused { taken: vec![false; nodes.len()], at: BTreeMap::new() };
    for (i, node) in nodes.iter().enumerate() {
        product(graph, [&use_def, prepared], &mut fused, i, node, notes);
    }
    for (i, node) in nodes.iter().enumerate() {
        elementwise(graph, &use_def, &mut fused, i, node, notes);
    }
    changed |= !fused.at.is_empty();
    let mut out = Vec::with_capacity(nodes.len());
    for (i, node) in nodes.into_iter().enumerate() {
        match fused.at.remove(&i) {
            Some(new) => out.extend(new),
            None if fused.taken[i] => {}
            None => out.push(node),
        }
    }
    (out, changed)
}

/// What was fused in one list of nodes.
struct Fused {
    /// Nodes that are part of a chain.
    taken: Vec<bool>,
    /// The fused nodes, by the position that they take.
    at: BTreeMap<usize, Vec<Node>>,
}

/// A chain being collected.
struct Chain<'a> {
    members: Vec<usize>,
    last: &'a Node,
    stages: Vec<String>,
    scalars: Vec<f32>,
    operands: Vec<Operand>,
    /// Whether masks may put numbers in the place of elements. They are made for it, which pays behind a product.
    masks: bool,
}

/// An operand of a stage.
enum Operand {
    Given(Option<ValueId>),
    Mask(Mask),
}

impl<'a> Chain<'a> {
    fn new(at: usize, first: &'a Node, masks: bool) -> Self {
        Self {
            members: vec![at],
            last: first,
            stages: Vec::new(),
            scalars: Vec::new(),
            operands: Vec::new(),
            masks,
        }
    }

    /// Adds a node's stages if there is room for them.
    fn push(&mut self, node: &Node, stages: Vec<AsStage>) -> Result<(), String> {
        let operands = stages.iter().filter(|stage| stage.operand.is_some()).count();
        if self.stages.len() + stages.len() > MOST_STAGES
            || self.operands.len() + operands > MOST_OPERANDS
        {
            return Err(format!(
                "the chain before it is full: {} stages with {} operands",
                self.stages.len(),
                self.operands.len()
            ));
        }
        for stage in stages {
            self.stages.push(stage.name.to_owned());
            self.scalars.extend(stage.scalars);
            self.operands.extend(stage.operand.map(|i| Operand::Given(node.inputs[i])));
        }
        Ok(())
    }

    /// Adds a node that puts one number in the place of what a condition picks, if it is one.
    fn push_mask(
        &mut self,
        graph: &Graph,
        node: &Node,
        value: ValueId,
    ) -> Option<Result<(), String>> {
        let mask = Mask::of(graph, node, value).filter(|_| self.masks)?;
        let condition = AsStage { name: REPLACE, scalars: Vec::new(), operand: Some(0) };
        let fits = fits(graph, node, value, std::slice::from_ref(&condition));
        Some(fits.and_then(|()| self.push(node, vec![condition])).map(|()| {
            self.operands.pop();
            self.operands.push(Operand::Mask(mask));
        }))
    }

    /// The operands as values; masks are made.
    fn values(
        &mut self,
        rewriter: &mut Rewriter<'_>,
        fusion: OpName<'_>,
        root: &Node,
    ) -> Vec<Option<ValueId>> {
        let value = |operand| match operand {
            Operand::Given(id) => id,
            Operand::Mask(mask) => Some(mask.made(rewriter, fusion, root)),
        };
        std::mem::take(&mut self.operands).into_iter().map(value).collect()
    }

    /// Goes on through operators that alone read what the chain gives.
    fn extend(&mut self, graph: &Graph, use_def: &UseDef<'a>, taken: &[bool], notes: &mut Notes) {
        while let [Some(value)] = self.last.outputs[..] {
            let Some((at, reader)) = use_def.only_reader(value) else {
                let elementwise = |node: &Node| {
                    let x = node.inputs.iter().position(|&id| id == Some(value));
                    x.is_some_and(|x| stages_of(node, x).is_some())
                };
                if let Some(reader) = use_def.consumers(value).find(|node| elementwise(node)) {
                    let what = format!("{} is read elsewhere too", graph.value(value).name);
                    notes.kept(&reader.name, what);
                }
                return;
            };
            if taken[at] {
                return;
            }
            let x = reader.inputs.iter().position(|&id| id == Some(value));
            let pushed = match x.and_then(|x| stages_of(reader, x)) {
                Some(stages) => {
                    let fits = fits(graph, reader, value, &stages);
                    fits.and_then(|()| self.push(reader, stages))
                }
                None => match self.push_mask(graph, reader, value) {
                    Some(pushed) => pushed,
                    None => return,
                },
            };
            if let Err(why) = pushed {
                notes.kept(&reader.name, why);
                return;
            }
            self.members.push(at);
            self.last = reader;
        }
    }

    fn attrs(&mut self, attrs: &mut Attrs) {
        attrs.insert("stages".to_owned(), Attr::Strs(std::mem::take(&mut self.stages)));
        if !self.scalars.is_empty() {
            attrs.insert("scalars".to_owned(), Attr::Floats(std::mem::take(&mut self.scalars)));
        }
    }

    fn finish(self, fused: &mut Fused, nodes: Vec<Node>) {
        for &member in &self.members {
            fused.taken[member] = true;
        }
        let last = *self.members.iter().max().expect("a chain has a first member");
        fused.at.insert(last, nodes);
    }
}

/// A choice between the elements of a chain and one number.
struct Mask {
    condition: ValueId,
    /// Whether elements stay where the condition holds.
    keeps: bool,
    /// The number, and the constant that it was read from.
    number: f32,
    read: ValueId,
}

impl Mask {
    fn of(graph: &Graph, node: &Node, x: ValueId) -> Option<Self> {
        if OpName::of(node) != op::Where {
            return None;
        }
        let [condition, yes, no] = [0, 1, 2].map(|i| UseDef::operand(node, i));
        let (condition, yes, no) = (condition?, yes?, no?);
        let (keeps, read) = if yes == x { (true, no) } else { (false, yes) };
        let number = peek(graph, read).filter(|number| !number.is_nan())?;
        Some(Self { condition, keeps, number, read })
    }

    /// What the stage reads: the number where it is to stand, and elsewhere NaN. The number that was read is in it.
    fn made(&self, rewriter: &mut Rewriter<'_>, fusion: OpName<'_>, root: &Node) -> ValueId {
        pin(rewriter.graph, &[self.read], fusion, root);
        let [number, keep] = [("number", self.number), ("keep", f32::NAN)]
            .map(|(name, value)| scalar(rewriter, name, value));
        let choice = if self.keeps { [keep, number] } else { [number, keep] };
        rewriter.node("mask", op::Where, &[self.condition, choice[0], choice[1]], &[])
    }
}

/// What a node does to its operand number `x` as stages.
fn stages_of(node: &Node, x: usize) -> Option<Vec<AsStage>> {
    let def = lookup(&node.op, node.version)?;
    let given: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
    as_stages(def, &node.attrs, &given, x).filter(|_| node.outputs.len() == 1)
}

/// Whether `node` gives what its operand `value` has the shape of, with operands that broadcast to it, all of f32.
fn fits(graph: &Graph, node: &Node, value: ValueId, stages: &[AsStage]) -> Result<(), String> {
    let result = node.outputs[0].ok_or("its result has no name")?;
    let operands = stages.iter().filter_map(|stage| node.inputs[stage.operand?]);
    let condition = node.inputs[0].filter(|_| OpName::of(node) == op::Where);
    for id in operands.clone().chain([value, result]) {
        let dtype = graph.facts(id).dtype;
        if dtype != DType::F32 && Some(id) != condition {
            return Err(format!("{} is {dtype}, fused are f32", graph.value(id).name));
        }
    }
    let shape = |id: ValueId| {
        let shape = graph.facts(id).shape.as_deref();
        shape.ok_or_else(|| format!("the rank of {} is not known", graph.value(id).name))
    };
    let (x, y) = (shape(value)?, shape(result)?);
    if x != y {
        return Err(format!("{} grows from {x:?} to {y:?}", graph.value(value).name));
    }
    for id in operands {
        let other = shape(id)?;
        let one = Dim::from(1);
        let within = other.len() <= x.len()
            && other.iter().rev().zip(x.iter().rev()).all(|(a, b)| *a == one || a == b);
        if !within {
            let name = &graph.value(id).name;
            return Err(format!("{name} {other:?} may be larger than {x:?}"));
        }
    }
    Ok(())
}

fn product(
    graph: &mut Graph,
    [use_def, prepared]: [&UseDef<'_>; 2],
    fused: &mut Fused,
    at: usize,
    node: &Node,
    notes: &mut Notes,
) {
    let Some(own) = lookup(&node.op, node.version) else { return };
    let Some(op) = own.fused.map(OpName::from) else { return };
    if node.outputs[0].is_none_or(|id| graph.facts(id).dtype != DType::F32) {
        return;
    }
    let mut chain = Chain::new(at, node, true);
    chain.extend(graph, use_def, &fused.taken, notes);
    let (mut inputs, mut attrs) = (node.inputs.clone(), node.attrs.clone());
    let mut rewriter = Rewriter::at(graph, node);
    let transposed = op == op::FusedMatMul
        && transpose(&mut rewriter, [use_def, prepared], &mut inputs, &mut attrs);
    if chain.stages.is_empty() && !transposed {
        return;
    }
    let with = if transposed { " with a transposed operand" } else { "" };
    notes.done(&node.name, format!("{op}{with}, stages: {}", chain.stages.join(", ")));
    inputs.resize(own.inputs.len(), None);
    inputs.append(&mut chain.values(&mut rewriter, op, node));
    chain.attrs(&mut attrs);
    let nodes = rewriter.last(op, inputs, attrs, chain.last);
    chain.finish(fused, nodes);
}

/// Reads operands of a MatMul untransposed where a node swaps their last two axes, at a run or at a refit: packing transposes a block
/// of a weight as fast as it copies one, and a refit has nothing to do. Where a node brings the last axis of the
/// right operand before another one, it need only bring that one to its place: rows are then moved whole.
fn transpose(
    rewriter: &mut Rewriter<'_>,
    [use_def, prepared]: [&UseDef<'_>; 2],
    inputs: &mut [Option<ValueId>],
    attrs: &mut Attrs,
) -> bool {
    let mut transposed = false;
    for (i, name) in ["transA", "transB"].into_iter().enumerate() {
        let producer =
            |use_def: &UseDef<'_>| use_def.made_by(inputs[i]?, &[op::Transpose]).cloned();
        let (at_run, at_refit) = (producer(use_def), producer(prepared));
        let is_prepared = at_refit.is_some();
        let producer =
            at_run.or(at_refit).and_then(|node| Some((axes(rewriter.graph, &node)?, node)));
        let Some((mut perm, node)) = producer else { continue };
        let rank = perm.len();
        let Some(operand) = UseDef::operand(&node, 0).filter(|_| rank >= 2) else { continue };
        let rows = i == 1 && !is_prepared && perm[rank - 2] == rank - 1;
        perm.swap(rank - 2, rank - 1);
        let swapped = perm.iter().enumerate().all(|(i, &axis)| i == axis);
        if !swapped && !rows {
            continue;
        }
        inputs[i] = Some(match swapped {
            true => operand,
            false => {
                let perm = perm.into_iter().map(|axis| axis as i64).collect();
                rewriter.node("rows", op::Transpose, &[operand], &[("perm", Attr::Ints(perm))])
            }
        });
        attrs.insert(name.to_owned(), Attr::Int(1));
        transposed = true;
    }
    transposed
}

fn elementwise(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    fused: &mut Fused,
    at: usize,
    node: &Node,
    notes: &mut Notes,
) {
    if fused.taken[at] {
        return;
    }
    let mut chain = Chain::new(at, node, false);
    let first = node.inputs.iter().enumerate().find_map(|(x, &id)| {
        let stages = stages_of(node, x)?;
        fits(graph, node, id?, &stages).is_ok().then_some((id, stages))
    });
    let Some((x, stages)) = first else { return };
    if chain.push(node, stages).is_err() {
        return;
    }
    chain.extend(graph, use_def, &fused.taken, notes);
    if chain.members.len() < 2 {
        return;
    }
    notes.done(&node.name, format!("one pass: {}", chain.stages.join(", ")));
    let mut rewriter = Rewriter::at(graph, node);
    let mut inputs = vec![x];
    inputs.append(&mut chain.values(&mut rewriter, op::Elementwise, node));
    let mut attrs = Attrs::new();
    chain.attrs(&mut attrs);
    let nodes = rewriter.last(op::Elementwise, inputs, attrs, chain.last);
    chain.finish(fused, nodes);
}
