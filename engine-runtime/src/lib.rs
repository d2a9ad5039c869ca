//! Runs engines on the CPU and, through wgpu, on any GPU; refits them while they serve.

pub mod backend;
mod cpu;
mod device;
mod error;
mod executor;
pub mod gpu;
mod inputs;
mod module;
pub mod plan;
mod runner;
mod session;
#[cfg(test)]
mod tests;

pub use cpu::CpuOptions;
pub use device::{Device, DeviceError, DeviceInfo, DeviceSelector};
pub use error::{LoadError, RefitError, RunError, RunErrorKind};
pub use executor::Outputs;
pub use inputs::Inputs;
pub use module::{LiveModule, Module, PackedModule, RefitOptions, State};
