//! A mapping of names to arrays as a source of weights.

use crate::failure::Failure;
use crate::input::{self, Given};
use engine_format::{AlignedBuf, SourceError, Tensor, TensorInfo, WeightSource};
use pyo3::prelude::*;
use std::collections::BTreeMap;

/// Arrays of another framework by name: a `state_dict`. They are copied while they are read, and what is digested is the copy, so that a step
/// of an optimizer afterwards changes nothing.
pub(crate) struct StateDict {
    tensors: BTreeMap<String, Given>,
}

/// Bytes that are handed over at once: what reads them next finds them in the second-level cache.
const PIECE: usize = 256 << 10;

impl StateDict {
    /// Takes every array of a mapping; values that are none (a number of steps, metadata) are an error that names them.
    pub(crate) fn take(mapping: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut tensors = BTreeMap::new();
        for (name, value) in input::pairs(mapping)? {
            let given = Given::take(&value, None).map_err(|error| {
                match error.is_instance_of::<pyo3::exceptions::PyException>(value.py()) {
                    true => Failure::input(format!("weight {name:?}: {}", error.value(value.py())))
                        .into(),
                    false => error,
                }
            })?;
            tensors.insert(name, given);
        }
        Ok(Self { tensors })
    }

    fn failed(&self, name: &str, why: impl ToString) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why: why.to_string() }
    }

    /// A copy of a tensor.
    fn copy(&self, name: &str, given: &Given) -> Result<Tensor, SourceError> {
        match given {
            Given::Own(tensor) => Ok(tensor.clone()),
            Given::Foreign { tensor, as_dtype } => {
                let buf = AlignedBuf::try_zeroed(tensor.byte_len());
                let mut buf = buf.map_err(|error| self.failed(name, error))?;
                tensor.copy_to(&mut buf);
                let made = Tensor::new(*as_dtype, tensor.shape(), buf.into());
                made.map_err(|error| self.failed(name, error))
            }
        }
    }
}

impl WeightSource for StateDict {
    fn origin(&self) -> String {
        "memory".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(Given::info)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.tensors.get(name).map(|given| self.copy(name, given)).transpose()
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        let tensor = match self.tensors.get(name) {
            None => return Ok(None),
            Some(Given::Own(tensor)) => {
                return Err(self.failed(name, format!("{tensor:?} is no weight")));
            }
            Some(Given::Foreign { tensor, .. }) => tensor,
        };
        if tensor.byte_len() != out.len() {
            return Ok(Some(tensor.byte_len()));
        }
        match tensor.bytes() {
            Some(bytes) => {
                for (out, bytes) in out.chunks_mut(PIECE).zip(bytes.chunks(PIECE)) {
                    out.copy_from_slice(bytes);
                    sink(out);
                }
            }
            None => {
                tensor.copy_to(out);
                out.chunks(PIECE).for_each(sink);
            }
        }
        Ok(Some(out.len()))
    }
}
