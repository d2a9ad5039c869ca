//! Tests over small engines made by hand.

mod concurrent;
mod held;
mod layers;
mod loops;
#[cfg(feature = "gpu")]
mod lost;
pub(crate) mod on_gpu;
mod options;
mod paths;
mod physical;
mod planning;
mod random;
mod results;
mod sequences;
mod sizes;
mod strings;
mod structures;
mod suspend;
mod swap;
mod toy;
#[cfg(feature = "gpu")]
mod warm;
