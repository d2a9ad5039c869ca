//! What `adapter_config.json` says of an adapter.

use crate::RefitError;
use regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

/// What is read of it.
#[derive(Deserialize)]
pub(super) struct Config {
    r: Option<u32>,
    lora_alpha: Option<f32>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    pub(super) use_dora: bool,
    /// Weights lie the other way, input by output, as in GPT-2's `Conv1D`.
    #[serde(default)]
    pub(super) fan_in_fan_out: bool,
    /// Modules that were trained as a whole.
    modules_to_save: Option<Vec<String>>,
    /// Which biases were trained: `none`, `all` or `lora_only`.
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: Patterns<u32>,
    #[serde(default)]
    alpha_pattern: Patterns<f32>,
    #[serde(default)]
    init_lora_weights: Value,
    #[serde(default)]
    alora_invocation_tokens: Value,
}

/// Bytes a configuration may take.
const MAX_CONFIG: u64 = 1 << 20;

/// Ways to begin a training that take something out of the base, so that what was trained does not belong to the base as it was.
const CHANGE_THE_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Modules whose weights are saved as a whole when the vocabulary grew, whatever the configuration says.
const EMBEDDINGS: [&str; 2] = ["embed_tokens", "lm_head"];

impl Config {
    /// The configuration beside an adapter, if there is one.
    pub(super) fn beside(adapter: &Path) -> Result<Option<Self>, RefitError> {
        let path = adapter.with_file_name("adapter_config.json");
        let mut text = Vec::new();
        match engine_onnx::open_regular(&path) {
            Ok(file) => file.take(MAX_CONFIG).read_to_end(&mut text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|error| RefitError::io("reading an adapter's configuration", &path, &error))?;
        let failed = |why: String| {
            let what = format!("not the configuration of an adapter that can be merged: {why}");
            RefitError::source(what).at(path.display())
        };
        let config: Self = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
        config.check().map_err(failed)?;
        Ok(Some(config))
    }

    /// Whether the adapter is a sum to the base as it is.
    fn check(&self) -> Result<(), String> {
        let begun = self.init_lora_weights.as_str().unwrap_or_default();
        if CHANGE_THE_BASE.iter().any(|way| begun.starts_with(way)) {
            return Err(format!(
                "init_lora_weights is {begun:?}, which changed the base; save it converted to an ordinary adapter"
            ));
        }
        if !self.alora_invocation_tokens.is_null() {
            return Err("alora_invocation_tokens: it works from a token on, not always".into());
        }
        Ok(())
    }

    /// Whether a tensor of this name takes the place of the base's: one of a module that was trained as a whole, a bias where biases were
    /// trained, an embedding that grew.
    pub(super) fn saves(&self, tensor: &str) -> bool {
        let Some((module, leaf)) = tensor.rsplit_once('.') else { return false };
        let steps = format!(".{module}.");
        let saved = self.modules_to_save.iter().flatten();
        let mut named = saved.map(|module| format!(".{module}."));
        let bias = self.bias.as_deref().is_some_and(|which| which != "none") && leaf == "bias";
        let embedding = EMBEDDINGS.iter().any(|step| steps.ends_with(&format!(".{step}.")));
        named.any(|module| steps.contains(&module)) || bias || embedding
    }

    /// What the product of a module's two matrices is multiplied by: `alpha / rank`, or `alpha / √rank` with rank stabilisation. `None`
    /// if there is no alpha.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<Option<f32>, String> {
        let said = self.rank_pattern.find(module)?.or(self.r);
        if let Some(said) = said.filter(|&said| said as usize != rank) {
            return Err(format!("expected rank {said} by adapter_config.json, found {rank}"));
        }
        let alpha = self.alpha_pattern.find(module)?.or(self.lora_alpha);
        let rank = rank as f32;
        Ok(alpha.map(|alpha| alpha / if self.use_rslora { rank.sqrt() } else { rank }))
    }
}

/// Values for modules by patterns of their names. The first that fits decides, so their order is kept.
struct Patterns<T>(Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> Patterns<T> {
    /// A pattern is a regular expression for the end of a module's name that begins at the name's or a step's beginning.
    fn find(&self, module: &str) -> Result<Option<T>, String> {
        for (pattern, value) in &self.0 {
            let whole = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
            let whole = whole.map_err(|error| format!("the pattern {pattern:?}: {error}"))?;
            if whole.is_match(module) {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Patterns<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values by patterns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Patterns(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}
