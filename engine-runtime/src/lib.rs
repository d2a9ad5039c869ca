//! Runs engines on the CPU and, through wgpu, on any GPU; refits them while they serve.
//!
//! [`Device::open`] takes a device, [`LiveModule`] or [`PackedModule`] puts an engine on it, the trait [`Module`] runs and
//! refits it. [`layer`] runs single operators. The README of this crate shows the whole way.

pub mod backend;
mod cancel;
mod cpu;
mod decoder;
mod device;
mod error;
mod executor;
pub mod gpu;
mod held;
mod inputs;
pub mod layer;
mod limits;
mod memory;
mod module;
mod options;
mod placement;
pub mod plan;
mod profile;
mod runner;
mod session;
#[cfg(test)]
mod tests;
mod threads;
mod value;

pub use cancel::Cancel;
pub use cpu::CpuOptions;
pub use decoder::{Decoder, Recurrence};
pub use device::{Device, DeviceError, DeviceInfo, DeviceSelector};
pub use error::{LoadError, RefitError, RunError, RunErrorKind};
pub use held::DeviceTensor;
pub use limits::MemoryLimits;
pub use memory::Memory;
pub use module::{LiveModule, Module, PackedModule, Refitted, State};
pub use options::{HAS_CLOCK, Progress, RefitOptions, RunOptions};
pub use placement::{Obstacle, Placement};
pub use profile::{Profile, StepTime};
pub use threads::{SpinPool, default_threads};
pub use value::{Inputs, Outputs, Value, Values};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
