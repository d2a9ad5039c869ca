//! The model's names as aliases of the checkpoint's tensors, so that the model still fills the engine.

use super::Initializer;
use super::index::Index;
use super::pair::Decision;
use super::recipe::Recipe;
use engine_format::{Alias, View, ViewPart};
use std::collections::{BTreeMap, BTreeSet};

/// What the model holds of one tensor of the checkpoint.
#[derive(Default)]
struct Held {
    /// Views that give all of it.
    views: Vec<View>,
    /// Initializers that are part of it: axis, range, and what gives it.
    parts: Vec<(usize, (usize, usize), ViewPart)>,
}

/// Aliases of every bound tensor. One of which the model holds a part only has none: the model alone cannot fill it.
pub(super) fn aliases(
    initializers: &[Initializer],
    decisions: &[Decision],
    index: &Index<'_>,
    ties: &BTreeMap<String, String>,
) -> BTreeMap<String, Vec<Alias>> {
    let mut held = BTreeMap::<String, Held>::new();
    for (initializer, decision) in initializers.iter().zip(decisions) {
        let mut seen = Vec::new();
        for recipe in decision.recipes().filter(|_| !initializer.is_put_back) {
            if !seen.contains(&recipe) {
                hold(&mut held, initializer, recipe, index);
                seen.push(recipe);
            }
        }
    }
    let views: BTreeMap<String, Vec<View>> = (held.into_iter())
        .map(|(tensor, held)| {
            let size =
                |axis: usize| index.info(&tensor).and_then(|info| info.shape.get(axis).copied());
            let mut views = held.views;
            views.extend(tiled(held.parts, size));
            (tensor, views)
        })
        .collect();
    in_their_simplest_form(views, index, ties)
}

fn hold(
    held: &mut BTreeMap<String, Held>,
    initializer: &Initializer,
    recipe: &Recipe,
    index: &Index<'_>,
) {
    let Recipe::Moved(moved) = recipe else { return };
    let size = |tensor: &str| index.info(tensor).map_or(0, |info| info.shape[moved.axis]);
    for inverted in moved.inverted(&initializer.name, &initializer.info(), size) {
        let (held, part) = (held.entry(inverted.tensor).or_default(), inverted.part);
        match inverted.range {
            Some(range) => held.parts.push((moved.axis, range, part)),
            None => held.views.push(moved.view(part)),
        }
    }
}

/// The view that joins parts which cover a whole axis without a gap. Of parts that are there twice the first is taken.
fn tiled(
    mut parts: Vec<(usize, (usize, usize), ViewPart)>,
    size: impl Fn(usize) -> Option<usize>,
) -> Option<View> {
    parts.sort_by_key(|(axis, range, _)| (*axis, *range));
    parts.dedup_by_key(|(axis, range, _)| (*axis, *range));
    let axis = parts.first()?.0;
    let mut end = 0;
    for (other, range, _) in &parts {
        if *other != axis || range.0 != end {
            return None;
        }
        end = range.1;
    }
    (size(axis) == Some(end))
        .then(|| View { axis, parts: parts.into_iter().map(|(.., part)| part).collect() })
}

/// A view that changes nothing is a plain name, unless the name means something else too: several tensors that were merged, or
/// another tensor of the checkpoint that is not tied to it. The tensor's own name is no alias, unless it is part of another tensor's view.
fn in_their_simplest_form(
    views: BTreeMap<String, Vec<View>>,
    index: &Index<'_>,
    ties: &BTreeMap<String, String>,
) -> BTreeMap<String, Vec<Alias>> {
    let plain = |tensor: &str, view: &View| match view.parts.as_slice() {
        [part] => index
            .info(tensor)
            .is_some_and(|info| *part == ViewPart::whole(&*part.name, info.clone())),
        _ => false,
    };
    // Names with a meaning beside being the plain name of one tensor.
    let mut shared = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for (tensor, views) in &views {
        for view in views {
            for name in view.names() {
                let own = plain(tensor, view) && name == tensor;
                let tied = ties.get(name) == Some(tensor);
                let elsewhere = index.info(name).is_some() && !own && !tied;
                if !seen.insert(name) || elsewhere || !plain(tensor, view) {
                    shared.insert(name.to_owned());
                }
            }
        }
    }
    let simple = |tensor: &str, view: View| {
        let name = view.parts[0].name.clone();
        if !plain(tensor, &view) || shared.contains(&name) {
            return Some(Alias::View(view));
        }
        (name != tensor).then_some(Alias::Name(name))
    };
    let all = views.into_iter().map(|(tensor, views)| {
        let aliases = views.into_iter().filter_map(|view| simple(&tensor, view)).collect();
        (tensor, aliases)
    });
    all.collect()
}
