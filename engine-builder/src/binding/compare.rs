//! Constants of the model held against tensors of the checkpoint, which come in pieces.

use super::recipe::is_identity;
use super::search::orders;
use engine_format::{AlignedBuf, DType, Digest, OutOfMemory, Tensor};
use std::collections::BTreeMap;

/// Element type, number of elements and first bytes.
pub(super) type Head = (DType, usize, Vec<u8>);

/// Bytes of a tensor's beginning that are kept.
pub(super) const HEAD: usize = 64;

/// So many different contents that begin alike are compared with what begins so; with more, digesting it costs less.
pub(super) const COMPARED: usize = 2;

/// A constant of the model, by where its bytes lie, which the model keeps there while it is bound, and an order of its axes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placed {
    address: usize,
    shape: Vec<usize>,
    order: Vec<usize>,
}

impl Placed {
    pub(super) fn new(tensor: &Tensor, order: &[usize]) -> Self {
        let address = tensor.bytes().as_ptr().addr();
        Self { address, shape: tensor.shape().to_vec(), order: order.to_vec() }
    }
}

/// The model's constants in every order of their axes, by how they begin then.
pub(super) struct Alike(BTreeMap<Head, Vec<(Tensor, Vec<usize>)>>);

impl Alike {
    pub(super) fn of(constants: impl Iterator<Item = Tensor>) -> Self {
        let mut all = BTreeMap::<Head, Vec<_>>::new();
        for tensor in constants {
            for order in orders(tensor.shape()) {
                let head = (tensor.dtype(), tensor.len(), tensor.permuted_start(&order, HEAD));
                all.entry(head).or_default().push((tensor.clone(), order));
            }
        }
        Self(all)
    }

    /// Comparisons with what begins as a tensor of so many elements does, by its first piece; none where much does.
    pub(super) fn with(&self, dtype: DType, len: usize, piece: &[u8]) -> Vec<Comparison<'_>> {
        let head = piece[..piece.len().min(HEAD)].to_vec();
        let alike = self.0.get(&(dtype, len, head)).filter(|alike| alike.len() <= COMPARED);
        let alike = alike.into_iter().flatten();
        alike.filter_map(|(tensor, order)| Comparison::new(tensor, order).ok()).collect()
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
pub(super) fn permuted_digest(tensor: &Tensor, order: &[usize]) -> Digest {
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
pub(super) struct Comparison<'a> {
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
    pub(super) fn new(tensor: &'a Tensor, order: &'a [usize]) -> Result<Self, OutOfMemory> {
        let line = |first: usize| tensor.bytes().len() / tensor.shape()[first].max(1);
        let moved = order.first().filter(|_| !is_identity(order));
        let group = moved.map_or(0, |&first| step(tensor, first) * line(first));
        let lines = AlignedBuf::try_zeroed(group)?;
        Ok(Self { tensor, order, group, lines, filled: 0, done: 0, equal: true })
    }

    pub(super) fn take(&mut self, mut piece: &[u8]) {
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

    /// What is compared.
    pub(super) fn compared(&self) -> (Placed, Tensor) {
        (Placed::new(self.tensor, self.order), self.tensor.clone())
    }

    fn compare_lines(&mut self) {
        let line = self.tensor.bytes().len() / self.tensor.shape()[self.order[0]];
        let lines = self.done / line..(self.done + self.filled) / line;
        let filled = &self.lines[..self.filled];
        self.equal &= self.tensor.has_permuted_lines(self.order, lines, filled);
        self.done += self.filled;
        self.filled = 0;
    }

    pub(super) fn is_equal(&self) -> bool {
        self.equal && self.done == self.tensor.bytes().len()
    }
}

/// Digests a tensor that comes in pieces.
#[derive(Default)]
pub(super) struct Hasher(blake3::Hasher);

impl Hasher {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(super) fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}
