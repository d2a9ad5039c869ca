//! Several sources as one.

use super::BoxedSource;
use crate::{RefitError, RefitErrorKind};
use engine_format::{Naming, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::BTreeMap;

/// Several sources as one. A tensor that two of them bring is the same in both.
pub struct Combined {
    sources: Vec<BoxedSource>,
    /// Tensor → the first source that brings it.
    owner: BTreeMap<String, usize>,
}

impl Combined {
    /// Combines sources after comparing what they share.
    ///
    /// # Errors
    /// `Conflict` that lists every tensor in which two sources differ, and `InvalidSource` where a comparison needs bytes
    /// that cannot be read.
    pub fn new(sources: Vec<BoxedSource>) -> Result<Self, RefitError> {
        let mut owner = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            for name in source.names() {
                let first = *owner.entry(name.clone()).or_insert(index);
                if first != index && !same(&*sources[first], &**source, &name)? {
                    let (a, b) = (sources[first].origin(), source.origin());
                    conflicts.push(format!("{name:?} of {a} and of {b}"));
                }
            }
        }
        if conflicts.is_empty() {
            return Ok(Self { sources, owner });
        }
        Err(RefitError::new(RefitErrorKind::Conflict, "two sources bring different tensors")
            .expected("one source for each tensor, or equal bytes")
            .found(conflicts.join("; ")))
    }

    fn owner(&self, name: &str) -> Option<&BoxedSource> {
        self.owner.get(name).map(|&index| &self.sources[index])
    }
}

/// Whether two sources bring the same tensor; its bytes are read only where the types agree, and piece by piece.
fn same(a: &dyn WeightSource, b: &dyn WeightSource, name: &str) -> Result<bool, RefitError> {
    Ok(a.info(name) == b.info(name) && digest(a, name)? == digest(b, name)?)
}

fn digest(source: &dyn WeightSource, name: &str) -> Result<blake3::Hash, RefitError> {
    let mut hasher = blake3::Hasher::new();
    source.stream(name, &mut |piece| {
        hasher.update(piece);
    })?;
    Ok(hasher.finalize())
}

impl WeightSource for Combined {
    fn origin(&self) -> String {
        self.sources.iter().map(|source| source.origin()).collect::<Vec<_>>().join(" + ")
    }

    fn names(&self) -> Vec<String> {
        self.owner.keys().cloned().collect()
    }

    /// As in the source that brings it. What a checkpoint and a model bring alike is the checkpoint's.
    fn naming(&self, name: &str) -> Naming {
        let bring = self.sources.iter().filter(|source| source.info(name).is_some());
        let namings: Vec<Naming> = bring.map(|source| source.naming(name)).collect();
        match namings.contains(&Naming::Checkpoint) {
            true => Naming::Checkpoint,
            false => namings.first().copied().unwrap_or(Naming::Checkpoint),
        }
    }

    fn remarks(&self) -> Vec<String> {
        self.sources.iter().flat_map(|source| source.remarks()).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.owner(name)?.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.owner(name).map_or(Ok(None), |source| source.read(name))
    }

    fn is_resident(&self, name: &str) -> bool {
        self.owner(name).is_some_and(|source| source.is_resident(name))
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        self.owner(name).map_or(Ok(false), |source| source.stream(name, sink))
    }

    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        self.owner(name).map_or(Ok(None), |source| source.stream_into(name, out, sink))
    }
}
