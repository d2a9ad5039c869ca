//! Where weights come from.

use crate::{DType, Tensor};
use std::collections::BTreeMap;
use std::fmt;

/// A tensor's type, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// A source failed to bring a tensor it said it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading {name:?} from {origin}: {why}")]
pub struct SourceError {
    /// The tensor.
    pub name: String,
    /// The file or object it comes from.
    pub origin: String,
    /// What failed.
    pub why: String,
}

/// Whose word a tensor's name is. Exporters merge equal tensors under one name and keep names for what they changed, so that a name may
/// mean one thing in the model and another in the checkpoint; an engine knows both meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// A checkpoint's: the tensor that the framework calls so.
    Checkpoint,
    /// A model file's: whatever the exporter wrote under it.
    Model,
    /// Both: a model file's tensor that was changed as the checkpoint's of its name would be, by an adapter say. It is of use only
    /// where the two are the same.
    Both,
}

/// Where weights come from: named tensors with types that are known before their bytes
/// are read. Several threads may read different tensors at once.
pub trait WeightSource: Sync {
    /// A short description for messages: a path, `memory`.
    fn origin(&self) -> String;

    /// Every tensor's name, sorted.
    fn names(&self) -> Vec<String>;

    /// Whose name this is: that of a checkpoint, unless the source knows better.
    fn naming(&self, _name: &str) -> Naming {
        Naming::Checkpoint
    }

    /// What its reader should know: what else is in the file and not read, how it was understood. One line each.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Type of one tensor, if the source has it.
    fn info(&self, name: &str) -> Option<TensorInfo>;

    /// The tensor's bytes, or `None` if the source does not have it. What is returned must not
    /// change any more: a source backed by a foreign file copies.
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError>;

    /// Whether the tensor is in memory, or is made there, when it is read: [`Self::read`] then costs no copy. Others are
    /// better streamed into memory that their reader has.
    fn is_resident(&self, _name: &str) -> bool {
        true
    }

    /// Hands the bytes of the tensor to `sink` in order, in pieces that must not change any more while
    /// they are handed over; `false` if the source does not have it. The default reads the tensor
    /// whole. A source that overrides it spares its callers the memory.
    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let tensor = self.read(name)?;
        if let Some(tensor) = &tensor {
            sink(tensor.bytes());
        }
        Ok(tensor.is_some())
    }

    /// As [`Self::stream`], and leaves the bytes in `out`, as many as have room there. Gives how many bytes the tensor has;
    /// `None` if the source does not have it. A source that overrides it reads into `out` itself, and may read nothing if the
    /// tensor has another length.
    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        let mut found = 0;
        let known = self.stream(name, &mut |piece| {
            if let Some(place) = out.get_mut(found..found + piece.len()) {
                place.copy_from_slice(piece);
            }
            found += piece.len();
            sink(piece);
        })?;
        Ok(known.then_some(found))
    }
}

/// Weights in memory, by name.
#[derive(Clone, Debug, Default)]
pub struct MapSource {
    tensors: BTreeMap<String, Tensor>,
}

impl MapSource {
    /// An empty source.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }
}

impl FromIterator<(String, Tensor)> for MapSource {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(iter: I) -> Self {
        Self { tensors: iter.into_iter().collect() }
    }
}

impl WeightSource for MapSource {
    fn origin(&self) -> String {
        "memory".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let t = self.tensors.get(name)?;
        Some(TensorInfo { dtype: t.dtype(), shape: t.shape().to_vec() })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        Ok(self.tensors.get(name).cloned())
    }
}
