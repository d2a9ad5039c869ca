//! Classical models.

use crate::OpDef;

pub(crate) mod label_encoder;
pub(crate) mod pairwise_coupling;
pub(crate) mod tree_ensemble;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &label_encoder::LABEL_ENCODER,
    &tree_ensemble::TREE_ENSEMBLE,
    &pairwise_coupling::PAIRWISE_COUPLING,
];
