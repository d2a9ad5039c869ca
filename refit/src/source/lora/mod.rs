//! LoRA adapters merged into the weights they adapt: W + s·B·A.
//!
//! Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); Kalajdzievski, "A Rank Stabilization Scaling Factor for
//! Fine-Tuning with LoRA" (2023); Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation" (2024). Names and `adapter_config.json`
//! as the library PEFT writes them.

mod config;
mod delta;

use super::cast::{floats, tensor_of};
use super::{BoxedSource, SafetensorsSource};
use crate::{RefitError, RefitErrorKind};
use config::Config;
use delta::Lies;
use engine_format::{DType, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An adapter file and how strongly it works.
#[derive(Debug)]
pub struct Lora {
    source: SafetensorsSource,
    modules: BTreeMap<String, Adapted>,
}

/// What an adapter has for one module.
#[derive(Debug)]
struct Adapted {
    /// Names of the two matrices.
    a: String,
    b: String,
    /// The name of the lengths that it gives to what belongs to each output (DoRA).
    magnitude: Option<String>,
    scale: f32,
    /// Whether the weight lies the other way, input by output.
    turned: bool,
}

/// Names found of one module.
#[derive(Debug, Default)]
struct Found {
    a: Option<String>,
    b: Option<String>,
    magnitude: Option<String>,
    /// Whether the matrices are those of an embedding, whose weight has a row for each input.
    embedding: bool,
}

impl Lora {
    /// Opens an adapter. Its scale is `scale`, or what `adapter_config.json` beside it says for each module: `alpha / rank`, or with rank
    /// stabilisation `alpha / √rank`.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`: no scale, a rank that is not the configuration's, a tensor that is no part of an adapter, a kind
    /// of adapter that is not merged here.
    pub fn open(path: &Path, scale: Option<f32>) -> Result<Self, RefitError> {
        let source = SafetensorsSource::open(path)?;
        let config = Config::beside(path)?;
        let failed = |why: String| {
            RefitError::source(format!("not a LoRA adapter: {why}")).at(path.display())
        };
        let adapted = |(module, found): (String, Found)| {
            let adapted = found.adapted(&source, &module, scale, config.as_ref());
            adapted
                .map(|adapted| (module.clone(), adapted))
                .map_err(|why| format!("module {module:?}: {why}"))
        };
        let modules = modules(&source).map_err(failed)?;
        let modules = modules.into_iter().map(adapted).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { source, modules })
    }

    /// An adapter as the command line names it: `PATH` or `PATH:SCALE`.
    ///
    /// # Errors
    /// Those of [`Lora::open`].
    pub fn parse(text: &str) -> Result<Self, RefitError> {
        match text.rsplit_once(':').map(|(path, scale)| (path, scale.parse())) {
            Some((path, Ok(scale))) => Self::open(Path::new(path), Some(scale)),
            _ => Self::open(Path::new(text), None),
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> String {
        self.source.origin()
    }

    fn matrix(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), SourceError> {
        let failed = |why: &str| SourceError {
            name: name.to_owned(),
            origin: self.origin(),
            why: why.to_owned(),
        };
        let tensor = self.source.read(name)?.ok_or_else(|| failed("it is not there"))?;
        if !is_float(tensor.dtype()) {
            return Err(failed("expected f32, f16 or bf16"));
        }
        Ok((tensor.shape().to_vec(), floats(&tensor).collect()))
    }
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

impl Found {
    /// What a module's tensors and its configuration come to.
    fn adapted(
        self,
        source: &SafetensorsSource,
        module: &str,
        scale: Option<f32>,
        config: Option<&Config>,
    ) -> Result<Adapted, String> {
        let (a, b) = match (self.a, self.b) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => {
                let one = a.or(b).or(self.magnitude).unwrap_or_default();
                return Err(format!("expected lora_A and lora_B, found only {one:?}"));
            }
        };
        if self.magnitude.is_none() && config.is_some_and(|config| config.use_dora) {
            return Err(
                "no lora_magnitude_vector, expected one by use_dora in adapter_config.json".into(),
            );
        }
        let said = match (scale, config) {
            (None, Some(config)) => {
                let rank = source.info(&a).and_then(|info| info.shape.first().copied());
                let rank =
                    rank.ok_or_else(|| format!("{a:?} is no matrix of a type that is known here"))?;
                config.scale(module, rank).map_err(|why| format!("{a:?}: {why}"))?
            }
            (scale, _) => scale,
        };
        let scale = said.filter(|scale| scale.is_finite()).ok_or(
            "no scale: expected :SCALE behind the adapter's name, or lora_alpha in adapter_config.json beside it",
        )?;
        let turned = self.embedding || config.is_some_and(|config| config.fan_in_fan_out);
        Ok(Adapted { a, b, magnitude: self.magnitude, scale, turned })
    }
}

/// Sorts the tensors of an adapter by module.
fn modules(source: &SafetensorsSource) -> Result<BTreeMap<String, Found>, String> {
    let mut modules = BTreeMap::<String, Found>::new();
    for name in source.names() {
        let stem = name.strip_suffix(".weight").unwrap_or(&name);
        let stem = stem.strip_suffix(".default").unwrap_or(stem);
        let (module, role) = stem.rsplit_once('.').unwrap_or(("", stem));
        let module = module.strip_prefix("base_model.model.").unwrap_or(module);
        let found = modules.entry(module.to_owned()).or_default();
        let place = match role {
            "lora_A" | "lora_embedding_A" => &mut found.a,
            "lora_B" | "lora_embedding_B" => &mut found.b,
            "lora_magnitude_vector" => &mut found.magnitude,
            _ => {
                return Err(format!(
                    "tensor {name:?}: expected names that end with .lora_A.weight, .lora_B.weight or .lora_magnitude_vector"
                ));
            }
        };
        if let Some(first) = place {
            return Err(format!(
                "module {module:?}: expected one {role}, found {first:?} and {name:?}"
            ));
        }
        *place = Some(name.clone());
        found.embedding |= role.starts_with("lora_embedding");
    }
    if modules.is_empty() { Err("it has no tensors".to_owned()) } else { Ok(modules) }
}

/// A source whose tensors have adapters merged into them: `W + s·B·A` for one adapter after the other, where an adapter says so (DoRA)
/// with what belongs to each output then brought to a length, calculated in f32 in a fixed order and rounded once, to the type of the tensor.
/// All other tensors are those of the source within.
///
/// The base is not changed: without its adapters the same weights come back, bit for bit. For a live module the base
/// is a copy of its engine from before ([`EngineSource`](crate::EngineSource)), and [`LoraSource::only`] leaves all weights alone that no
/// adapter concerns.
pub struct LoraSource {
    base: BoxedSource,
    adapters: Vec<Lora>,
    /// Tensor of the base → adapters and their modules, in order.
    merged: BTreeMap<String, Vec<(usize, String)>>,
    only: Option<BTreeSet<String>>,
}

impl LoraSource {
    /// Merges `adapters` in this order into `base`.
    ///
    /// # Errors
    /// `UnfitWeights` that lists every module whose weight the base does not have, or has as something that the matrices do
    /// not fit.
    pub fn new(base: BoxedSource, adapters: Vec<Lora>) -> Result<Self, RefitError> {
        let names = base.names();
        let mut merged = BTreeMap::<String, Vec<(usize, String)>>::new();
        let mut problems = Vec::new();
        for (index, adapter) in adapters.iter().enumerate() {
            for (module, adapted) in &adapter.modules {
                match target(&names, module).and_then(|name| fits(&*base, adapter, adapted, name)) {
                    Ok(name) => merged.entry(name).or_default().push((index, module.clone())),
                    Err(why) => problems.push(format!("{} of {}: {why}", module, adapter.origin())),
                }
            }
        }
        if problems.is_empty() {
            return Ok(Self { base, adapters, merged, only: None });
        }
        Err(RefitError::new(RefitErrorKind::UnfitWeights, "adapters do not fit the weights")
            .found(problems.join("; ")))
    }

    /// The tensors that adapters are merged into.
    pub fn adapted(&self) -> impl Iterator<Item = &str> {
        self.merged.keys().map(String::as_str)
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

    fn merge(
        &self,
        name: &str,
        tensor: &Tensor,
        adapters: &[(usize, String)],
    ) -> Result<Tensor, SourceError> {
        let mut values: Vec<f32> = floats(tensor).collect();
        for (index, module) in adapters {
            let adapter = &self.adapters[*index];
            let Adapted { a, b, magnitude, scale, turned } = &adapter.modules[module];
            let ((a_shape, a), (b_shape, b)) = (adapter.matrix(a)?, adapter.matrix(b)?);
            let lies = Lies::of(tensor.shape(), &a_shape, &b_shape, *turned);
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

/// The tensor of the base that is a module's weight: of its name, or of the one name that ends with it or that it ends with, since a
/// checkpoint may be wrapped (`bert.encoder…`) and so may the model that was adapted.
fn target<'a>(names: &'a [String], module: &str) -> Result<&'a str, String> {
    let weight = format!("{module}.weight");
    if let Some(exact) = names.iter().find(|name| **name == weight) {
        return Ok(exact);
    }
    let ends = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|prefix| prefix.ends_with('.'))
    };
    let mut alike = names.iter().filter(|name| ends(name, &weight) || ends(&weight, name));
    match (alike.next(), alike.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(format!("no weight is called {weight:?}")),
        (Some(a), Some(b)) => Err(format!("{weight:?} may be {a:?} or {b:?}")),
    }
}

/// The name of the weight if what an adapter has for it fits.
fn fits(
    base: &dyn WeightSource,
    adapter: &Lora,
    adapted: &Adapted,
    name: &str,
) -> Result<String, String> {
    let info = |source: &dyn WeightSource, name: &str| {
        let info = source.info(name);
        let info = info.ok_or_else(|| format!("{name:?} has no type that is known here"))?;
        match is_float(info.dtype) {
            true => Ok(info),
            false => Err(format!("{name:?}: expected f32, f16 or bf16, found {info}")),
        }
    };
    let weight = info(base, name)?;
    let (a, b) = (info(&adapter.source, &adapted.a)?, info(&adapter.source, &adapted.b)?);
    let lies = Lies::of(&weight.shape, &a.shape, &b.shape, adapted.turned);
    let lies = lies.ok_or_else(|| {
        let (inner, outputs) = Lies::expected(&weight.shape, adapted.turned);
        format!(
            "{name:?} is {weight}: expected {:?} [rank, {inner}] and {:?} [{outputs}, rank], found {a} and {b}",
            adapted.a, adapted.b
        )
    })?;
    if let Some(magnitude) = &adapted.magnitude {
        let found = info(&adapter.source, magnitude)?;
        if !lies.has_lengths(&found) {
            let expected = lies.outputs();
            return Err(format!(
                "{magnitude:?}: expected one number for each of {expected} outputs of {name:?}, found {found}"
            ));
        }
    }
    Ok(name.to_owned())
}

impl WeightSource for LoraSource {
    fn origin(&self) -> String {
        let adapters = self.adapters.iter().map(Lora::origin);
        std::iter::once(self.base.origin()).chain(adapters).collect::<Vec<_>>().join(" with ")
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.base.names();
        names.retain(|name| self.is_listed(name));
        names
    }

    fn is_model(&self) -> bool {
        self.base.is_model()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.base.info(name).filter(|_| self.is_listed(name))
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        if !self.is_listed(name) {
            return Ok(None);
        }
        match (self.base.read(name)?, self.merged.get(name)) {
            (Some(tensor), Some(adapters)) => self.merge(name, &tensor, adapters).map(Some),
            (tensor, _) => Ok(tensor),
        }
    }

    fn is_resident(&self, name: &str) -> bool {
        self.merged.contains_key(name) || self.base.is_resident(name)
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        if self.is_listed(name) && !self.merged.contains_key(name) {
            return self.base.stream(name, sink);
        }
        let tensor = self.read(name)?;
        if let Some(tensor) = &tensor {
            sink(tensor.bytes());
        }
        Ok(tensor.is_some())
    }
}
