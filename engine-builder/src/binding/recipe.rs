//! How an initializer is made from the checkpoint's tensors.

use engine_format::{DType, TensorInfo, View, ViewPart};
use std::fmt;

/// Tensors of the checkpoint joined along `axis`, or a range of one, then with their axes permuted, then converted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    /// In the order in which they are joined; at least one.
    pub(super) parts: Vec<Part>,
    /// The axis of joining and of ranges, in the checkpoint's order.
    pub(super) axis: usize,
    /// Axis `i` of the initializer is axis `perm[i]` of what was joined.
    pub(super) perm: Vec<usize>,
    /// What the initializer is converted from, if that is another type.
    pub(super) from: Option<DType>,
}

/// A tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) tensor: String,
    /// Elements along the recipe's axis; `None` for all.
    pub(super) range: Option<(usize, usize)>,
}

/// What an initializer holds of one tensor.
pub(super) struct Inverted {
    pub(super) tensor: String,
    /// The part of the tensor along the recipe's axis; `None` for all of it.
    pub(super) range: Option<(usize, usize)>,
    /// What gives that part.
    pub(super) part: ViewPart,
}

/// The permutation that undoes `perm`.
pub(super) fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &axis) in perm.iter().enumerate() {
        inverse[axis] = i;
    }
    inverse
}

/// Whether `perm` leaves every axis where it is.
pub(super) fn is_identity(perm: &[usize]) -> bool {
    perm.iter().copied().eq(0..perm.len())
}

impl Recipe {
    /// One whole tensor.
    pub(super) fn whole(tensor: &str, perm: Vec<usize>, from: Option<DType>) -> Self {
        let parts = vec![Part { tensor: tensor.to_owned(), range: None }];
        Self { parts, axis: 0, perm, from }
    }

    /// The tensor that the initializer is, if nothing is done to it.
    pub(super) fn as_is(&self) -> Option<&str> {
        let plain = self.is_whole() && is_identity(&self.perm) && self.from.is_none();
        plain.then_some(self.parts[0].tensor.as_str())
    }

    fn is_whole(&self) -> bool {
        matches!(&*self.parts, [Part { range: None, .. }])
    }

    /// The tensors it reads.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.tensor.as_str())
    }

    /// What the initializer `name` holds of the checkpoint's tensors. `size` is a tensor's length along the axis.
    pub(super) fn inverted(
        &self,
        name: &str,
        info: &TensorInfo,
        size: impl Fn(&str) -> usize,
    ) -> Vec<Inverted> {
        let perm = inverse(&self.perm);
        let part = |range| {
            let (name, info, perm) = (name.to_owned(), info.clone(), perm.clone());
            ViewPart { name, info, perm, range }
        };
        if let [only] = &*self.parts {
            let Part { tensor, range } = only.clone();
            return vec![Inverted { tensor, range, part: part(None) }];
        }
        let mut start = 0;
        let parts = self.parts.iter().map(|joined| {
            let end = start + size(&joined.tensor);
            let taken = Some((std::mem::replace(&mut start, end), end));
            Inverted { tensor: joined.tensor.clone(), range: None, part: part(taken) }
        });
        parts.collect()
    }

    /// The view of one part.
    pub(super) fn view(&self, part: ViewPart) -> View {
        View { axis: self.axis, parts: vec![part] }
    }
}

impl fmt::Display for Recipe {
    /// `q.weight, k.weight joined along 0, permuted [1, 0], from f16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.parts.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, part.tensor)?;
            if let Some((start, end)) = part.range {
                write!(f, " from {start} to {end} along {}", self.axis)?;
            }
        }
        if self.parts.len() > 1 {
            write!(f, " joined along {}", self.axis)?;
        }
        if !is_identity(&self.perm) {
            write!(f, ", permuted {:?}", self.perm)?;
        }
        match self.from {
            Some(dtype) => write!(f, ", converted from {dtype}"),
            None => Ok(()),
        }
    }
}
