//! What an adapter file has: matrices for modules, and tensors that were trained beside them.

use super::super::cast::floats;
use super::super::{BoxedSource, in_folder, open_source};
use super::config::Config;
use super::is_float;
use crate::RefitError;
use engine_format::{SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// An adapter file and how strongly it works.
pub struct Lora {
    source: BoxedSource,
    pub(super) modules: BTreeMap<String, Adapted>,
    /// Tensors that take the place of the base's (`modules_to_save`, biases, embeddings): the base's name → the adapter's.
    pub(super) saved: BTreeMap<String, String>,
}

/// The names of an adapter in a folder, what is preferred first.
const ADAPTERS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// What an adapter has for one module.
#[derive(Debug)]
pub(super) struct Adapted {
    /// Names of the two matrices.
    pub(super) a: String,
    pub(super) b: String,
    /// The name of the lengths that it gives to what belongs to each output (DoRA).
    pub(super) magnitude: Option<String>,
    pub(super) scale: f32,
    /// Whether the weight lies the other way, input by output.
    pub(super) transposed: bool,
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
    /// Opens an adapter, a file of any kind that [`open_source`] opens, or the folder that PEFT wrote it to. Its scale is `scale`, or what `adapter_config.json` beside it says for each module: `alpha / rank`, or with rank
    /// stabilisation `alpha / √rank`.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`: no scale, a rank that is not the configuration's, a tensor that is no part of an adapter, a kind
    /// of adapter that is not merged here.
    pub fn open(path: &Path, scale: Option<f32>) -> Result<Self, RefitError> {
        let path = &in_folder(path, &ADAPTERS)?;
        let source = open_source(path)?;
        let config = Config::beside(path)?;
        Self::made(source, scale, config.as_ref())
    }

    /// An adapter of tensors from anywhere: in memory, or under other names. Its scale is `scale`.
    ///
    /// # Errors
    /// `InvalidSource`: a scale that is not finite, a tensor that is no part of an adapter, a matrix without the other.
    pub fn of(source: BoxedSource, scale: f32) -> Result<Self, RefitError> {
        Self::made(source, Some(scale), None)
    }

    fn made(
        source: BoxedSource,
        scale: Option<f32>,
        config: Option<&Config>,
    ) -> Result<Self, RefitError> {
        let failed = |why: String| {
            RefitError::source(format!("not a LoRA adapter: {why}")).at(source.origin())
        };
        let (modules, saved) = sorted(&*source, config).map_err(failed)?;
        let adapted = |(module, found): (String, Found)| {
            let adapted = found.adapted(&*source, &module, scale, config);
            adapted
                .map(|adapted| (module.clone(), adapted))
                .map_err(|why| format!("module {module:?}: {why}"))
        };
        let modules = modules.into_iter().map(adapted).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { source, modules, saved })
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

    /// Type of one of its tensors, if it is one that is known here.
    pub(super) fn info(&self, name: &str) -> Option<TensorInfo> {
        self.source.info(name)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, SourceError> {
        let tensor = self.source.read(name)?;
        tensor.ok_or_else(|| self.failed(name, "it is not there"))
    }

    pub(super) fn matrix(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), SourceError> {
        let tensor = self.tensor(name)?;
        if !is_float(tensor.dtype()) {
            return Err(self.failed(name, "expected f32, f16 or bf16"));
        }
        Ok((tensor.shape().to_vec(), floats(&tensor).collect()))
    }

    fn failed(&self, name: &str, why: &str) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why: why.to_owned() }
    }
}

impl fmt::Debug for Lora {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, modules, saved } = self;
        f.debug_struct("Lora")
            .field("source", &source.origin())
            .field("modules", modules)
            .field("saved", saved)
            .finish()
    }
}

impl Found {
    /// What a module's tensors and its configuration come to.
    fn adapted(
        self,
        source: &dyn WeightSource,
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
        let transposed = self.embedding || config.is_some_and(|config| config.fan_in_fan_out);
        Ok(Adapted { a, b, magnitude: self.magnitude, scale, transposed })
    }
}

/// A module that keeps a trained copy of another has it under this step; what is saved of it usually lacks the step.
const COPY: &str = ".modules_to_save.";

/// Sorts the tensors of an adapter: matrices by module, and those that take the place of the base's by the base's name.
#[expect(clippy::type_complexity, reason = "two maps that become two fields")]
fn sorted(
    source: &dyn WeightSource,
    config: Option<&Config>,
) -> Result<(BTreeMap<String, Found>, BTreeMap<String, String>), String> {
    let (mut modules, mut saved) = (BTreeMap::<String, Found>::new(), BTreeMap::new());
    for name in source.names() {
        let own = name.strip_prefix("base_model.model.").unwrap_or(&name);
        let stem = own.strip_suffix(".weight").unwrap_or(own);
        let stem = stem.strip_suffix(".default").unwrap_or(stem);
        let (module, role) = stem.rsplit_once('.').unwrap_or(("", stem));
        let of_matrices = role.starts_with("lora_") || own.contains(".lora_");
        if !of_matrices && (own.contains(COPY) || config.is_some_and(|c| c.saves(own))) {
            let target = own.replace(".modules_to_save.default.", ".").replace(COPY, ".");
            if let Some(first) = saved.insert(target.clone(), name.clone()) {
                return Err(format!("expected one {target:?}, found {first:?} and {name:?}"));
            }
            continue;
        }
        let found = modules.entry(module.to_owned()).or_default();
        let slot = match role {
            "lora_A" | "lora_embedding_A" => &mut found.a,
            "lora_B" | "lora_embedding_B" => &mut found.b,
            "lora_magnitude_vector" => &mut found.magnitude,
            _ => {
                return Err(format!(
                    "tensor {name:?}: expected names that end with .lora_A.weight, .lora_B.weight or .lora_magnitude_vector, or \
                     that modules_to_save in adapter_config.json names"
                ));
            }
        };
        if let Some(first) = slot {
            return Err(format!(
                "module {module:?}: expected one {role}, found {first:?} and {name:?}"
            ));
        }
        *slot = Some(name.clone());
        found.embedding |= role.starts_with("lora_embedding");
    }
    match modules.is_empty() && saved.is_empty() {
        true => Err("it has no tensors".to_owned()),
        false => Ok((modules, saved)),
    }
}
