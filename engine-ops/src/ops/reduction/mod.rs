//! Along axes: sums, extremes, norms, orders.

use crate::OpDef;

pub(crate) mod arg;
pub(crate) mod batch_norm;
pub(crate) mod cumsum;
pub(crate) mod norm;
pub(crate) mod order;
pub(crate) mod reduce;
pub(crate) mod softmax;
pub(crate) mod top_k;
pub(crate) mod unique;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &cumsum::CUM_SUM,
    &cumsum::CUM_PROD,
    &reduce::SUM,
    &reduce::MEAN,
    &reduce::MAX,
    &reduce::MIN,
    &reduce::PROD,
    &reduce::L1,
    &reduce::L2,
    &reduce::LOG_SUM,
    &reduce::LOG_SUM_EXP,
    &reduce::SUM_SQUARE,
    &arg::ARG_MAX,
    &arg::ARG_MIN,
    &softmax::SOFTMAX,
    &softmax::LOG_SOFTMAX,
    &norm::LAYER_NORMALIZATION,
    &norm::RMS_NORMALIZATION,
    &norm::INSTANCE_NORMALIZATION,
    &norm::GROUP_NORMALIZATION,
    &batch_norm::BATCH_NORMALIZATION,
    &top_k::TOP_K,
    &unique::UNIQUE,
];
