//! Forms of constants: what kernels would rather read than row-major tensors.
//!
//! A form is a pure function of a constant's bytes. A kernel gives the same bits over the form as over the tensor, so a form may
//! be made at any time, beside the run or not at all.

use crate::kernels::nchwc::{Channels, Filters};

/// How a kernel would read a constant of `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Filters of a convolution over blocks of channels.
    Filters(Filters),
    /// Filters of a depthwise one.
    Channels(Channels),
}

impl Form {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        match self {
            Self::Filters(filters) => filters.len(),
            Self::Channels(channels) => channels.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the form of `from`, the row-major constant, to `out`, which has [`Self::len`] elements.
    ///
    /// # Panics
    /// If either has another length.
    pub fn make(&self, from: &[f32], out: &mut [f32]) {
        match self {
            Self::Filters(filters) => filters.make(from, out),
            Self::Channels(channels) => channels.make(from, out),
        }
    }
}
