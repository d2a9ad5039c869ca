//! Ratios to a peer that were found before, kept in a file: the only numbers of a bench that say something on another day.

use miette::{Context, IntoDiagnostic, Result, miette};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Our time over the peer's, by the instruction set of the kernels and the number of threads, and by the name of the model.
#[derive(Debug, Default, PartialEq)]
pub struct Ratios(BTreeMap<String, BTreeMap<String, f64>>);

impl Ratios {
    /// # Errors
    /// If there is no such file, or it has no ratios.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.into_diagnostic().wrap_err_with(|| format!("{}", path.display()))?;
        Self::parse(&text).wrap_err_with(|| format!("{}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).into_diagnostic()?;
        let sets = value.as_object().ok_or_else(|| miette!("expected an object"))?;
        let set = |(name, models): (&String, &Value)| {
            let models = models.as_object().ok_or_else(|| miette!("{name}: expected an object"))?;
            let ratio = |(model, ratio): (&String, &Value)| {
                let ratio = ratio.as_f64().filter(|ratio| *ratio > 0.0);
                let ratio = ratio
                    .ok_or_else(|| miette!("{name}, {model}: expected a number above zero"))?;
                Ok((model.clone(), ratio))
            };
            Ok((name.clone(), models.iter().map(ratio).collect::<Result<_>>()?))
        };
        Ok(Self(sets.iter().map(set).collect::<Result<_>>()?))
    }

    /// Notes a ratio in place of the one that was known.
    pub fn insert(&mut self, machine: &str, model: &str, ratio: f64) {
        let ratio = (ratio * 100.0).round() / 100.0;
        self.0.entry(machine.to_owned()).or_default().insert(model.to_owned(), ratio);
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&json!(self.0)).into_diagnostic()?;
        std::fs::write(path, text + "\n").into_diagnostic()
    }

    /// The ratio that was known.
    ///
    /// # Errors
    /// If none was: a model that is new, or a machine with other kernels, has to be measured first.
    pub fn of(&self, machine: &str, model: &str) -> Result<f64> {
        let known = self.0.get(machine).and_then(|models| models.get(model));
        known.copied().ok_or_else(|| {
            miette!(
                "no ratio of {model} is kept for {machine}; `--save FILE` measures and keeps one"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_kept_by_kernels_and_model() {
        let mut ratios = Ratios::default();
        ratios.insert("AVX2", "small", 1.239);
        ratios.insert("AVX2", "large", 0.5);
        ratios.insert("AVX2", "large", 0.75);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratios.json");
        ratios.write(&path).unwrap();
        let read = Ratios::read(&path).unwrap();
        assert_eq!(read, ratios);
        assert_eq!(read.of("AVX2", "small").unwrap(), 1.24);
        assert_eq!(read.of("AVX2", "large").unwrap(), 0.75);
        assert!(read.of("AVX2", "other").is_err() && read.of("NEON", "small").is_err());
    }

    #[test]
    fn what_is_no_ratio_is_refused() {
        for text in ["", "[]", r#"{"AVX2": 1}"#, r#"{"AVX2": {"a": "1"}}"#, r#"{"AVX2": {"a": 0}}"#]
        {
            assert!(Ratios::parse(text).is_err(), "{text}");
        }
    }
}
