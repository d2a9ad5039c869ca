//! Made from shapes, scalars and chance.

use crate::OpDef;

pub(crate) mod eye_like;
pub(crate) mod mel_weight_matrix;
pub(crate) mod one_hot;
pub(crate) mod random;
pub(crate) mod range;
pub(crate) mod shape;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &shape::SHAPE,
    &shape::SIZE,
    &one_hot::ONE_HOT,
    &range::RANGE,
    &eye_like::EYE_LIKE,
    &random::RANDOM_UNIFORM,
    &random::RANDOM_NORMAL,
    &mel_weight_matrix::MEL_WEIGHT_MATRIX,
];
