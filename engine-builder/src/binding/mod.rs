//! Binding: the engine starts from a checkpoint's own tensors instead of from what an exporter made of them.
//!
//! Exporters rename, transpose, split, join, convert and merge parameters. [`build_bound`](crate::build_bound) finds every
//! initializer in the checkpoint by its contents ([`search`], [`slices`], [`joins`]), tells equal tensors apart by module paths
//! ([`pair`]) and rewrites the graph ([`rewrite`]): the checkpoint's tensor becomes the weight and the transform a node, which runs
//! at refit. The model's names stay known as aliases ([`aliases`]). What stays open is reported and takes a [`BindMap`]; nothing
//! is guessed.

mod aliases;
mod index;
mod joins;
mod map;
mod pair;
mod path;
mod recipe;
mod report;
mod rewrite;
mod search;
mod slices;
#[cfg(test)]
mod tests;
mod uses;

pub use map::BindMap;
pub use report::{BindingReport, BoundTo, Unbound, Why};

use crate::classify::Sources;
use crate::error::{BuildError, BuildErrorKind};
use crate::graph::{ConstantClass, Graph};
use engine_format::{Alias, Tensor, TensorInfo, ValueId, WeightSource};
use index::Index;
use pair::Decision;
use std::collections::{BTreeMap, BTreeSet};
use uses::Use;

/// What a model's weights are bound to.
pub struct Binding<'a> {
    /// The checkpoint that the model was exported from.
    pub checkpoint: &'a dyn WeightSource,
    /// Decisions of the caller, which come before everything that is found.
    pub map: BindMap,
    /// Weights that the checkpoint does not have are pinned: stored in every file, with another value an error. Without it they are
    /// an error, for no checkpoint could refit them.
    pub pin_unbound: bool,
}

impl<'a> Binding<'a> {
    /// To `checkpoint`, without a map.
    pub fn to(checkpoint: &'a dyn WeightSource) -> Self {
        Self { checkpoint, map: BindMap::default(), pin_unbound: false }
    }
}

/// What binding leaves for the engine beside the changed graph.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// Other names of weights, by the weight's name.
    pub(crate) aliases: BTreeMap<String, Vec<Alias>>,
    /// Tensors of the checkpoint that the graph does not use.
    pub(crate) unused: BTreeSet<String>,
    pub(crate) report: BindingReport,
}

/// A constant of the model that may be one of the checkpoint's tensors.
struct Initializer {
    id: ValueId,
    name: String,
    tensor: Tensor,
    parameter: bool,
    uses: Vec<Use>,
}

impl Initializer {
    fn info(&self) -> TensorInfo {
        TensorInfo { dtype: self.tensor.dtype(), shape: self.tensor.shape().to_vec() }
    }
}

/// Why a weight without a tensor of the checkpoint is pinned.
const PINNED: &str = "the checkpoint that the engine was built with does not have it";

/// Binds the weights of a classified graph.
pub(crate) fn bind(
    graph: &mut Graph,
    sources: &mut Sources,
    binding: &Binding<'_>,
) -> Result<Bound, BuildError> {
    let index = Index::of(binding.checkpoint)?;
    check_literals(sources, &index)?;
    let initializers = initializers(graph);
    binding.map.check_names(&initializers, &index)?;
    let decisions = decide(&initializers, &index, &binding.map)?;
    let claimed: BTreeSet<&str> =
        decisions.iter().flat_map(Decision::recipes).flat_map(|r| r.tensors()).collect();
    let unused: BTreeSet<String> =
        index.names().filter(|name| !claimed.contains(name)).map(str::to_owned).collect();
    let report = report::report(&initializers, &decisions, &index, &unused);
    // Nothing can be pinned under a name that is another weight's.
    let refused = |unbound: &Unbound| {
        let pinned = binding.pin_unbound && !claimed.contains(&*unbound.initializer);
        unbound.why.needs_map() || (unbound.is_error() && !pinned)
    };
    if report.unbound.iter().any(refused) {
        return Err(BuildError::new(BuildErrorKind::Unbound, report.to_string()));
    }
    let aliases = aliases::aliases(&initializers, &decisions, &index);
    pin(graph, sources, &initializers, &report);
    rewrite::rewrite(graph, sources, &initializers, &decisions, &index)?;
    crate::infer_all(graph)?;
    Ok(Bound { aliases, unused, report })
}

/// Pins what is not in the checkpoint and may not be missed there.
fn pin(
    graph: &mut Graph,
    sources: &mut Sources,
    initializers: &[Initializer],
    report: &BindingReport,
) {
    for initializer in initializers.iter().filter(|initializer| report.pins(&initializer.name)) {
        let (id, name) = (&initializer.id, &initializer.name);
        for constant in graph.constants.get_mut(id).into_iter().chain(sources.get_mut(name)) {
            let pinned = Some(PINNED.to_owned());
            constant.class = ConstantClass::Weight { parameter: initializer.parameter, pinned };
        }
    }
}

fn initializers(graph: &Graph) -> Vec<Initializer> {
    let mut uses = uses::uses(graph);
    let constants = graph.constants.iter().filter_map(|(&id, constant)| match &constant.class {
        ConstantClass::Weight { parameter, pinned: None } => Some(Initializer {
            id,
            name: constant.source.clone()?,
            tensor: constant.tensor.clone(),
            parameter: *parameter,
            uses: uses.remove(&id).unwrap_or_default(),
        }),
        _ => None,
    });
    constants.collect()
}

/// What every initializer stands for: by the map, else as a whole tensor, part of one, or several.
fn decide(
    initializers: &[Initializer],
    index: &Index<'_>,
    map: &BindMap,
) -> Result<Vec<Decision>, BuildError> {
    let mut decisions = Vec::with_capacity(initializers.len());
    for initializer in initializers {
        decisions.push(match map.decision(initializer, index)? {
            Some(decision) => decision,
            None => pair::decide(initializer, &search::whole(index, &initializer.tensor)),
        });
    }
    slices::find(initializers, &mut decisions, index)?;
    joins::find(initializers, &mut decisions, index);
    pair::leave_nothing_open(initializers, &mut decisions);
    Ok(decisions)
}

/// A literal of the program and a tensor of the checkpoint of one name are the same, or a fill from this very checkpoint would
/// be refused.
fn check_literals(sources: &Sources, index: &Index<'_>) -> Result<(), BuildError> {
    let literals = sources.iter().filter(|(_, c)| c.class == ConstantClass::Literal);
    for (name, constant) in literals {
        let Some(found) = index.read(name)? else { continue };
        if found != constant.tensor {
            return Err(BuildError::new(
                BuildErrorKind::Unbound,
                format!(
                    "{name:?} is a constant of the program with the value {}, and in {} it is {found}",
                    constant.tensor,
                    index.origin()
                ),
            ));
        }
    }
    Ok(())
}
