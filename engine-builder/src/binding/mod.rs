//! Binding: the engine starts from a checkpoint's own tensors instead of from what an exporter made of them.
//!
//! Exporters rename, transpose, split, join, convert and merge parameters. [`build_bound`](crate::build_bound) finds every
//! initializer in the checkpoint by its contents ([`search`], [`slices`], [`joins`], [`rows`]) or as something that was calculated of
//! them ([`functions`], [`folds`]), tells equal tensors apart by module paths ([`pair`]) and rewrites the graph ([`rewrite`]): the
//! checkpoint's tensor becomes the weight and the transform nodes, which run at refit. The model's names stay known as aliases
//! ([`aliases`]). What nobody learns becomes part of the program ([`constants`]). What stays open is reported and takes a
//! [`BindMap`]; nothing is guessed.

mod aliases;
mod biases;
mod calls;
mod compare;
mod constants;
mod expression;
mod folds;
mod formula;
mod functions;
mod index;
mod joins;
mod map;
mod pair;
mod path;
mod recipe;
mod report;
mod rewrite;
mod rows;
mod search;
mod slices;
#[cfg(test)]
mod tests;
mod ties;
mod uses;

pub use map::BindMap;
pub use report::{BindingReport, BoundTo, Kept, Reason, Unbound, Why};

use crate::classify::Sources;
use crate::error::{BuildError, BuildErrorKind};
use crate::graph::{ConstantClass, Graph};
use crate::import::Origins;
use engine_format::{Alias, Tensor, TensorInfo, ValueId, WeightSource};
use index::Index;
use pair::Decision;
use rayon::prelude::*;
use recipe::Recipe;
use std::collections::{BTreeMap, BTreeSet};
use uses::Use;

/// What a model's weights are bound to.
pub struct Binding<'a> {
    /// The checkpoint that the model was exported from.
    pub checkpoint: &'a dyn WeightSource,
    /// Decisions of the caller, which come before everything that is found.
    pub map: BindMap,
    /// Constants that the model holds as `Constant` nodes are part of the program even where something of the checkpoint is left over.
    pub pin_unbound: bool,
    /// The constants of another export of the same model, from other weights: what is equal there was not made of them, and what
    /// is not was.
    pub other: Option<&'a dyn WeightSource>,
    /// The checkpoint of the other export.
    pub other_weights: Option<&'a dyn WeightSource>,
}

impl<'a> Binding<'a> {
    /// To `checkpoint`, without a map.
    pub fn to(checkpoint: &'a dyn WeightSource) -> Self {
        Self {
            checkpoint,
            map: BindMap::default(),
            pin_unbound: false,
            other: None,
            other_weights: None,
        }
    }
}

/// What binding leaves for the engine beside the changed graph.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// Other names of weights, by the weight's name.
    pub(crate) aliases: BTreeMap<String, Vec<Alias>>,
    /// Tensors of the checkpoint that the graph does not use.
    pub(crate) unused: BTreeSet<String>,
    /// Tensors of the checkpoint that the graph uses, and that no constant of the model is as it is under the same name.
    pub(crate) renamed: BTreeSet<String>,
    pub(crate) report: BindingReport,
}

/// A constant of the model that may be one of the checkpoint's tensors.
struct Initializer {
    id: ValueId,
    name: String,
    tensor: Tensor,
    /// Whether the model holds it as a `Constant` node: what folding gives is none.
    is_constant_node: bool,
    uses: Vec<Use>,
    /// Whether it is a bias that the exporter took away, so that the model does not hold it.
    is_put_back: bool,
}

impl Initializer {
    fn info(&self) -> TensorInfo {
        TensorInfo { dtype: self.tensor.dtype(), shape: self.tensor.shape().to_vec() }
    }
}

/// Binds the weights of a classified graph.
pub(crate) fn bind(
    graph: &mut Graph,
    sources: &mut Sources,
    origins: &Origins,
    binding: &Binding<'_>,
) -> Result<Bound, BuildError> {
    let constants = graph.constants.values().map(|constant| constant.tensor.clone());
    let index = Index::of(binding.checkpoint, constants)?;
    check_literals(sources, &index, &binding.map)?;
    let biases = biases::put_back(graph, origins);
    let mut initializers = initializers(graph, origins, &index, &biases);
    let fixed = sources.keys().map(String::as_str).collect();
    binding.map.check_names(&initializers, &fixed, &index)?;
    let mut decisions = decide(&initializers, &index, &binding.map)?;
    constants::settle(&initializers, &mut decisions, &index, binding)?;
    biases::take_away(graph, &mut initializers, &mut decisions);
    let ties = ties::ties(&decisions, &index, origins, &binding.map)?;
    let mut report = report::report(&initializers, &decisions, &index);
    report.unused.retain(|name| !ties.contains_key(name));
    report.lost = constants::lost(&decisions, &index, origins, &binding.map)?;
    report.lost.retain(|name| !ties.contains_key(name));
    if !report.unbound.is_empty() || !report.lost.is_empty() {
        return Err(BuildError::unbound(report));
    }
    let mut aliases = aliases::aliases(&initializers, &decisions, &index, &ties);
    ties::add(&mut aliases, &ties);
    let renamed = renamed(&initializers, &decisions);
    keep_constants(graph, sources, &initializers, &decisions, &index)?;
    rewrite::rewrite(graph, sources, &initializers, &decisions, &index)?;
    crate::infer_all(graph)?;
    let unused = report.unused.iter().cloned().collect();
    report.tied = ties;
    Ok(Bound { aliases, unused, renamed, report })
}

/// The tensors that something is made of, but for those that an initializer of the same name is as they are.
fn renamed(initializers: &[Initializer], decisions: &[Decision]) -> BTreeSet<String> {
    let all = decisions.iter().flat_map(Decision::recipes).flat_map(Recipe::tensors);
    let is_itself = |(initializer, decision): &(&Initializer, &Decision)| {
        decision.recipes().any(|recipe| recipe.as_is() == Some(&*initializer.name))
    };
    let same = initializers.iter().zip(decisions).filter(is_itself);
    let same: BTreeSet<&str> = same.map(|(initializer, _)| &*initializer.name).collect();
    all.filter(|name| !same.contains(name)).map(str::to_owned).collect()
}

/// What nobody learns is part of the program.
fn keep_constants(
    graph: &mut Graph,
    sources: &mut Sources,
    initializers: &[Initializer],
    decisions: &[Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    for (initializer, decision) in initializers.iter().zip(decisions) {
        let (id, name) = (&initializer.id, &initializer.name);
        if let Decision::Not(Why::Constant(_)) = decision {
            check_literal(name, &initializer.tensor, index)?;
            for constant in graph.constants.get_mut(id).into_iter().chain(sources.get_mut(name)) {
                constant.class = ConstantClass::Literal;
            }
        }
    }
    Ok(())
}

/// The initializers that were not found yet.
fn open(decisions: &[Decision]) -> Vec<usize> {
    let open = |i: &usize| matches!(decisions[*i], Decision::Not(Why::NotFound { .. }));
    (0..decisions.len()).filter(open).collect()
}

/// The tensors of the checkpoint of which nothing was made yet.
fn unclaimed<'a>(
    index: &'a Index<'_>,
    decisions: &[Decision],
) -> impl Iterator<Item = (&'a str, &'a TensorInfo)> + use<'a> {
    let claimed: BTreeSet<String> = (decisions.iter())
        .flat_map(Decision::recipes)
        .flat_map(|recipe| recipe.tensors().map(str::to_owned))
        .collect();
    index.infos().filter(move |(name, _)| !claimed.contains(*name))
}

fn initializers(
    graph: &Graph,
    origins: &Origins,
    index: &Index<'_>,
    biases: &BTreeSet<ValueId>,
) -> Vec<Initializer> {
    let mut uses = uses::uses(graph, origins, index);
    let constants = graph.constants.iter().filter_map(|(&id, constant)| match &constant.class {
        ConstantClass::Weight { pinned: None, .. } => Some(Initializer {
            id,
            name: constant.source.clone()?,
            tensor: constant.tensor.clone(),
            is_constant_node: constant.is_node,
            uses: uses.remove(&id).unwrap_or_default(),
            is_put_back: biases.contains(&id),
        }),
        _ => None,
    });
    constants.collect()
}

/// What every initializer stands for: by the map, else as a whole tensor, part of one, several, or what can be calculated of them;
/// what needs less comes first.
fn decide(
    initializers: &[Initializer],
    index: &Index<'_>,
    map: &BindMap,
) -> Result<Vec<Decision>, BuildError> {
    let folded = folds::folded_directions(initializers, index);
    let decide = |initializer: &Initializer| match map.decision(initializer, index)? {
        Some(decision) => Ok(decision),
        None => {
            let mut whole = search::whole(index, &initializer.tensor);
            whole.retain(|recipe| !recipe.tensors().any(|name| folded.contains(name)));
            Ok::<_, BuildError>(pair::decide(initializer, &whole))
        }
    };
    // Initializers differ much in size, so each is a task of its own.
    let decided = initializers.par_iter().with_max_len(1).map(decide);
    let mut decisions: Vec<Decision> = decided.collect::<Result<_, _>>()?;
    slices::find(initializers, &mut decisions, index)?;
    joins::find(initializers, &mut decisions, index);
    folds::find(initializers, &mut decisions, index)?;
    functions::find(initializers, &mut decisions, index)?;
    rows::find(initializers, &mut decisions, index)?;
    calls::find(initializers, &mut decisions, index)?;
    let idle = constants::idle(index, &decisions);
    pair::leave_nothing_open(initializers, &mut decisions, idle);
    Ok(decisions)
}

/// A literal of the program and a tensor of the checkpoint of one name are the same, or a fill from this very checkpoint would
/// be refused.
fn check_literal(name: &str, tensor: &Tensor, index: &Index<'_>) -> Result<(), BuildError> {
    match index.read(name)?.filter(|found| found != tensor) {
        None => Ok(()),
        Some(found) => Err(BuildError::new(
            BuildErrorKind::Unbound,
            format!(
                "{name:?} is a constant of the program with the value {tensor}, and in {} it is {found}",
                index.origin()
            ),
        )),
    }
}

/// No literal of the program is one of the checkpoint's tensors, or differs from one of its name. A float that is fixed, because a shape is computed from it or import read it, is none of the checkpoint's: a later
/// checkpoint's value would be ignored.
fn check_literals(sources: &Sources, index: &Index<'_>, map: &BindMap) -> Result<(), BuildError> {
    let fixed = sources.iter().filter_map(|(name, constant)| match &constant.class {
        ConstantClass::Literal => Some((name, &constant.tensor, "it is part of the program")),
        ConstantClass::Weight { pinned: Some(why), .. } => {
            Some((name, &constant.tensor, why.as_str()))
        }
        _ => None,
    });
    for (name, tensor, why) in fixed {
        check_literal(name, tensor, index)?;
        if !tensor.dtype().is_float() || search::is_weak(tensor) || map.says_constant(name) {
            continue;
        }
        if let Some(recipe) = search::whole(index, tensor).first() {
            return Err(BuildError::new(
                BuildErrorKind::Unbound,
                format!(
                    "{name:?} is {recipe} of {}, and it cannot be refitted: {why}. If no checkpoint changes it, say so in a map \
                     (--bind): {name:?} = \"constant\"",
                    index.origin()
                ),
            ));
        }
    }
    Ok(())
}
