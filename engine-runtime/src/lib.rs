//! Runs engines on the CPU and, through wgpu, on any GPU; refits them while they serve.

pub mod backend;
mod error;
pub mod gpu;
pub mod plan;

pub use error::{RunError, RunErrorKind};
