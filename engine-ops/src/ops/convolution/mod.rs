//! Sliding filters.

use crate::OpDef;

pub(crate) mod col2im;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
pub(crate) mod deform_im2col;
pub(crate) mod nchwc;
pub(crate) mod window;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &conv::CONV,
    &conv::FUSED_CONV,
    &conv_transpose::CONV_TRANSPOSE,
    &conv_transpose::FUSED_CONV_TRANSPOSE,
    &deform_im2col::DEFORM_IM2COL,
    &nchwc::BLOCKED_CONV,
    &nchwc::TO_BLOCKS,
    &nchwc::FROM_BLOCKS,
    &col2im::COL2IM,
];
