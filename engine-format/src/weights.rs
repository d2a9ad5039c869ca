//! The weight table and where weights come from.

use crate::{Alias, Bytes, DType, Digest, EngineFlags, Tensor, ValueId};
use std::collections::BTreeMap;
use std::fmt;

/// What a replaceable constant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightClass {
    /// What a layer learns, however small; every source must bring it.
    Weight,
    /// A constant of arithmetic that no layer learns, by its role: an epsilon, a mask. Always stored,
    /// never stripped, optional in a source.
    Parameter,
}

/// One row of the weight table.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The checkpoint's own name; unique among names and aliases.
    pub name: String,
    /// Other names under which a source may bring it.
    pub aliases: Vec<Alias>,
    /// The value this weight defines in the programs.
    pub value: ValueId,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Weight or parameter.
    pub class: WeightClass,
    /// Why only the stored value is accepted (it also decides a shape, or a fusion read it).
    /// A pinned weight is always stored.
    pub pinned: Option<String>,
    /// Whether it may be given new values: follows from the engine's flags, except under
    /// `REFIT_INDIVIDUAL`, where it is the mark itself.
    pub refittable: bool,
    /// The digest of the values it was built with. `None` exactly where a stripped `REFIT`
    /// (or refittable `REFIT_INDIVIDUAL`) weight has no bytes.
    pub digest: Option<Digest>,
    /// The bytes, if they are here.
    pub data: WeightData,
}

/// A weight's bytes, raw and aligned (compressed ones are unpacked by the reader).
#[derive(Clone, Debug, PartialEq)]
pub enum WeightData {
    /// Present.
    Stored(Bytes),
    /// Stripped.
    Missing,
}

impl Weight {
    /// Element type and dimensions.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { dtype: self.dtype, shape: self.shape.clone() }
    }

    /// Bytes the weight takes unpacked.
    ///
    /// # Panics
    /// For a weight of strings, which no engine has.
    pub fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.width()
    }

    /// Whether the weight's bytes are left out when an engine is stripped: refittable
    /// weights are, parameters, pinned and frozen ones never.
    pub fn is_strippable(&self) -> bool {
        self.refittable && self.class == WeightClass::Weight && self.pinned.is_none()
    }

    /// Why it takes only the values it was built with, in an engine with `flags`; `None` if it takes any.
    pub fn fixed(&self, flags: EngineFlags) -> Option<String> {
        if let Some(reason) = &self.pinned {
            Some(format!("pinned: {reason}"))
        } else if flags.contains(EngineFlags::REFIT_IDENTICAL) {
            Some("REFIT_IDENTICAL".to_owned())
        } else {
            (!self.refittable).then(|| "frozen".to_owned())
        }
    }

    /// The weight as a tensor, if its bytes are here.
    pub fn tensor(&self) -> Option<Tensor> {
        match &self.data {
            WeightData::Stored(bytes) => Some(
                Tensor::new(self.dtype, &self.shape, bytes.clone())
                    .expect("Engine checked the length of every stored weight"),
            ),
            WeightData::Missing => None,
        }
    }
}

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

/// Where weights come from: named tensors with types that are known before their bytes
/// are read. Several threads may read different tensors at once.
pub trait WeightSource: Sync {
    /// A short description for messages: a path, `memory`.
    fn origin(&self) -> String;

    /// Every tensor's name, sorted.
    fn names(&self) -> Vec<String>;

    /// Whether the names are those of a model file rather than of a checkpoint. Exporters merge equal tensors under one
    /// name and keep names for what they changed, so that a name may mean one thing in the model and another in the
    /// checkpoint; an engine knows both meanings.
    fn is_model(&self) -> bool {
        false
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
