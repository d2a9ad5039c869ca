//! What there is of GPUs in a program that is built without wgpu: the questions, and the answer no.

use super::choice::{AdapterDetails, AdapterSummary, GpuChoice, GpuOptions};
use super::error::{GpuError, GpuErrorKind};
use crate::backend::Constants;
use crate::error::RunError;
use crate::limits::MemoryLimits;
use crate::plan::program::Program;
use crate::runner::Runner;
use engine_format::Tensor;
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;

/// An opened GPU, of which there is none.
#[derive(Clone, Debug)]
pub enum GpuDevice {}

/// Every adapter: none.
pub fn adapters() -> Vec<AdapterSummary> {
    Vec::new()
}

/// Every adapter with what kernels can have of it: none.
pub fn adapter_details() -> Vec<AdapterDetails> {
    Vec::new()
}

/// A tensor on a GPU, of which there is none.
#[derive(Clone, PartialEq)]
pub(crate) enum GpuTensor {}

impl GpuTensor {
    pub(crate) fn meta(&self) -> &TensorMeta {
        match *self {}
    }

    pub(crate) fn adapter(&self) -> &AdapterSummary {
        match *self {}
    }

    pub(crate) fn is_on(&self, _device: &GpuDevice) -> bool {
        match *self {}
    }

    pub(crate) fn to_host(&self) -> Result<Tensor, GpuError> {
        match *self {}
    }
}

impl GpuDevice {
    /// Says that this program knows no GPUs.
    pub fn open(choice: &GpuChoice, _options: GpuOptions) -> Result<Self, GpuError> {
        let message = "this program was built without GPUs (feature \"gpu\" of engine-runtime)";
        Err(GpuError::new(
            GpuErrorKind::NoAdapter,
            format!("device {:?}", choice.to_string()),
            message,
        ))
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterSummary {
        match *self {}
    }

    /// Whether launches are timed here by the device's own clock.
    pub(crate) fn has_clock(&self) -> bool {
        match *self {}
    }

    pub(crate) fn runner(
        &self,
        _program: Arc<Program>,
        _constants: Constants,
        _limits: MemoryLimits,
    ) -> Result<Box<dyn Runner>, RunError> {
        match *self {}
    }
}
