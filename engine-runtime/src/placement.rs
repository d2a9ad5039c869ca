//! Where the nodes of a plan run, and what keeps them off a GPU.

use engine_format::DType;
use std::fmt;
use std::sync::Arc;

/// Where one step of a plan runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Path of the node in the model.
    pub path: Arc<str>,
    /// Name of the operator.
    pub op: &'static str,
    /// Why it runs on the CPU; `None` if it runs on the GPU.
    pub obstacle: Option<Obstacle>,
}

/// Why a node does not run on the GPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// The operator has no GPU kernel.
    NoKernel,
    /// Its numbers are drawn by chance, which the host does in one order, so that a seed gives the same ones on every device.
    Drawn,
    /// [`GpuOptions::on_cpu`](crate::gpu::GpuOptions::on_cpu) names the operator.
    KeptOff,
    /// The operator's GPU kernel does not take these types or shapes.
    NotTaken,
    /// The shapes of its results depend on its operands' contents, or these are strings, so that it runs on the host between
    /// two plans.
    DataDependent,
    /// Elements of this type are not kept on the GPU.
    Type(DType),
    /// A tensor is larger than a binding may be.
    TooLarge {
        /// Bytes on the GPU.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A shader binds more buffers than the device takes.
    TooManyBuffers {
        /// Storage buffers of the shader.
        buffers: usize,
        /// The device's limit.
        limit: usize,
    },
    /// A shader's loops may make more rounds than the adapter lets them.
    TooManyRounds {
        /// Rounds of one invocation.
        rounds: usize,
        /// Rounds after which the adapter ends loops.
        limit: usize,
    },
    /// A dispatch has more workgroups in one dimension than the device takes.
    TooManyWorkgroups {
        /// Workgroups of the dispatch.
        groups: [u32; 3],
        /// The device's limit in each dimension.
        limit: u32,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoKernel => f.write_str("the operator has no GPU kernel"),
            Obstacle::Drawn => f.write_str("its numbers are drawn by chance, in one order"),
            Obstacle::KeptOff => f.write_str("the operator was asked to run on the CPU"),
            Obstacle::NotTaken => {
                f.write_str("the operator's GPU kernel does not take these types or shapes")
            }
            Obstacle::DataDependent => {
                f.write_str("contents decide the shapes of its results, or are strings")
            }
            Obstacle::Type(dtype) => write!(f, "{dtype} is not kept on the GPU"),
            Obstacle::TooLarge { bytes, limit } => {
                write!(f, "a tensor takes {bytes} bytes, a binding takes at most {limit}")
            }
            Obstacle::TooManyBuffers { buffers, limit } => {
                write!(f, "a shader binds {buffers} buffers, the device takes {limit}")
            }
            Obstacle::TooManyRounds { rounds, limit } => {
                write!(f, "loops make up to {rounds} rounds, the adapter ends them after {limit}")
            }
            Obstacle::TooManyWorkgroups { groups, limit } => {
                write!(f, "a dispatch has {groups:?} workgroups, a dimension takes {limit}")
            }
        }
    }
}
