//! The checkpoint's tensors by type and digest.

use super::recipe::is_identity;
use crate::error::{BuildError, BuildErrorKind};
use engine_format::{
    AlignedBuf, DType, Digest, OutOfMemory, SourceError, Tensor, TensorInfo, WeightSource,
};
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
    /// Digests by element type, number of elements and first bytes: what begins otherwise need not be read.
    by_head: BTreeMap<(DType, usize, Vec<u8>), BTreeSet<Digest>>,
}

/// Bytes of a tensor's beginning that are kept.
const HEAD: usize = 64;

/// So many different contents that begin alike are read again and compared with what begins so; with more, digesting it costs less.
const COMPARED: usize = 2;

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
            by_head: BTreeMap::new(),
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
            let head = (info.dtype, info.shape.iter().product(), head);
            index.by_head.entry(head).or_default().insert(key.1);
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
        let head = (tensor.dtype(), tensor.len(), tensor.permuted_start(order, HEAD));
        let Some(alike) = self.by_head.get(&head) else { return Vec::new() };
        let same = match alike.len() {
            0..=COMPARED => alike.iter().copied().find(|digest| {
                self.is_permuted(tensor, order, digest)
                    .unwrap_or_else(|| *digest == permuted_digest(tensor, order))
            }),
            _ => Some(permuted_digest(tensor, order)),
        };
        let names = same.and_then(|digest| self.by_contents.get(&(tensor.dtype(), digest)));
        names.into_iter().flatten().map(String::as_str).collect()
    }

    /// Whether `tensor`, with its axes permuted, is what the tensors of this digest hold, by reading one of them again; `None` if that
    /// cannot be done.
    fn is_permuted(&self, tensor: &Tensor, order: &[usize], digest: &Digest) -> Option<bool> {
        let name = self.by_contents.get(&(tensor.dtype(), *digest))?.first()?;
        let mut comparison = Comparison::new(tensor, order).ok()?;
        self.source.stream(name, &mut |piece| comparison.take(piece)).ok()?;
        Some(comparison.is_equal())
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

/// Bytes of a permuted tensor that are looked at at a time: few enough for a cache.
const PERMUTED: usize = 1 << 20;

/// How many lines of a tensor's axis `first` are looked at at a time.
fn step(tensor: &Tensor, first: usize) -> usize {
    let lines = tensor.shape()[first];
    (PERMUTED * lines / tensor.bytes().len().max(1)).clamp(1, lines.max(1))
}

/// The digest of a tensor whose axes are permuted, a few lines of the first one at a time.
fn permuted_digest(tensor: &Tensor, order: &[usize]) -> Digest {
    let Some(&first) = order.first().filter(|_| !is_identity(order)) else {
        return Digest::of(tensor.bytes());
    };
    let (lines, step) = (tensor.shape()[first], step(tensor, first));
    let mut hasher = Hasher::default();
    for start in (0..lines).step_by(step) {
        let part = tensor.range(first, start..lines.min(start + step));
        hasher.add(part.permuted(order).bytes());
    }
    hasher.finish()
}

/// Holds what comes in pieces against a tensor whose axes are permuted.
struct Comparison<'a> {
    tensor: &'a Tensor,
    order: &'a [usize],
    /// Bytes of a few lines along the first axis, which are compared together; 0 where nothing moves.
    group: usize,
    /// Room for the next lines, and how much of it is filled.
    lines: AlignedBuf,
    filled: usize,
    /// Bytes of whole lines that were compared.
    done: usize,
    equal: bool,
}

impl<'a> Comparison<'a> {
    fn new(tensor: &'a Tensor, order: &'a [usize]) -> Result<Self, OutOfMemory> {
        let line = |first: usize| tensor.bytes().len() / tensor.shape()[first].max(1);
        let moved = order.first().filter(|_| !is_identity(order));
        let group = moved.map_or(0, |&first| step(tensor, first) * line(first));
        let lines = AlignedBuf::try_zeroed(group)?;
        Ok(Self { tensor, order, group, lines, filled: 0, done: 0, equal: true })
    }

    fn take(&mut self, mut piece: &[u8]) {
        while self.equal && !piece.is_empty() {
            let left = self.tensor.bytes().len() - self.done;
            let wanted = match self.group {
                0 => left,
                group => group.min(left) - self.filled,
            };
            let (now, rest) = piece.split_at(piece.len().min(wanted));
            // More than the tensor has is something else.
            self.equal = wanted > 0;
            piece = rest;
            match self.group {
                0 => {
                    self.equal &= self.tensor.bytes()[self.done..].starts_with(now);
                    self.done += now.len();
                }
                _ => {
                    self.lines[self.filled..][..now.len()].copy_from_slice(now);
                    self.filled += now.len();
                    if now.len() == wanted {
                        self.compare_lines();
                    }
                }
            }
        }
    }

    fn compare_lines(&mut self) {
        let line = self.tensor.bytes().len() / self.tensor.shape()[self.order[0]];
        let lines = self.done / line..(self.done + self.filled) / line;
        let filled = &self.lines[..self.filled];
        self.equal &= self.tensor.has_permuted_lines(self.order, lines, filled);
        self.done += self.filled;
        self.filled = 0;
    }

    fn is_equal(&self) -> bool {
        self.equal && self.done == self.tensor.bytes().len()
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

#[cfg(test)]
mod tests {
    use super::super::recipe::inverse;
    use super::super::search::orders;
    use super::*;

    /// Tensors that are handed over in pieces of a few bytes.
    struct Pieces {
        tensors: BTreeMap<String, Tensor>,
        piece: usize,
    }

    impl WeightSource for Pieces {
        fn origin(&self) -> String {
            "pieces".to_owned()
        }

        fn names(&self) -> Vec<String> {
            self.tensors.keys().cloned().collect()
        }

        fn info(&self, name: &str) -> Option<TensorInfo> {
            let tensor = self.tensors.get(name)?;
            Some(TensorInfo { dtype: tensor.dtype(), shape: tensor.shape().to_vec() })
        }

        fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
            Ok(self.tensors.get(name).cloned())
        }

        fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
            let Some(tensor) = self.tensors.get(name) else { return Ok(false) };
            tensor.bytes().chunks(self.piece).for_each(sink);
            Ok(true)
        }
    }

    /// `count` tensors that begin alike; they differ in their last element alone.
    fn alike(shape: &[usize], count: usize) -> BTreeMap<String, Tensor> {
        let len = shape.iter().product::<usize>();
        let tensor = |i: usize| {
            let mut elements: Vec<f32> = (0..len).map(|element| element as f32).collect();
            elements[len - 1] = -(i as f32);
            (format!("w{i}"), Tensor::from_slice(shape, &elements))
        };
        (0..count).map(tensor).collect()
    }

    /// Few tensors that begin alike are compared, more are digested; each finds itself in every order of its axes, and nothing else.
    #[test]
    fn contents_are_found_in_every_order_of_axes() {
        for (shape, piece) in [(&[19, 37][..], 100), (&[3, 17, 2, 5], 7), (&[300, 700], 256 << 10)]
        {
            for count in [1, COMPARED, COMPARED + 1] {
                let source = Pieces { tensors: alike(shape, count), piece };
                let index = Index::of(&source).unwrap();
                for order in orders(shape) {
                    for (name, tensor) in &source.tensors {
                        let held = tensor.permuted(&inverse(&order));
                        assert_eq!(index.with_permuted(&held, &order), [name], "{order:?}");
                    }
                    let other = alike(shape, count + 1).remove(&format!("w{count}")).unwrap();
                    let held = other.permuted(&inverse(&order));
                    assert_eq!(index.with_permuted(&held, &order), [""; 0], "{order:?}");
                }
            }
        }
    }

    /// A source that gives other bytes the second time is not compared wrongly: less and more are other contents.
    #[test]
    fn less_and_more_are_not_equal() {
        let tensor = alike(&[300, 700], 1).remove("w0").unwrap();
        for order in [[0, 1], [1, 0]] {
            let held = tensor.permuted(&order);
            for (bytes, equal) in [
                (tensor.bytes().to_vec(), true),
                (tensor.bytes()[4..].to_vec(), false),
                (tensor.bytes()[..tensor.bytes().len() - 4].to_vec(), false),
                ([&**tensor.bytes(), &[0; 4]].concat(), false),
                (Vec::new(), false),
            ] {
                let mut comparison = Comparison::new(&held, &order).unwrap();
                bytes.chunks(1 << 10).for_each(|piece| comparison.take(piece));
                assert_eq!(comparison.is_equal(), equal, "{order:?}, {} bytes", bytes.len());
            }
        }
    }
}
