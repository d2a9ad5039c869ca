//! Which of several equal tensors an initializer is, by names and module paths.

use super::path::{agreement, is_role, steps};
use super::recipe::Recipe;
use super::search::{is_symmetric, is_weak};
use super::uses::{Other, Place, Use};
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
    /// Equal tensors that were told apart by the initializer's own name alone, although it has several uses, or although it
    /// is a constant of the program elsewhere.
    by_name_among: BTreeSet<String>,
    /// Whether the initializer is a constant of the program wherever no recipe has its place.
    pub(super) constant_elsewhere: bool,
}

impl Stands {
    /// For the same everywhere.
    pub(super) fn everywhere(recipe: Recipe) -> Self {
        let recipes = vec![(None, recipe)];
        Self { recipes, by_name_among: BTreeSet::new(), constant_elsewhere: false }
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
                constant_elsewhere: false,
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

/// How well a use's place in the model speaks for a tensor: whether the framework's operator reads it, whether the module is the
/// tensor's own, steps of the path in common, and whether the operand is called as the tensor is. `None` if it speaks against it, or
/// the place says nothing.
fn by_place(found: &Use, tensor: &str) -> Option<(bool, bool, usize, bool)> {
    if let Some(name) = &found.renamed {
        return by_name(name, tensor).map(|(exact, common)| (false, exact, common, true));
    }
    if found.other == Some(Other::MadeUp) {
        return None;
    }
    let steps = steps(tensor);
    let (leaf, module) = steps.split_last()?;
    let (op, operand) = &found.role;
    let role = is_role(op, *operand, leaf);
    let reads = found.reads.as_ref().is_some_and(|reads| reads.contains(tensor));
    let place = found.module.as_ref()?;
    // The module around all speaks for every tensor, which is enough only for what is called after it.
    let common = agreement(place, module)
        .filter(|&common| found.other.is_none() || common > 0 || place.len() == module.len());
    match (common, role) {
        (_, Some(false)) => None,
        (Some(common), role) => {
            Some((reads, place.len() == module.len(), common, role == Some(true)))
        }
        (None, role) => reads.then_some((true, false, 0, role == Some(true))),
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

/// What an initializer stands for in one use.
#[derive(Clone, Copy, PartialEq)]
enum Placed<'a> {
    /// A tensor.
    Is(&'a str),
    /// A constant of the program that is equal to a parameter.
    Program,
    Unknown,
}

/// Which of equal tensors is used in a place. Where the exporter says what the framework's operator reads, contents that prove nothing
/// are no tensor but one of those.
fn placed<'a>(found: &Use, tensors: &BTreeSet<&'a str>, weak: bool) -> Placed<'a> {
    let read = |tensor: &&&str| found.reads.as_ref().is_some_and(|reads| reads.contains(**tensor));
    let reads_none = found.reads.is_some() && !tensors.iter().any(|tensor| read(&tensor));
    if found.other == Some(Other::MadeUp) || (weak && reads_none) {
        return Placed::Program;
    }
    best(tensors, |tensor| by_place(found, tensor)).map_or(Placed::Unknown, Placed::Is)
}

/// Decides among recipes that all make the initializer from one whole tensor.
pub(super) fn decide(initializer: &Initializer, recipes: &[Recipe]) -> Decision {
    let tensors: BTreeSet<&str> = recipes.iter().flat_map(Recipe::tensors).collect();
    if tensors.is_empty() {
        return Decision::Not(Why::not_found());
    }
    let ambiguous = || Decision::Not(Why::ambiguous(recipes));
    let own = &initializer.name;
    let weak = is_weak(&initializer.tensor);
    let named = best(&tensors, |tensor| by_name(own, tensor));
    if weak && initializer.is_constant_node && named.is_none() {
        // Parameters are initializers: what was traced as a constant only happens to be equal to one.
        return Decision::Not(Why::not_found());
    }
    let alone = (tensors.len() == 1).then(|| tensors.first().copied()).flatten();
    let merged_with_others =
        initializer.uses.len() > 1 && initializer.uses.iter().any(|found| found.other.is_some());
    if let Some(only) = alone.filter(|_| !(weak && merged_with_others)) {
        let spoken_for = named.is_some() || has_place(initializer, only);
        if weak && !spoken_for {
            return ambiguous();
        }
        return with_transform(initializer, own, only, recipes)
            .map_or_else(ambiguous, |recipe| Decision::Stands(Stands::everywhere(recipe)));
    }
    // Where the others that were merged have names of their own, the initializer's name is that of its own uses.
    let merged = initializer.uses.iter().any(|found| found.renamed.is_some());
    let placed: Vec<Placed<'_>> = (initializer.uses.iter())
        .map(|found| {
            let own = merged && found.renamed.is_none() && found.other.is_none();
            match named.filter(|_| own) {
                Some(named) => Placed::Is(named),
                None => placed(found, &tensors, weak),
            }
        })
        .collect();
    if placed.iter().any(|placed| matches!(placed, Placed::Is(_)))
        && !placed.contains(&Placed::Unknown)
    {
        let uses = initializer.uses.iter().zip(&placed).filter_map(|(found, placed)| {
            let Placed::Is(tensor) = placed else { return None };
            let name = found.renamed.as_ref().unwrap_or(own);
            let recipe = with_transform(initializer, name, tensor, recipes);
            Some(recipe.map(|recipe| (found.place.clone(), recipe)))
        });
        let Some(split) = uses.collect::<Option<Vec<_>>>() else { return ambiguous() };
        if !placed.contains(&Placed::Program) {
            let mut stands = Stands::split(split);
            let twice = |i: usize| placed[..i].contains(&placed[i]);
            if weak && (0..placed.len()).any(twice) {
                // The other place may be that of an equal tensor.
                stands.by_name_among = tensors.into_iter().map(str::to_owned).collect();
            }
            return Decision::Stands(stands);
        }
        return Decision::Stands(Stands {
            recipes: split.into_iter().map(|(place, recipe)| (Some(place), recipe)).collect(),
            by_name_among: tensors.into_iter().map(str::to_owned).collect(),
            constant_elsewhere: true,
        });
    }
    let fits = |name: &&str| {
        let fits = |placed: &Placed<'_>| *placed == Placed::Unknown || *placed == Placed::Is(name);
        placed.iter().all(fits) && initializer.uses.iter().all(|found| found.other.is_none())
    };
    let Some(named) = named.filter(fits) else { return ambiguous() };
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
    places.any(|(reads, _, common, role)| reads || common > 0 || role)
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
    let clear = || more.is_none() && !is_symmetric(&initializer.tensor);
    (kept_name || clear()).then(|| first.clone())
}

/// Takes back what was decided by a name alone if an equal tensor is left over that may have been merged into it, and what was not
/// found at all only because too little spoke for it stays open only if such a tensor is left over.
pub(super) fn leave_nothing_open(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    idle: impl Fn(&str) -> bool,
) {
    let claimed: BTreeSet<String> = (decisions.iter())
        .flat_map(Decision::recipes)
        .flat_map(|recipe| recipe.tensors().map(str::to_owned))
        .collect();
    for (initializer, decision) in initializers.iter().zip(decisions) {
        match decision {
            Decision::Stands(stands) => {
                let mut among = stands.by_name_among.iter();
                let left = among.any(|tensor| !claimed.contains(tensor) && !idle(tensor));
                if left {
                    let candidates = stands.by_name_among.iter().cloned().collect();
                    *decision = Decision::Not(Why::Ambiguous { candidates });
                }
            }
            Decision::Not(Why::Ambiguous { candidates }) if is_weak(&initializer.tensor) => {
                let settled = |tensor: &String| claimed.contains(tensor) || idle(name_of(tensor));
                if candidates.iter().all(settled) {
                    *decision = Decision::Not(Why::not_found());
                }
            }
            Decision::Not(_) => {}
        }
    }
}

/// The tensor that a candidate names before it says what is done to it.
fn name_of(candidate: &str) -> &str {
    candidate.split([',', ' ']).next().unwrap_or(candidate)
}
