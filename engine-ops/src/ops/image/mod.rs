//! Pools, sampling, regions, pictures.

use crate::OpDef;

pub(crate) mod depth_space;
pub(crate) mod global_pool;
pub(crate) mod grid_sample;
pub(crate) mod image_decoder;
#[cfg(feature = "images")]
mod jpeg;
pub(crate) mod max_roi_pool;
pub(crate) mod max_unpool;
pub(crate) mod non_max_suppression;
pub(crate) mod pool;
pub(crate) mod resize;
pub(crate) mod roi_align;

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[
    &resize::RESIZE,
    &depth_space::DEPTH_TO_SPACE,
    &depth_space::SPACE_TO_DEPTH,
    &pool::MAX_POOL,
    &pool::AVERAGE_POOL,
    &pool::LP_POOL,
    &global_pool::GLOBAL_MAX_POOL,
    &global_pool::GLOBAL_AVERAGE_POOL,
    &grid_sample::GRID_SAMPLE,
    &non_max_suppression::NON_MAX_SUPPRESSION,
    &max_unpool::MAX_UNPOOL,
    &image_decoder::IMAGE_DECODER,
    &roi_align::ROI_ALIGN,
    &max_roi_pool::MAX_ROI_POOL,
];
