//! Contents that say nothing, of which the exporter says by which operator they were calculated and for which module.
//!
//! A function of weights that nobody trained is as plain as they are: `1 + weight` of zeros is ones, and so is `exp` of them. PyTorch's
//! newer exporter writes of each node which call of the framework's graph it was, with the names of what the call read, and a value's name
//! begins with the operator that gave it: `add_4`. If the module of the call has one tensor of its own, to which nothing else is bound,
//! and one of the operator's functions of it is what is read, then it is that function.

use super::functions;
use super::index::Index;
use super::pair::{Decision, Stands};
use super::path::{agreement, module, steps};
use super::recipe::Recipe;
use super::uses::{Place, Use};
use super::{Initializer, open, unclaimed};
use crate::error::BuildError;
use engine_format::{DType, TensorInfo};
use std::collections::{BTreeMap, BTreeSet};

/// The framework's operators and the functions whose last step they are.
static FUNCTIONS_OF: &[(&str, &[&str])] = &[
    ("add", &["1+"]),
    ("exp", &["exp"]),
    ("neg", &["-", "-exp", "-softplus"]),
    ("rsqrt", &["1/sqrt"]),
    ("rsub", &["1-", "1-sigmoid"]),
    ("sigmoid", &["sigmoid"]),
    ("softmax", &["softmax"]),
    ("softplus", &["softplus"]),
    ("sqrt", &["sqrt"]),
    ("sub", &["1-", "1-sigmoid"]),
    ("tanh", &["tanh"]),
];

/// Looks for open initializers among functions of the tensors of their uses' modules.
pub(super) fn find(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    let open: Vec<usize> = (open(decisions).into_iter())
        .filter(|&i| {
            initializers[i].tensor.dtype() == DType::F32 && !initializers[i].uses.is_empty()
        })
        .filter(|&i| initializers[i].uses.iter().all(|found| found.calculated.is_some()))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let alone = alone(index);
    let unread: BTreeSet<String> =
        unclaimed(index, decisions).map(|(name, _)| name.to_owned()).collect();
    for i in open {
        let uses = initializers[i].uses.iter();
        let split = uses.map(|found| of_use(&initializers[i], found, &alone, &unread, index));
        let split: Option<Vec<(Place, Recipe)>> = split.collect::<Result<_, _>>()?;
        if let Some(split) = split {
            decisions[i] = Decision::Stands(Stands::split(split));
        }
    }
    Ok(())
}

/// The modules that have one float tensor of their own, with it.
fn alone<'a>(index: &'a Index<'_>) -> BTreeMap<Vec<&'a str>, (&'a str, &'a TensorInfo)> {
    let mut of = BTreeMap::<Vec<&str>, Vec<(&str, &TensorInfo)>>::new();
    for (name, info) in index.infos().filter(|(_, info)| info.dtype.is_float()) {
        of.entry(steps(module(name))).or_default().push((name, info));
    }
    let alone = of.into_iter().filter_map(|(module, tensors)| match *tensors {
        [only] => Some((module, only)),
        _ => None,
    });
    alone.collect()
}

/// What an initializer is in one use: the only function of the only tensor of the module.
fn of_use(
    initializer: &Initializer,
    found: &Use,
    alone: &BTreeMap<Vec<&str>, (&str, &TensorInfo)>,
    unread: &BTreeSet<String>,
    index: &Index<'_>,
) -> Result<Option<(Place, Recipe)>, BuildError> {
    let (Some(operator), Some(place)) = (&found.calculated, &found.module) else { return Ok(None) };
    let known = FUNCTIONS_OF.iter().find(|(name, _)| name == operator);
    let is_it = |module: &Vec<&str>| agreement(place, module).is_some_and(|n| n == module.len());
    let mut modules = alone.iter().filter(|(module, _)| !module.is_empty() && is_it(module));
    let (Some((_, functions)), Some((_, (tensor, info))), None) =
        (known, modules.next(), modules.next())
    else {
        return Ok(None);
    };
    if !unread.contains(*tensor) || info.shape != initializer.tensor.shape() {
        return Ok(None);
    }
    let mut recipes = Vec::new();
    for function in *functions {
        recipes.extend(functions::named(initializer, tensor, function, index)?);
    }
    match recipes.len() {
        1 => Ok(Some((found.place.clone(), recipes.remove(0)))),
        _ => Ok(None),
    }
}
