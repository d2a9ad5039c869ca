//! Forms of constants: what kernels would rather read than row-major tensors.
//!
//! A form is a pure function of a constant's bytes. A kernel gives the same bits over the form as over the tensor, so a form may
//! be made at any time, beside the run or not at all.

use crate::kernels::gemm::Panels;
use crate::kernels::nchwc::{Channels, Filters, Points};
use crate::parallel::pieces;
use engine_format::{DType, Element};
use half::{bf16, f16};

/// How a kernel would read a constant of `f32`, `f16` or `bf16`: in `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Filters of a convolution over blocks of channels.
    Filters(Filters),
    /// Filters of one by minimal filtering.
    Points(Points),
    /// Filters of a depthwise one.
    Channels(Channels),
    /// The right operand of a product.
    Panels(Panels),
    /// As many elements in their order.
    Wide(usize),
}

impl Form {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        match self {
            Self::Filters(filters) => filters.len(),
            Self::Points(points) => points.len(),
            Self::Channels(channels) => channels.len(),
            Self::Panels(panels) => panels.len(),
            Self::Wide(len) => *len,
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the form of a row-major constant of type `dtype`, `f32`, `f16` or `bf16`, to `out`, which has [`Self::len`] elements.
    ///
    /// # Panics
    /// If either has another length.
    pub fn make(&self, dtype: DType, from: &[u8], out: &mut [f32]) {
        match dtype {
            DType::F16 => self.make_of::<f16>(from, out),
            DType::BF16 => self.make_of::<bf16>(from, out),
            _ => self.make_of::<f32>(from, out),
        }
    }

    fn make_of<T: Element + Into<f32>>(&self, from: &[u8], out: &mut [f32]) {
        let elements: &[T] = bytemuck::cast_slice(from);
        match self {
            Self::Filters(filters) => filters.make(elements, out),
            Self::Points(points) => points.make(elements, out),
            Self::Channels(channels) => channels.make(elements, out),
            Self::Panels(panels) => panels.make(elements, out),
            Self::Wide(len) => {
                assert_eq!((elements.len(), out.len()), (*len, *len), "{self:?}");
                pieces(out, 1, 1, |start, out| {
                    let from = &elements[start..][..out.len()];
                    out.iter_mut().zip(from).for_each(|(wide, &half)| *wide = half.into());
                });
            }
        }
    }
}
