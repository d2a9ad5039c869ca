//! LoRA adapters merged into the weights they adapt: W + s·B·A.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021); names and `adapter_config.json` as the library
//! PEFT writes them.

use super::cast::{floats, tensor_of};
use super::{BoxedSource, SafetensorsSource};
use crate::{RefitError, RefitErrorKind};
use engine_format::{DType, SourceError, Tensor, TensorInfo, WeightSource};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// An adapter file and how strongly it works.
#[derive(Debug)]
pub struct Lora {
    source: SafetensorsSource,
    scale: f32,
    /// Weights lie the other way, input by output, as in GPT-2's `Conv1D`.
    fan_in_fan_out: bool,
    /// Module → its two matrices.
    modules: BTreeMap<String, Matrices>,
}

/// Names of the matrices of one module.
#[derive(Debug, Default)]
struct Matrices {
    a: Option<String>,
    b: Option<String>,
}

/// What is read of `adapter_config.json`.
#[derive(Deserialize)]
struct Config {
    r: Option<u32>,
    lora_alpha: Option<f32>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    rank_pattern: BTreeMap<String, u32>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f32>,
}

/// Bytes a configuration may take.
const MAX_CONFIG: u64 = 1 << 20;

impl Lora {
    /// Opens an adapter. Its scale is `scale`, or what `adapter_config.json` beside it says: `lora_alpha / r`, or with rank
    /// stabilisation `lora_alpha / √r`.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`: no scale, a tensor that is no half of an adapter, a kind of adapter that is not merged here.
    pub fn open(path: &Path, scale: Option<f32>) -> Result<Self, RefitError> {
        let source = SafetensorsSource::open(path)?;
        let failed = |why: String| {
            RefitError::source(format!("not a LoRA adapter: {why}")).at(path.display())
        };
        let modules = modules(&source).map_err(failed)?;
        let config = config(path)?;
        if config.as_ref().is_some_and(|config| config.use_dora) {
            return Err(failed(
                "it is a DoRA adapter, whose magnitudes are not merged here".into(),
            ));
        }
        let scale = match (scale, &config) {
            (Some(scale), _) => Some(scale),
            (None, Some(config)) => config.scale().map_err(failed)?,
            (None, None) => None,
        };
        let scale = scale.filter(|scale| scale.is_finite()).ok_or_else(|| {
            failed("no scale: expected :SCALE behind its name, or r and lora_alpha in adapter_config.json beside it".into())
        })?;
        let fan_in_fan_out = config.is_some_and(|config| config.fan_in_fan_out);
        Ok(Self { source, scale, fan_in_fan_out, modules })
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

impl Config {
    fn scale(&self) -> Result<Option<f32>, String> {
        if !self.rank_pattern.is_empty() || !self.alpha_pattern.is_empty() {
            return Err("rank_pattern and alpha_pattern give modules scales of their own, which is not read here".into());
        }
        let (Some(rank), Some(alpha)) = (self.r, self.lora_alpha) else { return Ok(None) };
        let rank = rank as f32;
        Ok(Some(alpha / if self.use_rslora { rank.sqrt() } else { rank }))
    }
}

/// The configuration beside an adapter, if there is one.
fn config(adapter: &Path) -> Result<Option<Config>, RefitError> {
    let path: PathBuf = adapter.with_file_name("adapter_config.json");
    let mut text = Vec::new();
    match std::fs::File::open(&path) {
        Ok(file) => file.take(MAX_CONFIG).read_to_end(&mut text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    }
    .map_err(|error| RefitError::io("reading an adapter's configuration", &path, &error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        RefitError::source(format!("not an adapter's configuration: {error}")).at(path.display())
    })
}

/// Sorts the tensors of an adapter by module.
fn modules(source: &SafetensorsSource) -> Result<BTreeMap<String, Matrices>, String> {
    let mut modules = BTreeMap::<String, Matrices>::new();
    for name in source.names() {
        let stem = name.strip_suffix(".weight").unwrap_or(&name);
        let stem = stem.strip_suffix(".default").unwrap_or(stem);
        let half = [("lora_A", true), ("lora_B", false)]
            .into_iter()
            .find_map(|(half, is_a)| Some((stem.strip_suffix(half)?.strip_suffix('.')?, is_a)));
        let (module, is_a) = half.ok_or_else(|| {
            format!(
                "tensor {name:?}: expected names that end with .lora_A.weight and .lora_B.weight"
            )
        })?;
        let module = module.strip_prefix("base_model.model.").unwrap_or(module);
        let matrices = modules.entry(module.to_owned()).or_default();
        *(if is_a { &mut matrices.a } else { &mut matrices.b }) = Some(name);
    }
    let lacking = modules.iter().find(|(_, m)| m.a.is_none() || m.b.is_none());
    match (lacking, modules.is_empty()) {
        (Some((module, _)), _) => Err(format!("module {module:?} lacks one of its two matrices")),
        (None, true) => Err("it has no tensors".to_owned()),
        (None, false) => Ok(modules),
    }
}

/// A source whose tensors have adapters merged into them: `W + s·B·A` for one adapter after the other, calculated in f32 in a fixed
/// order and rounded once, to the type of the tensor. All other tensors are those of the source within.
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
            for (module, matrices) in &adapter.modules {
                match target(&names, module).and_then(|name| fits(&*base, adapter, matrices, name))
                {
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

    fn merge(&self, tensor: &Tensor, adapters: &[(usize, String)]) -> Result<Tensor, SourceError> {
        let mut values: Vec<f32> = floats(tensor).collect();
        for (index, module) in adapters {
            let adapter = &self.adapters[*index];
            let matrices = &adapter.modules[module];
            let half = |name: &Option<String>| {
                adapter.matrix(name.as_deref().expect("both were there when it was opened"))
            };
            let ((a_shape, a), (_, b)) = (half(&matrices.a)?, half(&matrices.b)?);
            let lies = Lies::of(tensor.shape(), &a_shape, b.len(), adapter.fan_in_fan_out);
            lies.expect("checked when the source was made").add(&mut values, &a, &b, adapter.scale);
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

fn fits(
    base: &dyn WeightSource,
    adapter: &Lora,
    matrices: &Matrices,
    name: &str,
) -> Result<String, String> {
    let info = |source: &dyn WeightSource, name: &str| {
        source.info(name).ok_or_else(|| format!("{name:?} has no type that is known here"))
    };
    let half = |name: &Option<String>| {
        info(&adapter.source, name.as_deref().expect("both were there when it was opened"))
    };
    let (weight, a, b) = (info(base, name)?, half(&matrices.a)?, half(&matrices.b)?);
    if let Some(other) = [&weight, &a, &b].into_iter().find(|info| !is_float(info.dtype)) {
        return Err(format!("expected f32, f16 or bf16, found {other}"));
    }
    let count = b.shape.iter().product();
    let rank_fits = b.shape.get(1) == a.shape.first();
    match Lies::of(&weight.shape, &a.shape, count, adapter.fan_in_fan_out).filter(|_| rank_fits) {
        Some(_) => Ok(name.to_owned()),
        None => Err(format!("{name:?} is {weight}, which A {a} and B {b} do not fit")),
    }
}

/// How the product of the two matrices lies in a weight.
struct Lies {
    rank: usize,
    outputs: usize,
    /// Elements of a row of A.
    inputs: usize,
    /// Distances in the weight between outputs and between inputs.
    steps: (usize, usize),
}

impl Lies {
    /// For a weight of `[out, in…]`, or the other way `[in, out]`; `b` is the number of elements of B. `None` if they do not fit.
    fn of(weight: &[usize], a: &[usize], b: usize, fan_in_fan_out: bool) -> Option<Self> {
        let rank = *a.first().filter(|&&rank| rank > 0)?;
        let (inputs, outputs) = (a[1..].iter().product(), b / rank);
        let all: usize = weight.iter().product();
        let fits = b.is_multiple_of(rank) && inputs * outputs == all && weight.len() >= 2;
        let straight = weight[0] == outputs && !fan_in_fan_out;
        let turned = weight.len() == 2 && weight[1] == outputs && fan_in_fan_out;
        let steps = if straight { (inputs, 1) } else { (1, outputs) };
        (fits && (straight || turned)).then_some(Self { rank, outputs, inputs, steps })
    }

    /// Adds `scale · B · A`. For each element the products are added in the order of the rank.
    fn add(&self, weight: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
        let mut row = vec![0.0f32; self.inputs];
        for output in 0..self.outputs {
            row.fill(0.0);
            for k in 0..self.rank {
                let factor = b[output * self.rank + k];
                let a = &a[k * self.inputs..(k + 1) * self.inputs];
                row.iter_mut().zip(a).for_each(|(sum, &a)| *sum += factor * a);
            }
            for (input, &sum) in row.iter().enumerate() {
                weight[output * self.steps.0 + input * self.steps.1] += scale * sum;
            }
        }
    }
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
            (Some(tensor), Some(adapters)) => self.merge(&tensor, adapters).map(Some),
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
