//! LoRA adapters merged into the weights they adapt: W + s·B·A, and what was trained beside them.
//!
//! Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); Kalajdzievski, "A Rank Stabilization Scaling Factor for
//! Fine-Tuning with LoRA" (2023); Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation" (2024). Names and `adapter_config.json`
//! as the library PEFT writes them.

mod adapter;
mod config;
mod delta;
mod target;

pub use adapter::Lora;

use super::BoxedSource;
use super::cast::{floats, tensor_of};
use crate::{RefitError, RefitErrorKind};
use adapter::Adapted;
use delta::Lies;
use engine_format::{DType, Naming, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::{BTreeMap, BTreeSet};
use target::Wanted;

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// A source whose tensors have adapters merged into them: `W + s·B·A` for one adapter after the other, where an adapter says so (DoRA)
/// with what belongs to each output then brought to a length, calculated in f32 in a fixed order and rounded once, to the type of the tensor.
/// A tensor that an adapter has as a whole (`modules_to_save`) takes the place of the base's, in the base's float type; one that the base
/// lacks is new. All other tensors are those of the source within.
///
/// The base is not changed: without its adapters the same weights come back, bit for bit. For a live module the base
/// is a copy of its engine from before ([`EngineSource`](crate::EngineSource)), and [`LoraSource::only`] leaves all weights alone that no
/// adapter concerns.
pub struct LoraSource {
    base: BoxedSource,
    adapters: Vec<Lora>,
    /// What happens to each tensor that an adapter concerns, in order.
    changes: BTreeMap<String, Vec<Change>>,
    only: Option<BTreeSet<String>>,
}

/// What an adapter does to a tensor.
struct Change {
    /// Index of the adapter.
    adapter: usize,
    what: What,
}

enum What {
    /// Adds the product of the matrices of a module.
    Add { module: String },
    /// Puts a tensor of the adapter in its place.
    Replace { with: String },
}

impl LoraSource {
    /// Merges `adapters` in this order into `base`.
    ///
    /// # Errors
    /// `UnfitWeights` that lists every module whose weight the base does not have, or has as something that the matrices do
    /// not fit, and modules that mean one tensor or belong to another model.
    pub fn new(base: BoxedSource, adapters: Vec<Lora>) -> Result<Self, RefitError> {
        let names = base.names();
        let mut source = Self { base, adapters: Vec::new(), changes: BTreeMap::new(), only: None };
        let mut problems = Vec::new();
        for adapter in adapters {
            problems.extend(source.add(&names, adapter));
        }
        if problems.is_empty() {
            return Ok(source);
        }
        Err(RefitError::new(RefitErrorKind::UnfitWeights, "adapters do not fit the weights")
            .found(problems.join("; ")))
    }

    /// Takes an adapter up, and gives everything that speaks against it.
    fn add(&mut self, names: &[String], adapter: Lora) -> Vec<String> {
        let index = self.adapters.len();
        let modules = adapter.modules.keys().map(|module| Wanted {
            name: format!("{module}.weight"),
            label: module,
            may_be_new: false,
        });
        let saved = adapter.saved.keys().map(|name| Wanted {
            name: name.clone(),
            label: name,
            may_be_new: true,
        });
        let wanted: Vec<_> = modules.chain(saved).collect();
        let (targets, mut problems) = target::targets(names, &wanted);
        let mut changes = Vec::new();
        for (target, wanted) in targets.into_iter().zip(&wanted) {
            let Some(target) = target else { continue };
            let what = match adapter.modules.get(wanted.label).filter(|_| !wanted.may_be_new) {
                Some(adapted) => {
                    let info = known_float(self.changed_info(&target));
                    let info = info.map_err(|why| format!("{target:?} {why}"));
                    let fits = info.and_then(|i| fits_weight(&adapter, adapted, &target, &i));
                    problems.extend(fits.err().map(|why| format!("{}: {why}", wanted.label)));
                    What::Add { module: wanted.label.to_owned() }
                }
                None => What::Replace { with: adapter.saved[wanted.label].clone() },
            };
            changes.push((target, Change { adapter: index, what }));
        }
        for (target, change) in changes {
            self.changes.entry(target).or_default().push(change);
        }
        let problems = problems.into_iter().map(|why| format!("{}: {why}", adapter.origin()));
        let problems = problems.collect();
        self.adapters.push(adapter);
        problems
    }

    /// The tensors that adapters are merged into, or bring.
    pub fn adapted(&self) -> impl Iterator<Item = &str> {
        self.changes.keys().map(String::as_str)
    }

    /// Only these tensors of the source: for a partial refit of what these adapters, or those that they take the place of, adapt.
    #[must_use]
    pub fn only(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.only = Some(names.into_iter().collect());
        self
    }

    fn is_listed(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }

    /// The last tensor that takes the place of the base's: its adapter and its name there.
    fn replaced(&self, name: &str) -> Option<(&Lora, &str)> {
        let changes = self.changes.get(name)?;
        changes.iter().rev().find_map(|change| match &change.what {
            What::Replace { with } => Some((&self.adapters[change.adapter], with.as_str())),
            What::Add { .. } => None,
        })
    }

    /// The element type of what takes the place of a tensor of the base: the base's, between types of floats.
    fn replaced_dtype(&self, name: &str, own: DType) -> DType {
        let base = self.base.info(name).map(|info| info.dtype);
        base.filter(|&base| is_float(base) && is_float(own)).unwrap_or(own)
    }

    /// What a tensor is, with what was taken up so far.
    fn changed_info(&self, name: &str) -> Option<TensorInfo> {
        match self.replaced(name) {
            Some((adapter, with)) => {
                let TensorInfo { dtype, shape } = adapter.info(with)?;
                Some(TensorInfo { dtype: self.replaced_dtype(name, dtype), shape })
            }
            None => self.base.info(name),
        }
    }

    /// A tensor before the first product is added to it, and what is added.
    fn begun(&self, name: &str) -> Result<(Option<Tensor>, &[Change]), SourceError> {
        let changes = self.changes.get(name).map_or(&[] as &[_], Vec::as_slice);
        let Some((adapter, with)) = self.replaced(name) else {
            return Ok((self.base.read(name)?, changes));
        };
        let tensor = adapter.tensor(with)?;
        let dtype = self.replaced_dtype(name, tensor.dtype());
        let tensor = match dtype == tensor.dtype() {
            true => tensor,
            false => tensor_of(dtype, tensor.shape(), &floats(&tensor).collect::<Vec<_>>()),
        };
        let is_replacement = |change: &Change| matches!(change.what, What::Replace { .. });
        let after = changes.iter().rposition(is_replacement).map_or(0, |at| at + 1);
        Ok((Some(tensor), &changes[after..]))
    }

    fn merge(
        &self,
        name: &str,
        tensor: &Tensor,
        changes: &[Change],
    ) -> Result<Tensor, SourceError> {
        let mut values: Vec<f32> = floats(tensor).collect();
        for Change { adapter, what } in changes {
            let What::Add { module } = what else { continue };
            let adapter = &self.adapters[*adapter];
            let Adapted { a, b, magnitude, scale, transposed } = &adapter.modules[module];
            let ((a_shape, a), (b_shape, b)) = (adapter.matrix(a)?, adapter.matrix(b)?);
            let lies = Lies::of(tensor.shape(), &a_shape, &b_shape, *transposed);
            let lies = lies.expect("checked when the source was made");
            lies.add(&mut values, &a, &b, *scale);
            if let Some(magnitude) = magnitude {
                let (_, lengths) = adapter.matrix(magnitude)?;
                lies.lengthen(&mut values, &lengths).map_err(|why| SourceError {
                    name: name.to_owned(),
                    origin: self.origin(),
                    why: format!("{magnitude:?} of {}: {why}", adapter.origin()),
                })?;
            }
        }
        Ok(tensor_of(tensor.dtype(), tensor.shape(), &values))
    }
}

/// A type, if it is one of floats that are known here.
fn known_float(info: Option<TensorInfo>) -> Result<TensorInfo, String> {
    let info = info.ok_or("has no type that is known here")?;
    match is_float(info.dtype) {
        true => Ok(info),
        false => Err(format!("is {info}, expected f32, f16 or bf16")),
    }
}

/// Whether what an adapter has for a weight fits it.
fn fits_weight(
    adapter: &Lora,
    adapted: &Adapted,
    name: &str,
    weight: &TensorInfo,
) -> Result<(), String> {
    let info =
        |name: &str| known_float(adapter.info(name)).map_err(|why| format!("{name:?} {why}"));
    let (a, b) = (info(&adapted.a)?, info(&adapted.b)?);
    let lies = Lies::of(&weight.shape, &a.shape, &b.shape, adapted.transposed);
    let lies = lies.ok_or_else(|| {
        let (inner, outputs) = Lies::expected(&weight.shape, adapted.transposed);
        format!(
            "{name:?} is {weight}: expected {:?} [rank, {inner}] and {:?} [{outputs}, rank], found {a} and {b}",
            adapted.a, adapted.b
        )
    })?;
    let Some(magnitude) = &adapted.magnitude else { return Ok(()) };
    let found = info(magnitude)?;
    if !lies.has_lengths(&found) {
        let expected = lies.outputs();
        return Err(format!(
            "{magnitude:?}: expected one number for each of {expected} outputs of {name:?}, found {found}"
        ));
    }
    Ok(())
}

impl WeightSource for LoraSource {
    fn origin(&self) -> String {
        let adapters = self.adapters.iter().map(Lora::origin);
        std::iter::once(self.base.origin()).chain(adapters).collect::<Vec<_>>().join(" with ")
    }

    fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = self.base.names().into_iter().collect();
        names.extend(self.changes.keys().cloned());
        names.retain(|name| self.is_listed(name));
        names.into_iter().collect()
    }

    /// Adapters are written for a checkpoint's names.
    fn naming(&self, name: &str) -> Naming {
        match self.base.naming(name) {
            _ if self.replaced(name).is_some() => Naming::Checkpoint,
            Naming::Model if self.changes.contains_key(name) => Naming::Both,
            naming => naming,
        }
    }

    /// Those of the base, and which tensors an adapter has as a whole.
    fn remarks(&self) -> Vec<String> {
        let replaced = self.adapters.iter().enumerate().filter_map(|(index, adapter)| {
            let replaces = |change: &Change| {
                change.adapter == index && matches!(change.what, What::Replace { .. })
            };
            let of = self.changes.iter().filter(|(_, changes)| changes.iter().any(replaces));
            let names: Vec<_> = of.map(|(name, _)| name.as_str()).collect();
            let said = format!("{}: takes the place of {}", adapter.origin(), names.join(", "));
            (!names.is_empty()).then_some(said)
        });
        self.base.remarks().into_iter().chain(replaced).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.changed_info(name).filter(|_| self.is_listed(name))
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        if !self.is_listed(name) {
            return Ok(None);
        }
        match self.begun(name)? {
            (Some(tensor), changes) if !changes.is_empty() => {
                self.merge(name, &tensor, changes).map(Some)
            }
            (tensor, _) => Ok(tensor),
        }
    }

    fn is_resident(&self, name: &str) -> bool {
        self.changes.contains_key(name) || self.base.is_resident(name)
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        if self.is_listed(name) && !self.changes.contains_key(name) {
            return self.base.stream(name, sink);
        }
        let tensor = self.read(name)?;
        if let Some(tensor) = &tensor {
            sink(tensor.bytes());
        }
        Ok(tensor.is_some())
    }
}
