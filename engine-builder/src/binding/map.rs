//! Decisions of the caller, as TOML.

use super::functions;
use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::{Moved, Part, Recipe, inverse};
use super::search::{conversions, whole};
use super::uses::Place;
use super::{Initializer, Reason, Why};
use crate::error::BuildError;
use engine_format::{Alias, Engine, Weight};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What initializers stand for, where the caller says so. Contents are checked all the same.
///
/// ```
/// let map = engine_builder::BindMap::parse(r#"
///     "onnx::MatMul_7" = "fc.weight"                                # as it is, or in the one order of axes that fits
///     "onnx::MatMul_8" = { tensor = "proj.weight", permute = [1, 0] }
///     "q" = { tensor = "in_proj_weight", axis = 0, range = [0, 64] }
///     "qkv" = { join = ["q.bias", "k.bias", "v.bias"], axis = 0 }
///     "ones" = { uses = { "/bn1/BatchNormalization:1" = "bn1.weight", "/bn2/BatchNormalization:1" = "bn2.weight" } }
///     "onnx::Mul_9" = "logit_scale | exp"                           # a function of a tensor
///     "mask" = "constant"                                           # no checkpoint holds it
///     "pooler.dense.weight" = "none"                                # a tensor that the model does not use
/// "#)?;
/// # assert_eq!(map.len(), 8);
/// # Ok::<(), engine_builder::BuildError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct BindMap {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Entry {
    /// Only `false` means something.
    Own(bool),
    Tensor(String),
    Made(Made),
    Split(Split),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    uses: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    tensor: Option<String>,
    join: Option<Vec<String>>,
    #[serde(default)]
    axis: usize,
    range: Option<(usize, usize)>,
    permute: Option<Vec<usize>>,
}

fn invalid(initializer: &str, why: impl std::fmt::Display) -> BuildError {
    BuildError::options(format!("the map's entry for {initializer:?}: {why}"))
}

impl BindMap {
    /// Reads a map.
    ///
    /// # Errors
    /// `Options` with the place of what is not TOML or no entry.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        toml::from_str(text)
            .map_err(|error| BuildError::options(format!("not a map of initializers: {error}")))
    }

    /// The map by which a model binds again as it did when `engine` was built from it: what the engine's aliases say. An initializer
    /// that is several weights, equal tensors that an exporter merged, has no entry; which use is which is found anew.
    pub fn of(engine: &Engine) -> Self {
        let mut held = BTreeMap::<&str, Vec<Held<'_>>>::new();
        for weight in &engine.parts().weights {
            for alias in &weight.aliases {
                Held::of(weight, alias, &mut held);
            }
        }
        let entry = |(name, held): (&str, Vec<Held<'_>>)| {
            Some((name.to_owned(), Entry::Made(Held::made(held)?)))
        };
        Self { entries: held.into_iter().filter_map(entry).collect() }
    }

    /// Number of initializers it speaks of.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every name means something: a typing error must not be passed over.
    pub(super) fn check_names(
        &self,
        initializers: &[Initializer],
        fixed: &BTreeSet<&str>,
        index: &Index<'_>,
    ) -> Result<(), BuildError> {
        for (name, entry) in &self.entries {
            let fixed = fixed.contains(name.as_str()) && self.says_constant(name);
            if fixed || (self.leaves_out(name) && index.info(name).is_some()) {
                continue;
            }
            let known = initializers.iter().find(|initializer| initializer.name == *name);
            if known.is_none() {
                return Err(invalid(name, "the model has no weight or parameter of that name"));
            }
            let tensors: Vec<&str> = match entry {
                Entry::Own(_) => Vec::new(),
                Entry::Tensor(text) if text == CONSTANT => Vec::new(),
                Entry::Tensor(text) => vec![text.split('|').next().unwrap_or_default().trim()],
                Entry::Made(made) => {
                    let tensors = made.tensor.iter().chain(made.join.iter().flatten());
                    tensors.map(String::as_str).collect()
                }
                Entry::Split(split) => split.uses.values().map(String::as_str).collect(),
            };
            if let Some(tensor) = tensors.into_iter().find(|tensor| index.info(tensor).is_none()) {
                return Err(invalid(name, format!("{} has no tensor {tensor:?}", index.origin())));
            }
        }
        Ok(())
    }

    /// Whether the map says that the model does not use a tensor of the checkpoint.
    pub(super) fn leaves_out(&self, tensor: &str) -> bool {
        matches!(self.entries.get(tensor), Some(Entry::Tensor(text)) if text == NONE)
    }

    /// Whether the map says that no checkpoint holds an initializer.
    pub(super) fn says_constant(&self, initializer: &str) -> bool {
        match self.entries.get(initializer) {
            Some(Entry::Own(own)) => !own,
            Some(Entry::Tensor(text)) => text == CONSTANT,
            _ => false,
        }
    }

    /// What the map says of an initializer, held against its contents.
    pub(super) fn decision(
        &self,
        initializer: &Initializer,
        index: &Index<'_>,
    ) -> Result<Option<Decision>, BuildError> {
        let name = &initializer.name;
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let stands = match entry {
            _ if self.says_constant(name) => {
                return Ok(Some(Decision::Not(Why::Constant(Reason::Mapped))));
            }
            Entry::Own(_) => return Err(invalid(name, "expected false or a tensor")),
            Entry::Tensor(text) => Stands::everywhere(fitting(initializer, text, index)?),
            Entry::Made(made) => Stands::everywhere(made.recipe(initializer, index)?),
            Entry::Split(split) => split.stands(initializer, index)?,
        };
        Ok(Some(Decision::Stands(stands)))
    }
}

/// What an initializer is that no checkpoint holds.
const CONSTANT: &str = "constant";

/// What a tensor of the checkpoint is that the model does not use.
const NONE: &str = "none";

/// The tensor as it is if that gives the initializer, else in the one order of axes that does.
fn fitting(
    initializer: &Initializer,
    tensor: &str,
    index: &Index<'_>,
) -> Result<Recipe, BuildError> {
    if let Some((tensor, function)) = tensor.split_once('|') {
        let (tensor, function) = (tensor.trim(), function.trim());
        return functions::named(initializer, tensor, function, index)?.ok_or_else(|| {
            invalid(&initializer.name, format!("{function} of {tensor:?} has other contents"))
        });
    }
    let mut recipes = whole(index, &initializer.tensor);
    recipes.retain(|recipe| recipe.tensors().eq([tensor]));
    if let Some(at) = recipes.iter().position(|recipe| recipe.as_is().is_some()) {
        return Ok(recipes.remove(at));
    }
    match recipes.len() {
        1 => Ok(recipes.remove(0)),
        0 => Err(invalid(
            &initializer.name,
            format!("no order of axes of {tensor:?} gives its contents"),
        )),
        n => Err(invalid(
            &initializer.name,
            format!("{n} orders of axes of {tensor:?} give its contents; say which with permute"),
        )),
    }
}

impl Made {
    fn recipe(&self, initializer: &Initializer, index: &Index<'_>) -> Result<Recipe, BuildError> {
        let name = &initializer.name;
        let parts: Vec<Part> = match (&self.tensor, &self.join) {
            (Some(tensor), None) => vec![Part { tensor: tensor.clone(), range: self.range }],
            (None, Some(join)) if self.range.is_none() && !join.is_empty() => {
                join.iter().map(|tensor| Part { tensor: tensor.clone(), range: None }).collect()
            }
            _ => return Err(invalid(name, "expected tensor, with range or without, or join")),
        };
        let rank = initializer.tensor.shape().len();
        let perm = self.permute.clone().unwrap_or_else(|| (0..rank).collect());
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..rank) || (self.axis >= rank && self.axis > 0) {
            return Err(invalid(
                name,
                format!("its {rank} axes are not those of permute and axis"),
            ));
        }
        let moved = Moved { parts, axis: self.axis, shape: None, perm, from: None };
        let outside = |part: &Part| {
            let size = index.info(&part.tensor).and_then(|info| info.shape.get(self.axis).copied());
            part.range.is_some_and(|(start, end)| start > end || size.is_none_or(|size| end > size))
        };
        let made = match moved.parts.iter().any(outside) {
            true => None,
            false => {
                let expression = moved.expression(initializer.tensor.dtype());
                expression.evaluate(&mut |name| index.tensor(name))?
            }
        };
        let made = made.ok_or_else(|| invalid(name, "the tensors do not go together"))?;
        for (from, form) in conversions(index, &initializer.tensor) {
            if form == made {
                return Ok(Recipe::Moved(Moved { from, ..moved }));
            }
        }
        Err(invalid(name, format!("{moved} has other contents")))
    }
}

/// What an initializer is of one weight, read from an alias.
struct Held<'a> {
    weight: &'a str,
    axis: usize,
    /// From the weight's order of axes to the initializer's; `None` if nothing is moved.
    perm: Option<Vec<usize>>,
    /// The part of the weight that it is; `None` for all.
    part: Option<(usize, usize)>,
    /// The part of it that is the weight; `None` for all.
    within: Option<(usize, usize)>,
}

impl<'a> Held<'a> {
    /// Notes for each initializer of an alias what it is of the weight.
    fn of(weight: &'a Weight, alias: &'a Alias, held: &mut BTreeMap<&'a str, Vec<Self>>) {
        let whole =
            |axis| Self { weight: &weight.name, axis, perm: None, part: None, within: None };
        match alias {
            Alias::Name(name) => held.entry(name).or_default().push(whole(0)),
            Alias::View(view) => {
                let mut end = 0;
                for part in &view.parts {
                    let start = end;
                    end += part.size(view.axis);
                    held.entry(&part.name).or_default().push(Self {
                        perm: Some(inverse(&part.perm)),
                        part: (view.parts.len() > 1).then_some((start, end)),
                        within: part.range,
                        ..whole(view.axis)
                    });
                }
            }
        }
    }

    /// How an initializer is made that is these: one weight or a part of one, or several whole ones joined.
    fn made(mut held: Vec<Self>) -> Option<Made> {
        held.sort_by_key(|held| held.within);
        let Self { axis, perm, .. } = held.first()?;
        let made = Made { axis: *axis, permute: perm.clone(), ..Made::default() };
        if let [Self { weight, part, within: None, .. }] = &*held {
            return Some(Made { tensor: Some((*weight).to_owned()), range: *part, ..made });
        }
        let joined = held.iter().all(|held| {
            held.within.is_some()
                && held.part.is_none()
                && held.axis == made.axis
                && held.perm == made.permute
        });
        let join = held.iter().map(|held| held.weight.to_owned()).collect();
        joined.then_some(Made { join: Some(join), ..made })
    }
}

impl Split {
    fn stands(&self, initializer: &Initializer, index: &Index<'_>) -> Result<Stands, BuildError> {
        let name = &initializer.name;
        let called = |place: &Place, key: &str| {
            key == place.node || key == format!("{}:{}", place.node, place.operand)
        };
        for key in self.uses.keys() {
            if !initializer.uses.iter().any(|found| called(&found.place, key)) {
                let places = initializer.uses.iter().map(|found| &found.place);
                let there: Vec<String> =
                    places.map(|place| format!("{}:{}", place.node, place.operand)).collect();
                return Err(invalid(
                    name,
                    format!("no use {key:?}; it is used by {}", there.join(", ")),
                ));
            }
        }
        let mut recipes = Vec::new();
        for found in &initializer.uses {
            let mut entries = self.uses.iter().filter(|(key, _)| called(&found.place, key));
            let Some((_, tensor)) = entries.next() else {
                let Place { node, operand, .. } = &found.place;
                return Err(invalid(name, format!("it says nothing of the use {node}:{operand}")));
            };
            recipes.push((found.place.clone(), fitting(initializer, tensor, index)?));
        }
        Ok(Stands::split(recipes))
    }
}
