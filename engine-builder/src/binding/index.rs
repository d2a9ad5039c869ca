//! The checkpoint's tensors by type and digest.

use super::compare::{Alike, COMPARED, Comparison, HEAD, Hasher, Head, Placed, permuted_digest};
use crate::error::{BuildError, BuildErrorKind};
use engine_format::{DType, Digest, SourceError, Tensor, TensorInfo, WeightSource};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Every tensor of a checkpoint, found by contents. Bytes are read once, piece by piece, and not kept; constants of the model that begin
/// alike are held against a piece while it is at hand.
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
    by_head: BTreeMap<Head, BTreeSet<Digest>>,
    /// What constants were found to be while tensors were read; they are kept, so that their bytes stay where they are.
    held: BTreeMap<Placed, (Tensor, Digest)>,
}

impl From<SourceError> for BuildError {
    fn from(error: SourceError) -> Self {
        Self::new(BuildErrorKind::Checkpoint, error.to_string())
    }
}

impl<'a> Index<'a> {
    /// Digests every tensor, and finds in the same pass which of them `constants` are. Tensors of element types that are not known here
    /// are left out.
    pub(super) fn of(
        source: &'a dyn WeightSource,
        constants: impl Iterator<Item = Tensor>,
    ) -> Result<Self, BuildError> {
        let tensors = source.names().into_iter();
        let tensors: Vec<(String, TensorInfo)> =
            tensors.filter_map(|name| source.info(&name).map(|info| (name, info))).collect();
        let sizes = tensors.iter().map(|(_, info)| (info.dtype, info.shape.iter().product()));
        let mut index = Self {
            source,
            infos: BTreeMap::new(),
            by_contents: BTreeMap::new(),
            digests: BTreeMap::new(),
            types: BTreeSet::new(),
            sizes: sizes.collect(),
            by_head: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        let constants = constants.filter(|tensor| {
            tensor.dtype() != DType::String && index.has_size(tensor.dtype(), tensor.len())
        });
        let alike = Alike::of(constants);
        let digest = |(name, info): (String, TensorInfo)| {
            let (mut hasher, mut first) = (Hasher::default(), Vec::new());
            let mut comparisons = None;
            let len = info.shape.iter().product();
            source.stream(&name, &mut |piece| {
                hasher.add(piece);
                first.extend_from_slice(&piece[..piece.len().min(HEAD - first.len())]);
                let comparisons: &mut Vec<Comparison<'_>> =
                    comparisons.get_or_insert_with(|| alike.with(info.dtype, len, piece));
                comparisons.iter_mut().for_each(|comparison| comparison.take(piece));
            })?;
            let equal = comparisons.into_iter().flatten().filter(Comparison::is_equal);
            let equal: Vec<_> = equal.map(|comparison| comparison.compared()).collect();
            Ok::<_, SourceError>((name, info, hasher.finish(), first, equal))
        };
        // Tensors differ much in size, so each is a task of its own.
        let digested: Result<Vec<_>, _> =
            tensors.into_par_iter().with_max_len(1).map(digest).collect();
        for (name, info, digest, first, equal) in digested? {
            let key = (info.dtype, digest);
            let head = (info.dtype, info.shape.iter().product(), first);
            index.by_head.entry(head).or_default().insert(digest);
            let equal = equal.into_iter().map(|(placed, tensor)| (placed, (tensor, digest)));
            index.held.extend(equal);
            index.digests.insert(name.clone(), key);
            index.by_contents.entry(key).or_default().push(name.clone());
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
        let held = self.held.get(&Placed::new(tensor, order)).map(|(_, digest)| *digest);
        let digest = held.or_else(|| self.find(tensor, order));
        let names = digest.and_then(|digest| self.by_contents.get(&(tensor.dtype(), digest)));
        names.into_iter().flatten().map(String::as_str).collect()
    }

    /// The digest of the tensors that have the elements of `tensor` with its axes permuted, by reading again what begins so.
    fn find(&self, tensor: &Tensor, order: &[usize]) -> Option<Digest> {
        let head = (tensor.dtype(), tensor.len(), tensor.permuted_start(order, HEAD));
        let alike = self.by_head.get(&head)?;
        match alike.len() {
            0..=COMPARED => alike.iter().copied().find(|digest| {
                self.is_permuted(tensor, order, digest)
                    .unwrap_or_else(|| *digest == permuted_digest(tensor, order))
            }),
            _ => Some(permuted_digest(tensor, order)),
        }
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

#[cfg(test)]
mod tests {
    use super::super::recipe::inverse;
    use super::super::search::orders;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Tensors that are handed over in pieces of a few bytes.
    struct Pieces {
        tensors: BTreeMap<String, Tensor>,
        piece: usize,
        streamed: AtomicUsize,
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
            self.streamed.fetch_add(1, Ordering::Relaxed);
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
    /// Constants that the index was made with are compared while the tensors are read, unless pieces are shorter than what tells
    /// beginnings apart; then, and without them, tensors are read again.
    #[test]
    fn contents_are_found_in_every_order_of_axes() {
        for (shape, piece) in [(&[19, 37][..], 100), (&[3, 17, 2, 5], 7), (&[300, 700], 256 << 10)]
        {
            for (count, order) in [1, COMPARED, COMPARED + 1]
                .into_iter()
                .flat_map(|count| orders(shape).into_iter().map(move |order| (count, order)))
            {
                let (tensors, streamed) = (alike(shape, count), AtomicUsize::new(0));
                let source = Pieces { tensors, piece, streamed };
                let other = alike(shape, count + 1).remove(&format!("w{count}")).unwrap();
                let held = |tensor: &Tensor| tensor.permuted(&inverse(&order));
                let constants: Vec<Tensor> = source.tensors.values().map(held).collect();
                for known in [constants.clone(), Vec::new()] {
                    let (compared, index) =
                        (!known.is_empty(), Index::of(&source, known.into_iter()).unwrap());
                    assert_eq!(source.streamed.swap(0, Ordering::Relaxed), count);
                    for (name, constant) in source.tensors.keys().zip(&constants) {
                        assert_eq!(index.with_permuted(constant, &order), [name], "{order:?}");
                    }
                    let again = source.streamed.swap(0, Ordering::Relaxed) > 0;
                    let few = count <= COMPARED;
                    assert_eq!(again, few && !(compared && piece >= HEAD), "{order:?} {count}");
                    assert_eq!(index.with_permuted(&held(&other), &order), [""; 0], "{order:?}");
                    source.streamed.store(0, Ordering::Relaxed);
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
