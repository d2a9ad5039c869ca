//! Which elements of one tensor meet which of another: on both devices.

pub(crate) mod broadcast;
pub mod equation;
pub(crate) mod mapped;
pub(crate) mod strided;
