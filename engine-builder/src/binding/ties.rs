//! Tied tensors: one of the framework's parameters under several names of its checkpoint.
//!
//! An exporter keeps a tied parameter under one of its names. A checkpoint may have it under all of them, and so does the engine: the
//! others are aliases, so that a source may bring either, and one in which they differ is refused.

use super::index::Index;
use super::pair::Decision;
use super::search::is_weak;
use super::{BindMap, constants, path, unclaimed};
use crate::error::BuildError;
use crate::import::Origins;
use engine_format::{Alias, TensorInfo};
use std::collections::{BTreeMap, BTreeSet};

/// Every tensor that nothing was bound to and that is tied, with the bound one that it is equal to. Both are of modules that the model
/// uses, and their contents are none that several tensors have because nobody trained them.
pub(super) fn ties(
    decisions: &[Decision],
    index: &Index<'_>,
    origins: &Origins,
    map: &BindMap,
) -> Result<BTreeMap<String, String>, BuildError> {
    let bound: BTreeSet<&str> = (decisions.iter())
        .flat_map(Decision::recipes)
        .flat_map(|recipe| recipe.tensors())
        .collect();
    let (used, own) = (constants::used_modules(decisions), constants::bound_in(decisions));
    let equal = |name: &str, info: &TensorInfo| {
        let is_equal =
            |other: &&String| bound.contains(&***other) && index.info(other) == Some(info);
        let mut equal = index.equals(name).iter().filter(is_equal);
        equal.next().filter(|_| equal.next().is_none())
    };
    let unread: Vec<(&str, &TensorInfo)> = unclaimed(index, decisions)
        .filter(|(name, info)| info.dtype.is_float() && !map.leaves_out(name))
        .collect();
    let mut ties = BTreeMap::new();
    for &(name, info) in &unread {
        let module = path::module(name);
        let Some(other) = equal(name, info) else { continue };
        // A layer of which nothing is bound is used only if all of it is tied and the exporter wrote what was called.
        let mut of_module = unread.iter().filter(|(other, _)| path::module(other) == module);
        let is_used = own.contains(module)
            || (!origins.is_empty()
                && used.contains(path::around(name))
                && of_module.all(|(name, info)| equal(name, info).is_some()));
        if is_used && !is_weak(&index.tensor(name)?) {
            ties.insert(name.to_owned(), other.clone());
        }
    }
    Ok(ties)
}

/// Adds the other names of tied tensors to the aliases of those that are bound.
pub(super) fn add(aliases: &mut BTreeMap<String, Vec<Alias>>, ties: &BTreeMap<String, String>) {
    for (name, tensor) in ties {
        let (alias, aliases) =
            (Alias::Name(name.clone()), aliases.entry(tensor.clone()).or_default());
        if !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
}
