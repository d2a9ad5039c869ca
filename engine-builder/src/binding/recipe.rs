//! How an initializer is made from the checkpoint's tensors.

use super::expression::Expression;
use engine_format::{DType, TensorInfo, View, ViewPart};
use std::fmt;

/// What gives an initializer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Recipe {
    /// Elements that were only moved: the model's own tensor fills the weight again.
    Moved(Moved),
    /// Anything else that a refit can calculate again; there is no way back from the model's tensor.
    Computed(Computed),
}

/// Tensors of the checkpoint joined along `axis`, or a range of one, then in another shape, then with their axes permuted, then
/// converted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moved {
    /// In the order in which they are joined; at least one.
    pub(super) parts: Vec<Part>,
    /// The axis of joining and of ranges, in the checkpoint's order.
    pub(super) axis: usize,
    /// The shape in which the elements lie before axes are permuted, if it is another one than that of what was joined.
    pub(super) shape: Option<Vec<usize>>,
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
        Self::Moved(Moved { parts, axis: 0, shape: None, perm, from })
    }

    /// One whole tensor whose elements lie in `shape` before its axes are permuted.
    pub(super) fn reshaped(
        tensor: &str,
        shape: Vec<usize>,
        perm: Vec<usize>,
        from: Option<DType>,
    ) -> Self {
        let parts = vec![Part { tensor: tensor.to_owned(), range: None }];
        Self::Moved(Moved { parts, axis: 0, shape: Some(shape), perm, from })
    }

    /// Calculated, with nothing in it that was read from the initializer.
    pub(super) fn computed(label: String, expression: Expression) -> Self {
        Self::Computed(Computed { label, expression, factor: false })
    }

    /// The tensor that the initializer is, if nothing is done to it.
    pub(super) fn as_is(&self) -> Option<&str> {
        match self {
            Recipe::Moved(moved) => moved.as_is(),
            Recipe::Computed(_) => None,
        }
    }

    /// Whether the elements of one tensor lie as they do there.
    pub(super) fn keeps_order(&self) -> bool {
        matches!(self, Recipe::Moved(moved) if moved.is_whole() && is_identity(&moved.perm))
    }

    /// Whether it holds a number that was read from the initializer itself.
    pub(super) fn has_factor(&self) -> bool {
        matches!(self, Recipe::Computed(Computed { factor: true, .. }))
    }

    /// The tensors it reads.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &str> {
        let (parts, expression) = match self {
            Recipe::Moved(moved) => (moved.parts.as_slice(), None),
            Recipe::Computed(computed) => (&[][..], Some(&computed.expression)),
        };
        let moved = parts.iter().map(|part| part.tensor.as_str());
        moved.chain(expression.into_iter().flat_map(Expression::tensors))
    }
}

/// An initializer that was calculated from tensors of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Computed {
    /// For people.
    pub(super) label: String,
    /// What a refit calculates.
    pub(super) expression: Expression,
    /// Whether it holds a number that was read from the initializer itself: it is a constant only where nothing of the checkpoint
    /// can be in it.
    pub(super) factor: bool,
}

impl Moved {
    /// The tensor that the initializer is, if nothing is done to it.
    fn as_is(&self) -> Option<&str> {
        let plain = self.is_whole()
            && self.shape.is_none()
            && is_identity(&self.perm)
            && self.from.is_none();
        plain.then_some(self.parts[0].tensor.as_str())
    }

    fn is_whole(&self) -> bool {
        matches!(&*self.parts, [Part { range: None, .. }])
    }

    /// What a refit does to get an initializer of type `dtype`.
    pub(super) fn expression(&self, dtype: DType) -> Expression {
        let parts = self.parts.iter().map(|part| {
            let tensor = Expression::tensor(&part.tensor);
            match part.range {
                Some((start, end)) => tensor.range(self.axis, start, end),
                None => tensor,
            }
        });
        let mut made = Expression::joined(parts.collect(), self.axis);
        if let Some(shape) = &self.shape {
            made = made.reshaped(shape);
        }
        if !is_identity(&self.perm) {
            made = made.permuted(&self.perm);
        }
        match self.from {
            Some(_) => made.converted(dtype),
            None => made,
        }
    }

    /// What the initializer `name` holds of the checkpoint's tensors. `size` is a tensor's length along the axis. Nothing where parts
    /// of a tensor were brought into another shape.
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
        if self.shape.is_some() && !self.is_whole() {
            return Vec::new();
        }
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipe::Moved(moved) => fmt::Display::fmt(moved, f),
            Recipe::Computed(computed) => f.write_str(&computed.label),
        }
    }
}

impl fmt::Display for Moved {
    /// `q.weight, k.weight joined along 0, as [2, 4, 8], permuted [1, 0, 2], converted from f16`.
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
        if let Some(shape) = &self.shape {
            write!(f, ", as {shape:?}")?;
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
