//! The weights of another engine.

use super::onnx::copied;
use super::stream_copies;
use crate::{RefitError, RefitErrorKind, open_engine};
use engine_format::{
    Engine, MapSource, SourceError, Tensor, TensorInfo, Weight, WeightData, WeightSource,
};
use std::path::Path;

/// The weights and named program constants of an engine, under their own names (aliases are not listed). Weights that
/// the engine lacks are not there, and a remark names them.
#[derive(Debug)]
pub struct EngineSource {
    origin: String,
    engine: Engine,
}

impl EngineSource {
    /// Opens an engine file.
    ///
    /// # Errors
    /// `Io`, or `InvalidEngine`.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Ok(Self { origin: path.display().to_string(), engine: open_engine(path)? })
    }

    /// The weights of an engine in memory; `origin` names it in messages.
    pub fn new(engine: Engine, origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), engine }
    }

    /// Its weights and parameters without the constants of the program, none of them copied.
    ///
    /// # Errors
    /// `MissingWeights` that names them.
    pub fn weights(&self) -> Result<MapSource, RefitError> {
        let missing = self.engine.missing();
        if !missing.is_empty() {
            let what = "the engine is stripped; it does not hold the weights";
            let error = RefitError::new(RefitErrorKind::MissingWeights, what).at(&self.origin);
            return Err(error.about(missing));
        }
        let rows = self.engine.parts().weights.iter();
        Ok(rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect())
    }

    fn tensor(&self, name: &str) -> Option<Tensor> {
        if let Some(weight) = self.engine.weight(name) {
            return weight.tensor();
        }
        let literals = &self.engine.parts().source_literals;
        let at = literals.binary_search_by(|literal| literal.name.as_str().cmp(name)).ok()?;
        Some(literals[at].tensor.clone())
    }
}

/// Whether the file that a tensor is part of is what it was.
fn unchanged(tensor: &Tensor) -> Result<(), String> {
    tensor.bytes().check().map_err(|changed| changed.to_string())
}

fn is_stored(weight: &Weight) -> bool {
    weight.data != WeightData::Missing
}

impl WeightSource for EngineSource {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        let parts = self.engine.parts();
        let stored = parts.weights.iter().filter(|weight| is_stored(weight));
        let literals = parts.source_literals.iter().map(|literal| literal.name.clone());
        let mut names: Vec<_> = stored.map(|w| w.name.clone()).chain(literals).collect();
        names.sort();
        names
    }

    fn remarks(&self) -> Vec<String> {
        let missing = self.engine.missing();
        match missing.is_empty() {
            true => Vec::new(),
            false => {
                vec![format!("{}: stripped of the weights {}", self.origin, missing.join(", "))]
            }
        }
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        match self.engine.weight(name) {
            Some(weight) => is_stored(weight).then(|| weight.info()),
            None => self.tensor(name).map(|literal| TensorInfo {
                dtype: literal.dtype(),
                shape: literal.shape().to_vec(),
            }),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let failed = |why| SourceError { name: name.to_owned(), origin: self.origin(), why };
        let copied = |tensor: Tensor| unchanged(&tensor).and_then(|()| copied(&tensor));
        self.tensor(name).map(|tensor| copied(tensor).map_err(failed)).transpose()
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let tensor = self.tensor(name);
        if let Some(tensor) = &tensor {
            let failed = |why| SourceError { name: name.to_owned(), origin: self.origin(), why };
            unchanged(tensor).map_err(failed)?;
            stream_copies(tensor.bytes(), sink);
        }
        Ok(tensor.is_some())
    }
}
