//! What each constant is: weight, parameter, literal or pinned weight, by where it flows.

use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass};
use crate::import::Imported;
use engine_format::{DType, ValueId};
use engine_ops::demand::{Demand, demands};
use std::collections::BTreeMap;

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
    let Imported { graph, decided } = imported;
    let execute = graph.execute_block();
    let demand = demands(graph.value_count(), &[&execute]);
    let used = graph.used_values();
    let mut sources = Sources::new();
    for (id, constant) in &mut graph.constants {
        if constant.source.is_some() {
            constant.class = class(constant, demand[id.index()], decided.contains(id));
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

/// Strings are part of the program wherever they flow: no checkpoint holds them and nothing computes with them.
fn class(constant: &Constant, demand: Demand, decided: bool) -> ConstantClass {
    if constant.tensor.dtype() == DType::String {
        return ConstantClass::Literal;
    }
    // What is learned may decide a branch: the plan then waits for its contents, as it does for those of data. What is small
    // stays part of the program, so that branches that it decides are taken at build.
    let small = constant.tensor.bytes().len() <= PARAMETER_BYTES;
    let learned = constant.tensor.dtype().is_float() && !small;
    let fixed = demand.shape || demand.index || decided || (demand.control && !learned);
    if fixed && !demand.data {
        return ConstantClass::Literal;
    }
    let why = match demand {
        Demand { shape: true, .. } => "its value also decides a shape or an axis",
        Demand { control: true, .. } if !learned => "its value also decides a branch",
        Demand { index: true, .. } => "its value also decides which elements are read",
        _ => "import read its value",
    };
    ConstantClass::Weight { parameter: small, pinned: fixed.then(|| why.to_owned()) }
}
