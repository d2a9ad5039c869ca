//! Values that stay where a run left them.

use crate::error::RunError;
use crate::gpu::GpuTensor;
use engine_format::{DType, Tensor};
use engine_ops::cpu::TensorMeta;
use std::fmt;

/// A tensor where a run left it ([`RunOptions::on_device`](crate::RunOptions::on_device)): a run on the same device takes it as an input without
/// a visit to the host. Cloning shares it.
///
/// On a GPU it keeps the memory of the run that made it from other runs, all of it, until its last clone is gone, whatever becomes of the module.
/// A run on the CPU leaves it on the host, where every device takes it.
#[derive(Clone, PartialEq)]
pub struct DeviceTensor(Held);

/// Where it is.
#[derive(Clone, PartialEq)]
pub(crate) enum Held {
    Host(Tensor),
    #[cfg_attr(
        any(not(feature = "gpu"), target_family = "wasm"),
        expect(dead_code, reason = "without GPUs none lies there")
    )]
    Gpu(GpuTensor),
}

impl DeviceTensor {
    pub(crate) fn new(held: Held) -> Self {
        Self(held)
    }

    pub(crate) fn held(&self) -> &Held {
        &self.0
    }

    /// Type and shape.
    pub(crate) fn meta(&self) -> TensorMeta {
        match &self.0 {
            Held::Host(tensor) => tensor.into(),
            Held::Gpu(tensor) => tensor.meta().clone(),
        }
    }

    /// Whether it has this type and shape.
    pub(crate) fn is_a(&self, meta: &TensorMeta) -> bool {
        match &self.0 {
            Held::Host(tensor) => meta.dtype == tensor.dtype() && meta.shape == tensor.shape(),
            Held::Gpu(tensor) => meta == tensor.meta(),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.meta().dtype
    }

    /// Dimensions.
    pub fn shape(&self) -> Vec<usize> {
        self.meta().shape
    }

    /// The tensor on the host: read back from a GPU, with the bits that the run would have given.
    ///
    /// # Errors
    /// `Device` if the GPU is lost; `OutOfMemory`.
    pub fn to_host(&self) -> Result<Tensor, RunError> {
        match &self.0 {
            Held::Host(tensor) => Ok(tensor.clone()),
            Held::Gpu(tensor) => Ok(tensor.to_host()?),
        }
    }
}

/// The type, and where it is.
impl fmt::Display for DeviceTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Held::Host(tensor) => write!(f, "{tensor:?} on the host"),
            Held::Gpu(tensor) => write!(f, "{} on {}", tensor.meta(), tensor.adapter()),
        }
    }
}

impl fmt::Debug for DeviceTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceTensor({self})")
    }
}
