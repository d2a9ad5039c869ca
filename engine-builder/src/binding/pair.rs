//! Which of several equal tensors an initializer is, by names and module paths.

use super::path::{agreement, is_role, steps};
use super::recipe::Recipe;
use super::search::{is_symmetric, is_weak};
use super::uses::{Place, Use};
use super::{Initializer, Why};
use std::collections::BTreeSet;

/// What is known of an initializer.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    Stands(Stands),
    Not(Why),
}

/// What an initializer stands for.
#[derive(Clone, Debug)]
pub(super) struct Stands {
    /// For every use where they differ, else one for all.
    pub(super) recipes: Vec<(Option<Place>, Recipe)>,
    /// Equal tensors that were told apart by the initializer's own name alone, although it has several uses.
    by_name_among: BTreeSet<String>,
}

impl Stands {
    /// For the same everywhere.
    pub(super) fn everywhere(recipe: Recipe) -> Self {
        Self { recipes: vec![(None, recipe)], by_name_among: BTreeSet::new() }
    }

    /// The recipes of all uses.
    pub(super) fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.iter().map(|(_, recipe)| recipe)
    }

    /// For something of its own in every use.
    pub(super) fn split(recipes: Vec<(Place, Recipe)>) -> Self {
        let first = recipes.first().map(|(_, recipe)| recipe.clone());
        match first {
            Some(first) if recipes.iter().all(|(_, recipe)| *recipe == first) => {
                Self::everywhere(first)
            }
            _ => Self {
                recipes: recipes.into_iter().map(|(place, r)| (Some(place), r)).collect(),
                by_name_among: BTreeSet::new(),
            },
        }
    }
}

impl Decision {
    /// The recipes, if there are any.
    pub(super) fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        let stands = match self {
            Decision::Stands(stands) => Some(stands),
            Decision::Not(_) => None,
        };
        stands.into_iter().flat_map(Stands::recipes)
    }
}

/// How well a use's place in the model speaks for a tensor: whether the module is the tensor's own, steps of the path in common, and
/// whether the operand is called as the tensor is. `None` if it speaks against it, or the place says nothing.
fn by_place(found: &Use, tensor: &str) -> Option<(bool, usize, bool)> {
    if let Some(name) = &found.renamed {
        return by_name(name, tensor).map(|(exact, common)| (exact, common, true));
    }
    let steps = steps(tensor);
    let (leaf, module) = steps.split_last()?;
    let place = found.module.as_ref()?;
    let common = agreement(place, module)?;
    match is_role(&found.place.op, found.place.operand, leaf) {
        Some(false) => None,
        role => Some((place.len() == module.len(), common, role == Some(true))),
    }
}

/// Whether an initializer is called as a tensor is, and how many steps of the names are equal from the end, if one name ends with
/// the other.
pub(super) fn by_name(initializer: &str, tensor: &str) -> Option<(bool, usize)> {
    let (a, b) = (steps(initializer), steps(tensor));
    let common = agreement(&a, &b).filter(|&common| common > 0)?;
    Some((a.len() == b.len(), common))
}

/// The one candidate for which most speaks; `None` if nothing does or several are equal.
fn best<'a, S: Ord>(
    candidates: &BTreeSet<&'a str>,
    score: impl Fn(&str) -> Option<S>,
) -> Option<&'a str> {
    let mut scored: Vec<(S, &str)> =
        candidates.iter().filter_map(|&tensor| Some((score(tensor)?, tensor))).collect();
    scored.sort_by(|(a, _), (b, _)| b.cmp(a));
    match scored.as_slice() {
        [(_, only)] => Some(only),
        [(a, first), (b, _), ..] if a > b => Some(first),
        _ => None,
    }
}

/// Decides among recipes that all make the initializer from one whole tensor.
pub(super) fn decide(initializer: &Initializer, recipes: &[Recipe]) -> Decision {
    let tensors: BTreeSet<&str> = recipes.iter().flat_map(Recipe::tensors).collect();
    if tensors.is_empty() {
        return Decision::Not(Why::not_found());
    }
    let ambiguous = || Decision::Not(Why::ambiguous(recipes));
    let own = &initializer.name;
    let named = best(&tensors, |tensor| by_name(own, tensor));
    let alone = (tensors.len() == 1).then(|| tensors.first().copied()).flatten();
    if let Some(only) = alone {
        let spoken_for = named.is_some() || has_place(initializer, only);
        if is_weak(&initializer.tensor) && !spoken_for {
            return ambiguous();
        }
        return with_transform(initializer, own, only, recipes)
            .map_or_else(ambiguous, |recipe| Decision::Stands(Stands::everywhere(recipe)));
    }
    // Where the others that were merged have names of their own, the initializer's name is that of its own uses.
    let merged = initializer.uses.iter().any(|found| found.renamed.is_some());
    let placed: Vec<Option<&str>> = (initializer.uses.iter())
        .map(|found| match (merged && found.renamed.is_none(), named) {
            (true, Some(named)) => Some(named),
            _ => best(&tensors, |tensor| by_place(found, tensor)),
        })
        .collect();
    if !placed.is_empty() && placed.iter().all(Option::is_some) {
        let uses = initializer.uses.iter().zip(placed.into_iter().flatten());
        let split: Option<Vec<(Place, Recipe)>> = uses
            .map(|(found, tensor)| {
                let name = found.renamed.as_ref().unwrap_or(own);
                Some((found.place.clone(), with_transform(initializer, name, tensor, recipes)?))
            })
            .collect();
        return split.map_or_else(ambiguous, |split| Decision::Stands(Stands::split(split)));
    }
    let Some(named) = named.filter(|name| placed.iter().flatten().all(|p| p == name)) else {
        return ambiguous();
    };
    let Some(recipe) = with_transform(initializer, own, named, recipes) else { return ambiguous() };
    let mut stands = Stands::everywhere(recipe);
    if initializer.uses.len() > 1 {
        stands.by_name_among = tensors.into_iter().map(str::to_owned).collect();
    }
    Decision::Stands(stands)
}

/// Whether a use's place speaks for a tensor by more than a name that everything ends with.
fn has_place(initializer: &Initializer, tensor: &str) -> bool {
    let mut places = initializer.uses.iter().filter_map(|found| by_place(found, tensor));
    places.any(|(_, common, role)| common > 0 || role)
}

/// The recipe that makes the initializer, called `name`, from `tensor`; `None` if contents do not say how its axes lie. What kept its
/// tensor's name was not changed.
fn with_transform(
    initializer: &Initializer,
    name: &str,
    tensor: &str,
    recipes: &[Recipe],
) -> Option<Recipe> {
    let mut fitting = recipes.iter().filter(|recipe| recipe.tensors().eq([tensor]));
    let (first, more) = (fitting.next()?, fitting.next());
    let kept_name = first.keeps_order() && by_name(name, tensor).is_some();
    let unclear = more.is_some() || is_symmetric(&initializer.tensor);
    (kept_name || !unclear).then(|| first.clone())
}

/// Takes back what was decided by a name alone if an equal tensor is left over that may have been merged into it, and what was not
/// found at all only because too little spoke for it stays open only if such a tensor is left over.
pub(super) fn leave_nothing_open(initializers: &[Initializer], decisions: &mut [Decision]) {
    let claimed: BTreeSet<String> = (decisions.iter())
        .flat_map(Decision::recipes)
        .flat_map(|recipe| recipe.tensors().map(str::to_owned))
        .collect();
    for (initializer, decision) in initializers.iter().zip(decisions) {
        match decision {
            Decision::Stands(stands) => {
                let left = stands.by_name_among.iter().any(|tensor| !claimed.contains(tensor));
                if left {
                    let candidates = stands.by_name_among.iter().cloned().collect();
                    *decision = Decision::Not(Why::Ambiguous { candidates });
                }
            }
            Decision::Not(Why::Ambiguous { candidates }) if is_weak(&initializer.tensor) => {
                if candidates.iter().all(|tensor| claimed.contains(tensor)) {
                    *decision = Decision::Not(Why::not_found());
                }
            }
            Decision::Not(_) => {}
        }
    }
}
