//! The constants of an ONNX model.

use super::stream_copies;
use crate::RefitError;
use engine_format::{Bytes, Naming, SourceError, Tensor, TensorInfo, WeightSource};
use engine_onnx::{Model, TensorData};
use std::collections::BTreeMap;
use std::path::Path;

/// The constants of an ONNX model under their qualified names; see [`Model::constants`].
///
/// The file is mapped as long as the source lives, and must not be changed meanwhile; what is read is a copy.
#[derive(Debug)]
pub struct OnnxSource {
    origin: String,
    constants: BTreeMap<String, TensorData>,
}

impl OnnxSource {
    /// Opens a model.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Ok(Self::new(&Model::open(path)?, path.display().to_string()))
    }

    /// The constants of a model that was read; `origin` names it in messages.
    pub fn new(model: &Model, origin: impl Into<String>) -> Self {
        let constants = model.constants().into_iter().map(|c| (c.name, c.data));
        Self { origin: origin.into(), constants: constants.collect() }
    }

    /// Leaves out the constants that `keep` does not ask for, by name and type.
    pub fn retain(&mut self, keep: impl Fn(&str, &TensorInfo) -> bool) {
        self.constants.retain(|name, data| data.info().is_ok_and(|info| keep(name, &info)));
    }
}

impl WeightSource for OnnxSource {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn names(&self) -> Vec<String> {
        self.constants.keys().cloned().collect()
    }

    fn naming(&self, _name: &str) -> Naming {
        Naming::Model
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.constants.get(name)?.info().ok()
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(data) = self.constants.get(name) else { return Ok(None) };
        let failed = |why| SourceError { name: name.to_owned(), origin: self.origin(), why };
        let tensor = data.tensor().map_err(|error| failed(error.to_string()))?;
        copied(&tensor).map(Some).map_err(failed)
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(data) = self.constants.get(name) else { return Ok(false) };
        let failed = |why| SourceError { name: name.to_owned(), origin: self.origin(), why };
        let bytes = data.bytes().map_err(|error| failed(error.to_string()))?;
        stream_copies(&bytes, sink);
        Ok(true)
    }
}

/// A tensor whose bytes are this process's own.
pub(super) fn copied(tensor: &Tensor) -> Result<Tensor, String> {
    Tensor::new(tensor.dtype(), tensor.shape(), Bytes::copy_from(tensor.bytes()))
        .map_err(|error| error.to_string())
}
