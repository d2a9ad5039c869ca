//! What each constant is: weight, parameter, literal or pinned weight, by where it flows and in which role.

mod roles;

use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass, Graph, blocks};
use crate::import::Imported;
use engine_format::{Block, DType, ValueId};
use engine_ops::demand::{Demand, demands_through};
use engine_ops::dependence::{self, Dependence};
use engine_ops::{Kind, lookup};
use roles::Roles;
use std::collections::{BTreeMap, BTreeSet};

/// Every named constant of the model under its class, independent of what passes do to the graph later.
pub(crate) type Sources = BTreeMap<String, Constant>;

/// Sets the class of every constant and brings the graph's facts in line: the values of what may be refitted are
/// forgotten.
pub(crate) fn classify(imported: &mut Imported) -> Result<Classified, BuildError> {
    let Imported { graph, decided, learned, notes: _, origins: _ } = imported;
    let program = Program { execute: graph.execute_block(), graph };
    let demand = program.demands(&|_| true);
    let Roles { weights, factors } = roles::roles(&program, &demand, learned);
    let fixed = program.fixed(&weights);
    let used = graph.used_values();
    let mut sources = Sources::new();
    let mut named = BTreeSet::new();
    for (id, constant) in &mut graph.constants {
        if constant.source.is_some() {
            let (all, weight) = (demand[id.index()], weights.contains(id));
            let by_flow = !weight && !constant.tensor.dtype().is_float();
            let fixing = if by_flow { all } else { fixed[id.index()] };
            constant.class = class(constant, !weight, all.data, fixing, decided.contains(id));
        }
        if let Some(name) = &constant.source
            && (used.contains(id) || decided.contains(id))
        {
            sources.insert(name.clone(), constant.clone());
            if factors.contains(id) && is_trained_name(name) {
                named.insert(name.clone());
            }
        }
    }
    graph.constants.retain(|id, _: &mut Constant| used.contains::<ValueId>(id));
    crate::infer_all(graph)?;
    let keeps_names = sources.iter().any(|(name, constant)| {
        let learned = ConstantClass::Weight { parameter: false, pinned: None };
        constant.class == learned && name.contains('.') && is_trained_name(name)
    });
    Ok(Classified { sources, named: if keeps_names { named } else { BTreeSet::new() } })
}

/// Whether a name is one that a state dict may have, a path of identifiers, rather than one that an exporter makes up:
/// `/layer/Constant_output_0`, `onnx::Mul_12`, `val_7`.
fn is_trained_name(name: &str) -> bool {
    let mut steps = name.split('.');
    let word = |step: &str| {
        !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let counted = |step: &str| {
        let last = step.rsplit('_').next();
        last.is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    };
    steps.clone().all(word) && (name.contains('.') || !steps.any(counted))
}

/// What classification says of a model's named constants.
pub(crate) struct Classified {
    /// Those that the graph uses.
    pub(crate) sources: Sources,
    /// Parameters that look trained: scalars that scale or shift the result of a layer, under names of their own in a model that
    /// keeps those of a state dict (`logit_scale`). Nothing but a checkpoint can tell.
    named: BTreeSet<String>,
}

impl Classified {
    /// Without a checkpoint that could tell, parameters that look trained are weights unless a pass read their values: a source
    /// that lacks one is refused.
    pub(crate) fn trust_names(&mut self, pinned: &BTreeMap<String, String>) {
        for name in self.named.iter().filter(|name| !pinned.contains_key(*name)) {
            if let Some(Constant { class, .. }) = self.sources.get_mut(name)
                && let ConstantClass::Weight { parameter, pinned: None } = class
            {
                *parameter = false;
            }
        }
    }
}

/// A graph whose constants are being classified.
struct Program<'a> {
    graph: &'a Graph,
    execute: Block,
}

impl Program<'_> {
    fn demands(&self, through: &dyn Fn(ValueId) -> bool) -> Vec<Demand> {
        demands_through(self.graph.value_count(), &[&self.execute], through)
    }

    /// What every value depends on, the constants being weights of which `weights` says so.
    fn dependences(&self, weights: &dyn Fn(ValueId) -> bool) -> Vec<Dependence> {
        let mut known = vec![Dependence::default(); self.graph.value_count()];
        self.graph.inputs.iter().for_each(|id| known[id.index()].inputs = true);
        self.graph.constants.keys().for_each(|&id| known[id.index()].weights = weights(id));
        dependence::follow(&mut known, &self.execute);
        known
    }

    /// What fixes each float constant and each weight, by value.
    ///
    /// What is computed from them never does: the weights of a router decide which experts are read, those of a length regulator
    /// how long its output is, and both are learned. The plan then waits for the contents that it needs, as it does for those of
    /// data. Two things are no weights: what is an operand that decides shapes or indices itself (the scales of a resize), moved at
    /// most, and a scalar of shape arithmetic (half of a height), which reaches shapes over nothing but shapes and other such
    /// constants. With these fixed, plans are known before a run.
    fn fixed(&self, weights: &BTreeSet<ValueId>) -> Vec<Demand> {
        let known = self.dependences(&|_| false);
        let mut computed = BTreeSet::new();
        collect_computed(&self.execute, &mut computed);
        let itself = self.demands(&|id| !known[id.index()].inputs && !computed.contains(&id));
        let known = self.dependences(&|id| {
            let tensor = &self.graph.constants[&id].tensor;
            let tensor = tensor.dtype().is_float() && tensor.len() > 1;
            (weights.contains(&id) || tensor) && !itself[id.index()].decides()
        });
        let mut fixed = self.demands(&|id| known[id.index()].is_planned());
        for (fixed, itself) in fixed.iter_mut().zip(itself) {
            *fixed = fixed.and(itself);
        }
        fixed
    }
}

/// Values that nodes of `block` and of the blocks in it compute rather than move.
fn collect_computed(block: &Block, computed: &mut BTreeSet<ValueId>) {
    for node in &block.nodes {
        blocks(node).for_each(|inner| collect_computed(inner, computed));
        if lookup(&node.op, node.version).is_none_or(|def| def.kind == Kind::Compute) {
            computed.extend(node.outputs.iter().flatten());
        }
    }
}

/// Strings are part of the program wherever they flow: no checkpoint holds them and nothing computes with them.
fn class(
    constant: &Constant,
    parameter: bool,
    data: bool,
    fixing: Demand,
    decided: bool,
) -> ConstantClass {
    if constant.tensor.dtype() == DType::String {
        return ConstantClass::Literal;
    }
    let fixed = fixing.decides() || decided;
    if fixed && !data {
        return ConstantClass::Literal;
    }
    let why = match fixing {
        Demand { shape: true, .. } => "its value also decides a shape or an axis",
        Demand { control: true, .. } => "its value also decides a branch",
        Demand { index: true, .. } => "its value also decides which elements are read",
        _ => "import read its value",
    };
    ConstantClass::Weight { parameter, pinned: fixed.then(|| why.to_owned()) }
}
