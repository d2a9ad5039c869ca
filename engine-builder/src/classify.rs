//! What each constant is: weight, parameter, literal or pinned weight, by where it flows.

use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass, Graph, blocks};
use crate::import::Imported;
use engine_format::{Block, DType, ValueId};
use engine_ops::demand::{Demand, demands, demands_through};
use engine_ops::dependence::{self, Dependence};
use engine_ops::{Kind, lookup};
use std::collections::{BTreeMap, BTreeSet};

/// Constants of at most this many bytes are parameters: always stored, optional in a source.
///
/// The design speaks of small *float* constants. Small integers and bools that reach arithmetic (the clip bounds of a
/// quantised model, a mask) are held to the same rule: exporters write them into the graph, no checkpoint has them, and
/// a fill that insisted on them could never be satisfied.
const PARAMETER_BYTES: usize = 64;

/// Every named constant of the model under its class, independent of what passes do to the graph later.
pub(crate) type Sources = BTreeMap<String, Constant>;

/// Sets the class of every constant and brings the graph's facts in line: the values of what may be refitted are
/// forgotten. Gives the named constants that the graph uses.
pub(crate) fn classify(imported: &mut Imported) -> Result<Sources, BuildError> {
    let Imported { graph, decided, notes: _ } = imported;
    let demand = demands(graph.value_count(), &[&graph.execute_block()]);
    let fixed = fixed_floats(graph);
    let used = graph.used_values();
    let mut sources = Sources::new();
    for (id, constant) in &mut graph.constants {
        if constant.source.is_some() {
            let all = demand[id.index()];
            let fixing = if constant.tensor.dtype().is_float() { fixed[id.index()] } else { all };
            constant.class = class(constant, all.data, fixing, decided.contains(id));
        }
        if let Some(name) = &constant.source
            && (used.contains(id) || decided.contains(id))
        {
            sources.insert(name.clone(), constant.clone());
        }
    }
    graph.constants.retain(|id, _: &mut Constant| used.contains::<ValueId>(id));
    crate::infer_all(graph)?;
    Ok(sources)
}

/// What fixes each float constant, by value.
///
/// What is computed from a float never does: the weights of a router decide which experts are read, those of a length regulator
/// how long its output is, and both are learned. The plan then waits for the contents that it needs, as it does for those of data.
/// Two things are no weights: what is an operand that decides shapes or indices itself (the scales of a resize), moved at most,
/// and a scalar of shape arithmetic (half of a height), which reaches shapes over nothing but shapes and other such constants.
/// With these fixed, plans are known before a run.
fn fixed_floats(graph: &Graph) -> Vec<Demand> {
    let execute = graph.execute_block();
    let mut known = vec![Dependence::default(); graph.value_count()];
    graph.inputs.iter().for_each(|id| known[id.index()].inputs = true);
    let weights = known.clone();
    dependence::follow(&mut known, &execute);
    let mut computed = BTreeSet::new();
    collect_computed(&execute, &mut computed);
    let moved = |id: ValueId| known[id.index()].is_none() && !computed.contains(&id);
    let itself = demands_through(graph.value_count(), &[&execute], &moved);

    let mut known = weights;
    for (id, Constant { tensor, .. }) in &graph.constants {
        let scalar = tensor.len() == 1 || itself[id.index()].decides();
        known[id.index()].weights = tensor.dtype().is_float() && !scalar;
    }
    dependence::follow(&mut known, &execute);
    let shapes = |id: ValueId| known[id.index()].is_none();
    let mut fixed = demands_through(graph.value_count(), &[&execute], &shapes);
    for (fixed, itself) in fixed.iter_mut().zip(itself) {
        *fixed = fixed.and(itself);
    }
    fixed
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
fn class(constant: &Constant, data: bool, fixing: Demand, decided: bool) -> ConstantClass {
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
    let parameter = constant.tensor.bytes().len() <= PARAMETER_BYTES;
    ConstantClass::Weight { parameter, pinned: fixed.then(|| why.to_owned()) }
}
