//! Steps over images whose channels lie in blocks. Written by a device's physical plan, never imported.

mod cases;
mod conv;
mod reorder;

pub use conv::BLOCKED_CONV;
pub(super) use conv::blocked as blocked_conv;
pub use reorder::{FROM_BLOCKS, TO_BLOCKS};
