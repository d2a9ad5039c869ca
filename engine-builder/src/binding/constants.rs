//! What is no tensor of the checkpoint: constants of the program, and open questions.
//!
//! A float that was found nowhere is a constant that nobody learns, or was made of weights in a way that is not known here. The
//! second is possible only where something of the checkpoint is left over to make it of: a tensor that nothing was bound to. Such a
//! pair is an open question; a constant without a partner is part of the program. What says little, a number of a formula's
//! or plain ones, is held only against tensors of modules that the model uses: the module around theirs holds something bound.

use super::index::Index;
use super::pair::Decision;
use super::report::{Reason, Why};
use super::search::is_weak;
use super::uses::Use;
use super::{BindMap, Binding, Initializer, formula, path};
use crate::error::{BuildError, BuildErrorKind};
use crate::import::Origins;
use engine_format::{DType, Tensor, TensorInfo, WeightSource};
use engine_ops::TABLE;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor of the checkpoint of which nothing was bound.
struct Unread<'a> {
    name: &'a str,
    size: usize,
    /// Whether it says so little that what is made of it may say as little.
    weak: bool,
    /// Whether the model uses something of the module around its own.
    used: bool,
    /// Whether the model does without the layer that it is of.
    idle: bool,
}

/// Decides on everything that was not bound.
pub(super) fn settle(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
    binding: &Binding<'_>,
) -> Result<(), BuildError> {
    let differs = differing(initializers, decisions, binding)?;
    let unread = unread(decisions, index, binding)?;
    for (i, initializer) in initializers.iter().enumerate() {
        let open = match &decisions[i] {
            Decision::Not(Why::NotFound { .. }) => true,
            Decision::Not(Why::Constant(_)) => false,
            // A whole number is found in many places that mean nothing.
            Decision::Not(_) => is_whole(initializer.tensor.dtype()),
            Decision::Stands(stands) => {
                stands.constant_elsewhere || stands.recipes().any(|recipe| recipe.has_factor())
            }
        };
        if !open {
            continue;
        }
        let found = matches!(decisions[i], Decision::Stands(_));
        let factor = decisions[i].recipes().any(|recipe| recipe.has_factor());
        let by_node = binding.pin_unbound && initializer.is_constant_node;
        let reason = match differs.as_ref().and_then(|differs| differs.of(initializer)) {
            Some(false) => Ok(Reason::EqualInOther),
            Some(true) if !found => Err(Vec::new()),
            _ if by_node => Ok(Reason::Asked),
            // What a tensor is multiplied by is one number, of one or of vectors that hold one number throughout.
            _ if factor => {
                let may_be_in = |unread: &Unread<'_>| {
                    may_be_in(1, false, unread) || (unread.used && unread.weak)
                };
                suspects(&unread, may_be_in).map_or(Ok(Reason::NothingLeft), Err)
            }
            _ => reason(initializer, &unread, index),
        };
        match reason {
            Ok(_) if found => {}
            Ok(reason) => decisions[i] = Decision::Not(Why::Constant(reason)),
            Err(suspects) => decisions[i] = Decision::Not(Why::NotFound { suspects }),
        }
    }
    Ok(())
}

/// Whether numbers of this type are indices, counts and flags, which nobody learns.
fn is_whole(dtype: DType) -> bool {
    matches!(dtype, DType::Bool | DType::I32 | DType::I64 | DType::String)
}

/// Why a constant is nobody's weight, or what of the checkpoint may be in it.
fn reason(
    initializer: &Initializer,
    unread: &[Unread<'_>],
    index: &Index<'_>,
) -> Result<Reason, Vec<String>> {
    let tensor = &initializer.tensor;
    if is_whole(tensor.dtype()) {
        return Ok(Reason::Whole);
    }
    let weak = is_weak(tensor);
    let formula = if weak { None } else { formula::lines(tensor) };
    let may_be_in = |unread: &&Unread<'_>| match formula {
        // A formula is told by four numbers a line.
        Some(lines) => unread.used && unread.size <= 4 * lines,
        None => (unread.used || !weak) && may_be_in(tensor.len(), weak, unread),
    };
    let suspects = suspects(unread, |unread| may_be_in(&unread)).unwrap_or_default();
    let named = matches!(initializer.name.rsplit_once('.'), Some((_, "weight" | "bias")));
    match (suspects.is_empty(), formula) {
        (false, _) => Err(suspects),
        (true, Some(_)) => Ok(Reason::Formula),
        (true, None) if weak => Ok(Reason::Plain),
        // What is bound may be in it all the same, a second time; then it has their sizes.
        (true, None) if named || index.has_sizes_of(tensor) || is_layers(initializer) => {
            Err(suspects)
        }
        (true, None) => Ok(Reason::NothingLeft),
    }
}

/// Whether a layer reads it as what layers learn: a filter, a matrix, the scale of a norm, a table. The checkpoint may be a part of a
/// whole.
fn is_layers(initializer: &Initializer) -> bool {
    let is_learned = |op: &str, operand: usize| {
        TABLE.iter().any(|def| {
            def.name == op && def.operand(operand).is_some_and(|operand| operand.learned)
        })
    };
    !initializer.is_constant_node
        && initializer.uses.iter().any(|Use { role: (op, operand), .. }| is_learned(op, *operand))
}

/// The names of those of which something may have been made; `None` if there are none.
fn suspects(unread: &[Unread<'_>], may_be_in: impl Fn(&Unread<'_>) -> bool) -> Option<Vec<String>> {
    let may = unread.iter().filter(|unread| may_be_in(unread));
    let names: Vec<String> = may.map(|unread| unread.name.to_owned()).collect();
    (!names.is_empty()).then_some(names)
}

/// Whether `size` elements may have been made of a tensor. One number is made of one number, and not of one of a layer that the
/// model does without; what says little is made of what says little.
fn may_be_in(size: usize, weak: bool, of: &Unread<'_>) -> bool {
    match (size, weak) {
        (1, _) => of.size == 1 && !of.idle && (!weak || of.weak),
        (_, true) => of.weak && of.size > 0,
        (_, false) => true,
    }
}

/// Whether a tensor is one of several floats of its module, to none of which anything was bound: a layer that the model does without.
pub(super) fn idle(index: &Index<'_>, decisions: &[Decision]) -> impl Fn(&str) -> bool + use<> {
    let used: BTreeSet<String> = bound_in(decisions).into_iter().map(str::to_owned).collect();
    let mut floats = BTreeMap::<String, usize>::new();
    for (name, _) in index.infos().filter(|(_, info)| info.dtype.is_float()) {
        *floats.entry(path::module(name).to_owned()).or_default() += 1;
    }
    move |name| {
        let module = path::module(name);
        !used.contains(module) && floats.get(module).is_some_and(|&floats| floats > 1)
    }
}

/// Operands of layers that are read nowhere although the model cannot do without them: zeros or ones beside something bound of their own
/// module, since an exporter drops what adds nothing and what multiplies by one; and where the exporter rewrites, layers that are equal to
/// what is bound, since it computes equal things once.
pub(super) fn lost(
    decisions: &[Decision],
    index: &Index<'_>,
    origins: &Origins,
    map: &BindMap,
) -> Result<Vec<String>, BuildError> {
    const OPERANDS: [&str; 4] = ["weight", "bias", "gamma", "beta"];
    let recipes = decisions.iter().flat_map(Decision::recipes);
    let bound: BTreeSet<&str> = recipes.flat_map(|recipe| recipe.tensors()).collect();
    let (used, own) = (used_modules(decisions), bound_in(decisions));
    let unread: Vec<(&str, &TensorInfo)> = super::unclaimed(index, decisions)
        .filter(|(name, info)| !is_whole(info.dtype) && !map.leaves_out(name))
        .collect();
    let mut lost = Vec::new();
    for (name, _) in unread.iter().filter(|(name, _)| OPERANDS.iter().any(|o| name.ends_with(o))) {
        let module = path::module(name);
        let is_lost = match own.contains(module) {
            true => is_uniform(&index.tensor(name)?),
            // A layer that has something of its own that nothing is equal to is not there at all.
            false => {
                let mut of_module =
                    unread.iter().filter(|(other, _)| path::module(other) == module);
                let has_equal =
                    |name: &str| index.equals(name).iter().any(|n| bound.contains(&**n));
                !origins.is_empty()
                    && used.contains(path::around(name))
                    && of_module.all(|(other, _)| has_equal(other))
            }
        };
        if is_lost {
            lost.push((*name).to_owned());
        }
    }
    Ok(lost)
}

/// Whether a tensor holds only zeros or only ones.
fn is_uniform(tensor: &Tensor) -> bool {
    let all = |number: f32| {
        tensor.as_slice::<f32>().is_ok_and(|values| values.iter().all(|&x| x == number))
    };
    !tensor.is_empty() && (all(0.0) || all(1.0))
}

/// The floats of the checkpoint of which nothing was bound.
fn unread<'a>(
    decisions: &[Decision],
    index: &'a Index<'_>,
    binding: &Binding<'_>,
) -> Result<Vec<Unread<'a>>, BuildError> {
    let used = used_modules(decisions);
    let idle = idle(index, decisions);
    let mut unread = Vec::new();
    for (name, info) in super::unclaimed(index, decisions) {
        if is_whole(info.dtype) || binding.map.leaves_out(name) {
            continue;
        }
        let tensor = index.tensor(name)?;
        if unchanged(name, &tensor, binding)? == Some(false) {
            continue;
        }
        let used = used.contains(path::around(name));
        let idle = idle(name);
        unread.push(Unread { name, size: tensor.len(), weak: is_weak(&tensor), used, idle });
    }
    Ok(unread)
}

/// The modules that have a bound tensor of their own.
pub(super) fn bound_in(decisions: &[Decision]) -> BTreeSet<&str> {
    let recipes = decisions.iter().flat_map(Decision::recipes);
    recipes.flat_map(|recipe| recipe.tensors()).map(path::module).collect()
}

/// Every module of which something was bound, with those around it.
pub(super) fn used_modules(decisions: &[Decision]) -> BTreeSet<&str> {
    let mut used = BTreeSet::from([""]);
    for tensor in decisions.iter().flat_map(Decision::recipes).flat_map(|recipe| recipe.tensors()) {
        let mut module = path::module(tensor);
        while used.insert(module) {
            module = path::module(module);
        }
    }
    used
}

/// The constants of another export of the same model, from other weights.
struct Differing<'a> {
    other: &'a dyn WeightSource,
}

impl Differing<'_> {
    /// Whether the other export has other contents; `None` if it has nothing of that name and type.
    fn of(&self, initializer: &Initializer) -> Option<bool> {
        let info = self.other.info(&initializer.name)?;
        if info != initializer.info() {
            return None;
        }
        let other = self.other.read(&initializer.name).ok()??;
        Some(other != initializer.tensor)
    }
}

/// The other export, if there is one: it proves something only if its weights are other ones.
fn differing<'a>(
    initializers: &[Initializer],
    decisions: &[Decision],
    binding: &Binding<'a>,
) -> Result<Option<Differing<'a>>, BuildError> {
    let Some(other) = binding.other else { return Ok(None) };
    let differing = Differing { other };
    let bound = initializers.iter().zip(decisions);
    let mut bound = bound.filter(|(_, decision)| matches!(decision, Decision::Stands(_)));
    match bound.any(|(initializer, _)| differing.of(initializer) == Some(true)) {
        true => Ok(Some(differing)),
        false => Err(BuildError::new(
            BuildErrorKind::Options,
            format!(
                "{} proves nothing: no weight that was bound has another value there. Export the same model with other weights",
                other.origin()
            ),
        )),
    }
}

/// Whether a tensor of the checkpoint is the same in the checkpoint of the other export. Where it is not, what is equal in both
/// exports was not made of it, and what is not is told by the exports themselves.
fn unchanged(
    name: &str,
    tensor: &Tensor,
    binding: &Binding<'_>,
) -> Result<Option<bool>, BuildError> {
    let Some(weights) = binding.other_weights.filter(|_| binding.other.is_some()) else {
        return Ok(None);
    };
    Ok(weights.read(name)?.map(|other| other == *tensor))
}
