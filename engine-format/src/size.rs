//! Sizes on their way to memory: every one that a file, an input or a value decides goes through here.

use crate::DType;

/// Bytes of the length of a string, as tensors of strings hold it.
pub(crate) const STRING_LENGTH: usize = size_of::<u32>();

/// Elements of a tensor of this shape; `None` where they do not fit the address space.
///
/// Sizes of 0 do not count for whether they fit, so that the distances between elements along every axis fit too, in an empty
/// tensor as in any other.
pub fn elements(shape: &[usize]) -> Option<usize> {
    let product = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)))?;
    let fits = isize::try_from(product).is_ok();
    fits.then_some(if shape.contains(&0) { 0 } else { product })
}

/// Bytes of a tensor of this type and shape; `None` where they do not fit the address space, by the rule of [`elements`]. Of
/// strings these are the least that they take.
pub fn byte_len(dtype: DType, shape: &[usize]) -> Option<usize> {
    let size = dtype.size().unwrap_or(STRING_LENGTH);
    let product = shape.iter().try_fold(size, |n, &size| n.checked_mul(size.max(1)))?;
    let fits = isize::try_from(product).is_ok();
    fits.then_some(if shape.contains(&0) { 0 } else { product })
}

/// There is no memory for so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no memory for {bytes} bytes")]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_none_in_every_order_of_axes() {
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[2, 0, 3]), Some(0));
        assert_eq!(byte_len(DType::F64, &[2, 3]), Some(48));
        let half = 1usize << (usize::BITS / 2);
        for shape in [[half, half, 0], [0, half, half], [half, 0, half], [1, half, half]] {
            assert_eq!(elements(&shape), None, "{shape:?}");
            assert_eq!(byte_len(DType::U8, &shape), None, "{shape:?}");
        }
        let most = isize::MAX as usize;
        assert_eq!(elements(&[most]), Some(most));
        assert_eq!((elements(&[most + 1]), byte_len(DType::U16, &[most])), (None, None));
        assert_eq!(byte_len(DType::String, &[most / 2]), None);
    }
}
