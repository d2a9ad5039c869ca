//! Other names under which a source may bring a weight: as it is, or seen through an invertible view.

use crate::rearrange::{is_convertible, is_permutation};
use crate::{SourceError, Tensor, TensorInfo, WeightSource};
use std::fmt;

/// Another name of a weight.
#[derive(Clone, PartialEq)]
pub enum Alias {
    /// A tensor with the very bytes of the weight.
    Name(String),
    /// Tensors from which the weight is put together.
    View(View),
}

/// How a weight is put together from a source's tensors: each with its axes permuted, then a range of `axis` taken, then one
/// after another along `axis`, in the weight's element type where that has every value. The whole of one tensor may have another
/// shape than the weight: its elements are the weight's, in their order after the permutation.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The axis of ranges and of joining, in the weight's own order.
    pub axis: usize,
    /// In the order in which they are joined; at least one.
    pub parts: Vec<ViewPart>,
}

/// A tensor of a source that is part of a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPart {
    /// The source's name.
    pub name: String,
    /// What the source has under it.
    pub info: TensorInfo,
    /// Axis `i` of the weight is axis `perm[i]` of the source's tensor.
    pub perm: Vec<usize>,
    /// The elements along [`View::axis`] that are part of the weight; `None` for all.
    pub range: Option<(usize, usize)>,
}

impl Alias {
    /// Every name of a source that this alias reads.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (name, view) = match self {
            Alias::Name(name) => (Some(name.as_str()), None),
            Alias::View(view) => (None, Some(view)),
        };
        name.into_iter().chain(view.into_iter().flat_map(View::names))
    }
}

impl From<String> for Alias {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl fmt::Debug for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alias::Name(name) => fmt::Debug::fmt(name, f),
            Alias::View(view) => fmt::Debug::fmt(view, f),
        }
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alias::Name(name) => f.write_str(name),
            Alias::View(view) => fmt::Display::fmt(view, f),
        }
    }
}

impl fmt::Display for View {
    /// `joined along 0 of a[0..4], b permuted [1, 0] as f16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.len() > 1 {
            write!(f, "joined along {} of ", self.axis)?;
        }
        for (i, part) in self.parts.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, part.name)?;
            if !part.perm.iter().copied().eq(0..part.perm.len()) {
                write!(f, " permuted {:?}", part.perm)?;
            }
            if let Some((start, end)) = part.range {
                write!(f, " from {start} to {end} along {}", self.axis)?;
            }
        }
        Ok(())
    }
}

impl ViewPart {
    /// The whole of a tensor as it is.
    pub fn whole(name: impl Into<String>, info: TensorInfo) -> Self {
        let perm = (0..info.shape.len()).collect();
        Self { name: name.into(), info, perm, range: None }
    }

    /// How much of `axis` of the weight the part is.
    pub fn size(&self, axis: usize) -> usize {
        let size = self.shape(axis).and_then(|shape| shape.get(axis).copied());
        size.unwrap_or(1)
    }

    /// What the part is inside the weight, but for its element type; `None` if permutation or range do not go with the tensor.
    fn shape(&self, axis: usize) -> Option<Vec<usize>> {
        let from = &self.info.shape;
        if !is_permutation(&self.perm, from.len()) || (axis >= from.len() && axis > 0) {
            return None;
        }
        let mut shape: Vec<usize> = self.perm.iter().map(|&axis| from[axis]).collect();
        if let Some((start, end)) = self.range {
            let size = shape.get_mut(axis)?;
            if start > end || end > *size {
                return None;
            }
            *size = end - start;
        }
        Some(shape)
    }

    fn read(&self, axis: usize, source: &dyn WeightSource) -> Result<Tensor, SourceError> {
        let failed = |why: String| {
            let (name, origin) = (self.name.clone(), source.origin());
            SourceError { name, origin, why }
        };
        let tensor = source.read(&self.name)?;
        let tensor = tensor.ok_or_else(|| failed("it is listed but cannot be read".to_owned()))?;
        if tensor.dtype() != self.info.dtype || tensor.shape() != self.info.shape {
            return Err(failed(format!("expected {} as announced, found {tensor:?}", self.info)));
        }
        let tensor = tensor.permuted(&self.perm);
        Ok(match self.range {
            Some((start, end)) => tensor.range(axis, start..end),
            None => tensor,
        })
    }
}

impl View {
    /// The tensors that it reads; one may be there twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// Whether tensors of the types it states give a tensor of type `weight`.
    pub(crate) fn gives(&self, weight: &TensorInfo) -> bool {
        let shapes: Option<Vec<_>> = self.parts.iter().map(|part| part.shape(self.axis)).collect();
        let Some(mut shapes) = shapes.filter(|shapes| !shapes.is_empty()) else { return false };
        let mut joined = shapes.remove(0);
        for shape in shapes {
            let Some(size) = joined.get_mut(self.axis) else { return false };
            let Some(sum) = shape.get(self.axis).and_then(|more| size.checked_add(*more)) else {
                return false;
            };
            *size = sum;
            let others = |shape: &[usize]| {
                shape.iter().enumerate().filter(|(i, _)| *i != self.axis).map(|(_, n)| *n).collect()
            };
            let (a, b): (Vec<_>, Vec<_>) = (others(&joined), others(&shape));
            if a != b {
                return false;
            }
        }
        let types = self.parts.iter().all(|part| is_convertible(part.info.dtype, weight.dtype));
        let size = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let reshaped = matches!(self.parts.as_slice(), [ViewPart { range: None, .. }])
            && size(&joined).is_some_and(|n| size(&weight.shape) == Some(n));
        types && (joined == weight.shape || reshaped)
    }

    /// Whether the one tensor that it reads has another shape than the weight, but for the order of its axes.
    pub(crate) fn reshapes(&self, weight: &TensorInfo) -> bool {
        let [part] = self.parts.as_slice() else { return false };
        part.range.is_none() && part.shape(self.axis).is_some_and(|shape| shape != weight.shape)
    }

    /// Puts the weight together, one part at a time.
    ///
    /// # Errors
    /// If the source does not bring what the view states, or brings a value that the weight's type does not have.
    pub(crate) fn read(
        &self,
        weight: &TensorInfo,
        source: &dyn WeightSource,
    ) -> Result<Tensor, SourceError> {
        let part = |part: &ViewPart| {
            let tensor = part.read(self.axis, source)?;
            tensor.converted_exactly(weight.dtype).map_err(|error| SourceError {
                name: part.name.clone(),
                origin: source.origin(),
                why: format!("it stands for a weight of {}, and {error}", weight.dtype),
            })
        };
        let mut parts = self.parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let joined = match parts.len() {
            1 => parts.remove(0),
            _ => Tensor::joined(self.axis, &parts),
        };
        joined.reshaped(&weight.shape).map_err(|error| SourceError {
            name: self.parts[0].name.clone(),
            origin: source.origin(),
            why: format!("it stands for a weight of {weight}, and {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, MapSource};

    fn info(dtype: DType, shape: &[usize]) -> TensorInfo {
        TensorInfo { dtype, shape: shape.to_vec() }
    }

    fn part(
        name: &str,
        shape: &[usize],
        perm: &[usize],
        range: Option<(usize, usize)>,
    ) -> ViewPart {
        ViewPart { name: name.into(), info: info(DType::F32, shape), perm: perm.to_vec(), range }
    }

    #[test]
    fn only_views_that_give_the_weight_are_accepted() {
        let weight = info(DType::F32, &[4, 3]);
        let view = |axis, parts: &[ViewPart]| View { axis, parts: parts.to_vec() }.gives(&weight);
        let plain = part("a", &[4, 3], &[0, 1], None);
        assert!(view(0, std::slice::from_ref(&plain)));
        assert!(view(0, &[part("a", &[3, 4], &[1, 0], None)]));
        assert!(view(1, &[part("a", &[4, 9], &[0, 1], Some((3, 6)))]));
        assert!(view(0, &[part("a", &[3, 1], &[1, 0], None), part("b", &[3, 3], &[0, 1], None)]));
        assert!(!view(0, &[]), "no parts");
        assert!(!view(2, std::slice::from_ref(&plain)), "no such axis");
        assert!(!view(0, &[part("a", &[3, 5], &[0, 1], None)]), "another number of elements");
        assert!(!view(0, &[part("a", &[4, 3], &[0, 0], None)]), "no permutation");
        assert!(!view(0, &[part("a", &[9, 3], &[0, 1], Some((6, 10)))]), "out of range");
        assert!(!view(0, &[part("a", &[9, 3], &[0, 1], Some((6, 2)))]), "backwards");
        assert!(!view(0, &[plain.clone(), plain.clone()]), "too much");
        assert!(view(0, &[part("a", &[2, 6], &[0, 1], None)]), "another shape");
        assert!(view(0, &[part("a", &[6, 1, 2], &[2, 1, 0], None)]), "another shape, permuted");
        assert!(!view(0, &[part("a", &[2, 9], &[0, 1], Some((0, 6)))]), "a part in another shape");
        let halves =
            |dtype| View { axis: 0, parts: vec![ViewPart::whole("a", info(dtype, &[4, 3]))] };
        assert!(halves(DType::BF16).gives(&weight) && !halves(DType::I32).gives(&weight));
    }

    #[test]
    fn a_weight_is_put_together() {
        let source = MapSource::from_iter([
            ("a".to_owned(), Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])),
            ("b".to_owned(), Tensor::from_slice(&[1, 2], &[half::f16::ONE, half::f16::NEG_ONE])),
        ]);
        let mut view = View {
            axis: 0,
            parts: vec![
                part("a", &[2, 3], &[1, 0], Some((1, 3))),
                ViewPart::whole("b", info(DType::F16, &[1, 2])),
            ],
        };
        let weight = info(DType::F32, &[3, 2]);
        assert!(view.gives(&weight));
        let found = view.read(&weight, &source).unwrap();
        assert_eq!(found, Tensor::from_slice(&[3, 2], &[2.0f32, 5.0, 3.0, 6.0, 1.0, -1.0]));
        assert_eq!(view.to_string(), "joined along 0 of a permuted [1, 0] from 1 to 3 along 0, b");
        let flat = View { axis: 0, parts: vec![part("a", &[2, 3], &[1, 0], None)] };
        let weight = info(DType::F32, &[6]);
        assert!(flat.gives(&weight) && flat.reshapes(&weight) && !view.reshapes(&weight));
        let found = flat.read(&weight, &source).unwrap();
        assert_eq!(found, Tensor::from_slice(&[6], &[1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0]));
        let weight = info(DType::F32, &[3, 2]);
        view.parts[1].name = "a".to_owned();
        let error = view.read(&weight, &source).unwrap_err();
        assert!(error.why.starts_with("expected f16[1, 2] as announced"), "{error}");
    }
}
