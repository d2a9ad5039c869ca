//! Initializers that several tensors were joined to: queries, keys and values as one product.

use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::{Moved, Part, Recipe};
use super::search::{Form, forms, is_weak};
use super::slices::shorter;
use super::{Initializer, Why};
use std::collections::BTreeSet;

/// Looks for what was found neither whole nor as a part.
pub(super) fn find(initializers: &[Initializer], decisions: &mut [Decision], index: &Index<'_>) {
    for (initializer, decision) in initializers.iter().zip(decisions) {
        let open = matches!(decision, Decision::Not(Why::NotFound { .. }));
        if !open || is_weak(&initializer.tensor) {
            continue;
        }
        // Something has to be shorter along one axis alone.
        let wanted = |dtype, shape: &[usize]| {
            let mut infos = index.infos();
            infos.any(|(_, info)| info.dtype == dtype && shorter(&info.shape, shape).is_some())
        };
        let recipes: Vec<Recipe> = forms(index, &initializer.tensor, wanted)
            .flat_map(|form| {
                let joined = |axis| joined(index, &form, axis);
                (0..form.tensor.shape().len()).filter_map(joined).collect::<Vec<_>>()
            })
            .collect();
        match recipes.as_slice() {
            [] => {}
            [only] => *decision = Decision::Stands(Stands::everywhere(only.clone())),
            several => *decision = Decision::Not(Why::ambiguous(several)),
        }
    }
}

/// Whole tensors that give the form when they are joined along `axis`, each the only one with its contents.
fn joined(index: &Index<'_>, form: &Form, axis: usize) -> Option<Recipe> {
    let shape = form.tensor.shape();
    let fits = |other: &[usize]| {
        let same = |(i, n): (usize, &usize)| i == axis || *n == shape[i];
        other.len() == shape.len() && other.iter().enumerate().all(same)
    };
    let sizes: BTreeSet<usize> = (index.infos())
        .filter(|(_, info)| info.dtype == form.tensor.dtype() && fits(&info.shape))
        .map(|(_, info)| info.shape[axis])
        .filter(|&size| size > 0 && size < shape[axis])
        .collect();
    let mut parts = Vec::new();
    let mut start = 0;
    while start < shape[axis] {
        // The largest that fits; tensors that begin with all of another one are not told apart by going on.
        let piece =
            sizes.iter().rev().filter(|&&size| start + size <= shape[axis]).find_map(|&size| {
                let names = index.equal_to(&form.tensor.range(axis, start..start + size));
                (!names.is_empty()).then_some((size, names))
            });
        let (size, names) = piece?;
        let [name] = names.as_slice() else { return None };
        parts.push(Part { tensor: (*name).to_owned(), range: None });
        start += size;
    }
    let (perm, from) = (form.perm.clone(), form.from);
    let moved = Moved { parts, axis, shape: None, perm, from };
    (moved.parts.len() > 1).then_some(Recipe::Moved(moved))
}
