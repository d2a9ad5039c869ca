//! A block of an engine, checked against the operator table once, so that planning cannot meet an unknown operator,
//! a missing operand or an attribute of the wrong type.

use crate::error::LoadError;
use engine_format::{Attr, Attrs, Block, DType, Node, Tensor, ValueId};
use engine_ops::OpDef;
use engine_ops::demand::Demand;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A program that can be planned.
#[derive(Debug)]
pub(crate) struct Program {
    /// What it runs.
    pub body: Arc<Body>,
    /// Number of value ids.
    pub values: usize,
    /// Values given per run, in order.
    pub inputs: Vec<ValueId>,
    /// Literals and pinned weights: contents that every plan may rely on.
    pub known: Arc<BTreeMap<ValueId, Tensor>>,
    /// What each value decides.
    pub demands: Arc<Vec<Demand>>,
    /// What only kernels read that take it as halves, should it be a constant of `f16` or `bf16`. Whether it is depends on the version.
    pub halves: Arc<BTreeSet<ValueId>>,
    /// Positions of the outputs that stay on the device where they are tensors.
    pub on_device: BTreeSet<usize>,
}

/// A block.
#[derive(Debug)]
pub(crate) struct Body {
    /// Its parameters: of the body of a loop.
    pub inputs: Vec<ValueId>,
    /// Its nodes in order.
    pub nodes: Vec<Arc<Op>>,
    /// What it gives back.
    pub outputs: Vec<ValueId>,
    /// What it reads and does not define: values of the blocks around it.
    pub captures: BTreeSet<ValueId>,
}

/// A node whose operator is known and whose operands and attributes are what the operator takes.
#[derive(Debug)]
pub(crate) struct Op {
    pub def: &'static OpDef,
    pub attrs: Arc<Attrs>,
    pub path: Arc<str>,
    pub inputs: Vec<Option<ValueId>>,
    pub outputs: Vec<Option<ValueId>>,
    /// Nested blocks by attribute.
    pub bodies: BTreeMap<String, Arc<Body>>,
}

/// Outputs that a run is asked for, by position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// In order.
    pub outputs: Vec<usize>,
    /// Those of them that stay on the device.
    pub on_device: Vec<usize>,
}

impl Program {
    /// The same program with only these of its outputs and what leads to them.
    pub fn wanting(&self, wanted: &Wanted) -> Self {
        let outputs = wanted.outputs.iter().map(|&i| self.body.outputs[i]).collect();
        let stays = |(_, position): &(usize, &usize)| wanted.on_device.contains(position);
        let on_device = wanted.outputs.iter().enumerate().filter(stays).map(|(i, _)| i).collect();
        Self {
            body: Arc::new(self.body.leading_to(outputs)),
            values: self.values,
            inputs: self.inputs.clone(),
            known: self.known.clone(),
            demands: self.demands.clone(),
            halves: self.halves.clone(),
            on_device,
        }
    }
}

impl Body {
    /// The same nodes as far as they lead to `outputs`.
    pub fn restricted(block: &Block, outputs: Vec<ValueId>) -> Block {
        let mut needed: BTreeSet<ValueId> = outputs.iter().copied().collect();
        let mut nodes = Vec::new();
        for node in block.nodes.iter().rev() {
            if node.outputs.iter().flatten().any(|v| needed.contains(v)) {
                reads(node, &mut |v| {
                    needed.insert(v);
                });
                nodes.push(node.clone());
            }
        }
        nodes.reverse();
        Block { inputs: block.inputs.clone(), nodes, outputs }
    }

    /// The same nodes as far as they lead to `outputs`.
    fn leading_to(&self, outputs: Vec<ValueId>) -> Self {
        let mut needed: BTreeSet<ValueId> = outputs.iter().copied().collect();
        let mut nodes = Vec::new();
        for op in self.nodes.iter().rev() {
            if op.outputs.iter().flatten().any(|v| needed.contains(v)) {
                needed.extend(op.reads());
                nodes.push(op.clone());
            }
        }
        nodes.reverse();
        let captures = self.captures.intersection(&needed).copied().collect();
        Self { inputs: self.inputs.clone(), nodes, outputs, captures }
    }

    /// The values of which every reader takes halves, whatever their type.
    pub fn halves(&self) -> BTreeSet<ValueId> {
        let (mut halves, mut words) = (BTreeSet::new(), BTreeSet::new());
        self.sort_reads(&mut halves, &mut words);
        halves.retain(|id| !words.contains(id));
        halves
    }

    /// Adds what readers of halves read to `halves`, what others read to `words`.
    fn sort_reads(&self, halves: &mut BTreeSet<ValueId>, words: &mut BTreeSet<ValueId>) {
        for op in &self.nodes {
            for (i, id) in op.inputs.iter().enumerate() {
                let Some(id) = *id else { continue };
                // The type is looked at where the constant is.
                let reads = op.def.reads_halves(i, DType::F16);
                if reads {
                    halves.insert(id)
                } else {
                    words.insert(id)
                };
            }
            op.bodies.values().for_each(|body| body.sort_reads(halves, words));
        }
        words.extend(&self.outputs);
    }

    /// Calls `f` with every value that the nodes from `start` on, the blocks in them, and the results read.
    pub fn reads_from(&self, start: usize, f: &mut impl FnMut(ValueId)) {
        for op in &self.nodes[start..] {
            op.reads().for_each(&mut *f);
        }
        self.outputs.iter().for_each(|&v| f(v));
    }
}

/// Calls `f` with every value that `node` and the blocks in it read.
pub(crate) fn reads(node: &Node, f: &mut impl FnMut(ValueId)) {
    node.inputs.iter().flatten().for_each(|&v| f(v));
    for attr in node.attrs.values() {
        if let Attr::Block(block) = attr {
            block.nodes.iter().for_each(|inner| reads(inner, f));
            block.outputs.iter().for_each(|&v| f(v));
        }
    }
}

impl Op {
    /// The values that it and the blocks in it read.
    fn reads(&self) -> impl Iterator<Item = ValueId> {
        let captures = self.bodies.values().flat_map(|body| &body.captures);
        self.inputs.iter().flatten().chain(captures).copied()
    }
}

/// The error that lists every problem, if there is one.
pub(crate) fn report(problems: Vec<String>) -> Result<(), LoadError> {
    if problems.is_empty() { Ok(()) } else { Err(LoadError::Unsupported(problems)) }
}
