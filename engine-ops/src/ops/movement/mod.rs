//! Elements in other places, none calculated.

use crate::OpDef;

pub(crate) mod concat;
pub(crate) mod expand;
pub(crate) mod gather;
pub(crate) mod gather_elements;
pub(crate) mod gather_nd;
pub(crate) mod non_zero;
pub(crate) mod pad;
pub(crate) mod reverse_sequence;
pub(crate) mod scatter;
pub(crate) mod slice;
pub(crate) mod split;
pub(crate) mod tensor_scatter;
pub(crate) mod transpose;
pub(crate) mod trilu;
pub(crate) mod view;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &view::RESHAPE,
    &view::SQUEEZE,
    &view::UNSQUEEZE,
    &view::FLATTEN,
    &view::IDENTITY,
    &transpose::TRANSPOSE,
    &expand::EXPAND,
    &expand::TILE,
    &concat::CONCAT,
    &split::SPLIT,
    &slice::SLICE,
    &gather::GATHER,
    &gather_elements::GATHER_ELEMENTS,
    &gather_nd::GATHER_ND,
    &gather_elements::SCATTER_ELEMENTS,
    &gather_nd::SCATTER_ND,
    &pad::PAD,
    &trilu::TRILU,
    &reverse_sequence::REVERSE_SEQUENCE,
    &non_zero::NON_ZERO,
    &non_zero::COMPRESS,
    &tensor_scatter::TENSOR_SCATTER,
];
