//! The weight table.

use crate::{Alias, Bytes, DType, Digest, EngineFlags, Tensor, TensorInfo, ValueId};

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

/// Bytes and digest of a weight that is here.
pub(crate) fn stored(weight: &Weight) -> (Bytes, Digest) {
    match (&weight.data, weight.digest) {
        (WeightData::Stored(bytes), Some(digest)) => (bytes.clone(), digest),
        _ => {
            unreachable!("an engine's stored weights have digests, and the caller asked for those")
        }
    }
}
