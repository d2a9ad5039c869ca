//! The checkpoint's tensors by type and digest.

use crate::error::{BuildError, BuildErrorKind};
use engine_format::{DType, Digest, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::{BTreeMap, BTreeSet};

/// Every tensor of a checkpoint, found by contents. Bytes are read once, piece by piece, and not kept.
pub(super) struct Index<'a> {
    source: &'a dyn WeightSource,
    infos: BTreeMap<String, TensorInfo>,
    /// By element type and the bytes in their order, whatever the shape.
    by_contents: BTreeMap<(DType, Digest), Vec<String>>,
    digests: BTreeMap<String, (DType, Digest)>,
    types: BTreeSet<(DType, Vec<usize>)>,
    /// Element types and numbers of elements.
    sizes: BTreeSet<(DType, usize)>,
}

impl From<SourceError> for BuildError {
    fn from(error: SourceError) -> Self {
        Self::new(BuildErrorKind::Checkpoint, error.to_string())
    }
}

impl<'a> Index<'a> {
    /// Digests every tensor. Those of element types that are not known here are left out.
    pub(super) fn of(source: &'a dyn WeightSource) -> Result<Self, BuildError> {
        let mut index = Self {
            source,
            infos: BTreeMap::new(),
            by_contents: BTreeMap::new(),
            digests: BTreeMap::new(),
            types: BTreeSet::new(),
            sizes: BTreeSet::new(),
        };
        for name in source.names() {
            let Some(info) = source.info(&name) else { continue };
            let mut hasher = Hasher::default();
            source.stream(&name, &mut |piece| hasher.add(piece))?;
            let key = (info.dtype, hasher.finish());
            index.digests.insert(name.clone(), key);
            index.by_contents.entry(key).or_default().push(name.clone());
            index.sizes.insert((info.dtype, info.shape.iter().product()));
            index.types.insert((info.dtype, info.shape.clone()));
            index.infos.insert(name, info);
        }
        Ok(index)
    }

    pub(super) fn origin(&self) -> String {
        self.source.origin()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.infos.keys().map(String::as_str)
    }

    pub(super) fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.infos.get(name)
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.infos.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// Whether any tensor has this type; asked before contents are digested.
    pub(super) fn has_type(&self, dtype: DType, shape: &[usize]) -> bool {
        self.types.contains(&(dtype, shape.to_vec()))
    }

    /// Whether every size of `tensor` but 1 is one of the checkpoint's floats: only then may it have been calculated of them alone.
    pub(super) fn has_sizes_of(&self, tensor: &Tensor) -> bool {
        let floats = self.infos.values().filter(|info| info.dtype.is_float());
        let sizes: BTreeSet<usize> = floats.flat_map(|info| info.shape.iter().copied()).collect();
        let mut long = tensor.shape().iter().filter(|&&size| size != 1).peekable();
        long.peek().is_some() && long.all(|size| sizes.contains(size))
    }

    /// Element types of the checkpoint.
    pub(super) fn dtypes(&self) -> BTreeSet<DType> {
        self.types.iter().map(|(dtype, _)| *dtype).collect()
    }

    /// Whether any tensor has this element type and as many elements; asked before contents are digested.
    pub(super) fn has_size(&self, dtype: DType, size: usize) -> bool {
        self.sizes.contains(&(dtype, size))
    }

    /// Names of the tensors that are equal to `tensor`.
    pub(super) fn equal_to(&self, tensor: &Tensor) -> Vec<&str> {
        if !self.has_type(tensor.dtype(), tensor.shape()) {
            return Vec::new();
        }
        let shape = tensor.shape();
        let mut names = self.with_elements(tensor);
        names.retain(|name| self.infos.get(*name).is_some_and(|info| info.shape == shape));
        names
    }

    /// Names of the tensors that have the very elements of `tensor` in its order, in whatever shape.
    pub(super) fn with_elements(&self, tensor: &Tensor) -> Vec<&str> {
        if !self.has_size(tensor.dtype(), tensor.len()) {
            return Vec::new();
        }
        let key = (tensor.dtype(), Digest::of(tensor.bytes()));
        let names = self.by_contents.get(&key).map_or(&[][..], Vec::as_slice);
        names.iter().map(String::as_str).collect()
    }

    /// Names of the tensors that have the elements of the tensor `name` in its order, its own among them.
    pub(super) fn equals(&self, name: &str) -> &[String] {
        let same = self.digests.get(name).and_then(|key| self.by_contents.get(key));
        same.map_or(&[], Vec::as_slice)
    }

    /// A tensor; `None` if the checkpoint does not have it.
    pub(super) fn read(&self, name: &str) -> Result<Option<Tensor>, BuildError> {
        match self.infos.contains_key(name) {
            true => Ok(self.source.read(name)?),
            false => Ok(None),
        }
    }

    /// A tensor of this index.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, BuildError> {
        self.read(name)?.ok_or_else(|| {
            let what = format!("{name:?} of {} is listed and cannot be read", self.origin());
            BuildError::new(BuildErrorKind::Checkpoint, what)
        })
    }
}

/// Digests a tensor that comes in pieces.
#[derive(Default)]
struct Hasher(blake3::Hasher);

impl Hasher {
    fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}
