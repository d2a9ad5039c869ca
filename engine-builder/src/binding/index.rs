//! The checkpoint's tensors by type and digest.

use super::recipe::is_identity;
use crate::error::{BuildError, BuildErrorKind};
use engine_format::{DType, Digest, SourceError, Tensor, TensorInfo, WeightSource};
use rayon::prelude::*;
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
    /// What tensors of these begin with: what begins otherwise need not be digested.
    heads: BTreeSet<(DType, usize, Vec<u8>)>,
}

/// Bytes of a tensor's beginning that are kept.
const HEAD: usize = 64;

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
            heads: BTreeSet::new(),
        };
        let tensors = source.names().into_iter();
        let tensors = tensors.filter_map(|name| Some((source.info(&name)?, name)));
        let digest = |(info, name): (TensorInfo, String)| {
            let (mut hasher, mut head) = (Hasher::default(), Vec::new());
            source.stream(&name, &mut |piece| {
                hasher.add(piece);
                head.extend_from_slice(&piece[..piece.len().min(HEAD - head.len())]);
            })?;
            Ok::<_, SourceError>((name, (info.dtype, hasher.finish()), info, head))
        };
        let tensors: Vec<_> = tensors.collect();
        // Tensors differ much in size, so each is a task of its own.
        let digested: Result<Vec<_>, _> =
            tensors.into_par_iter().with_max_len(1).map(digest).collect();
        for (name, key, info, head) in digested? {
            index.heads.insert((info.dtype, info.shape.iter().product(), head));
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
        let present: Vec<usize> = (0..tensor.shape().len()).collect();
        self.with_permuted(tensor, &present)
    }

    /// Names of the tensors that have the elements of `tensor` in the order that they have once its axes are permuted.
    pub(super) fn with_permuted(&self, tensor: &Tensor, order: &[usize]) -> Vec<&str> {
        if !self.has_size(tensor.dtype(), tensor.len()) {
            return Vec::new();
        }
        if !self.may_begin_with(&head(tensor, order), tensor) {
            return Vec::new();
        }
        let key = (tensor.dtype(), permuted_digest(tensor, order));
        let names = self.by_contents.get(&key).map_or(&[][..], Vec::as_slice);
        names.iter().map(String::as_str).collect()
    }

    /// Whether a tensor of as many elements begins so. The line that `head` is of may be shorter than what is kept, and then says less.
    fn may_begin_with(&self, head: &[u8], tensor: &Tensor) -> bool {
        let (dtype, len) = (tensor.dtype(), tensor.len());
        let next = self.heads.range((dtype, len, head.to_vec())..).next();
        next.is_some_and(|kept| (kept.0, kept.1) == (dtype, len) && kept.2.starts_with(head))
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

/// What a tensor whose axes are permuted begins with, as far as its first line goes.
fn head(tensor: &Tensor, order: &[usize]) -> Vec<u8> {
    let line = match order.first() {
        Some(&first) if !is_identity(order) && !tensor.is_empty() => {
            tensor.range(first, 0..1).permuted(order)
        }
        _ => tensor.clone(),
    };
    line.bytes()[..line.bytes().len().min(HEAD)].to_vec()
}

/// Bytes of a permuted tensor that are in memory at a time: few enough for a cache.
const PERMUTED: usize = 512 << 10;

/// The digest of a tensor whose axes are permuted, a few lines of the first one at a time.
fn permuted_digest(tensor: &Tensor, order: &[usize]) -> Digest {
    let Some(&first) = order.first().filter(|_| !is_identity(order)) else {
        return Digest::of(tensor.bytes());
    };
    let lines = tensor.shape()[first];
    let step = (PERMUTED * lines / tensor.bytes().len().max(1)).clamp(1, lines.max(1));
    let mut hasher = Hasher::default();
    for start in (0..lines).step_by(step) {
        let part = tensor.range(first, start..lines.min(start + step));
        hasher.add(part.permuted(order).bytes());
    }
    hasher.finish()
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
