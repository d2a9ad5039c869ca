//! What GPU is asked for, and how adapters are told apart.

use std::fmt;

/// Name of the environment variable that lets software adapters count as GPUs when set to `1`.
pub const SOFTWARE_GPU: &str = "REFIT_SOFTWARE_GPU";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuChoice {
    /// The first eligible adapter: a hardware GPU, or a software one under [`SOFTWARE_GPU`].
    First,
    /// The eligible adapter at this position of the list that [`adapters`](super::adapters) gives.
    Index(usize),
    /// The first adapter, software ones included, whose name contains this text, whatever its case.
    Named(String),
}

impl fmt::Display for GpuChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuChoice::First => f.write_str("gpu"),
            GpuChoice::Index(i) => write!(f, "gpu:{i}"),
            GpuChoice::Named(name) => f.write_str(name),
        }
    }
}

/// An adapter that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSummary {
    /// The driver's name for it.
    pub name: String,
    /// The graphics interface it is reached through.
    pub backend: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Driver and version, as the driver says it.
    pub driver: String,
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.software { ", software" } else { "" };
        write!(f, "{} ({}{kind})", self.name, self.backend)
    }
}

/// What kind of device an adapter is, as its driver says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// It computes on the CPU.
    Software,
    /// The driver does not say.
    Other,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

/// An adapter with what kernels can have of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterDetails {
    /// The adapter.
    pub summary: AdapterSummary,
    /// What kind of device it is.
    pub kind: AdapterKind,
    /// What it is asked for by; none if only its name does, as for a software adapter that does not count as a GPU
    /// ([`SOFTWARE_GPU`]).
    pub index: Option<usize>,
    /// Whether shaders may calculate in 16-bit floats.
    pub f16: bool,
    /// The smallest and the largest number of invocations in a subgroup, where shaders may use subgroups.
    pub subgroups: Option<(u32, u32)>,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of the largest tensor that a kernel can bind.
    pub max_binding: u64,
    /// Storage buffers that a kernel can bind.
    pub max_storage_buffers: u32,
    /// Workgroups in one dimension.
    pub max_workgroups: u32,
    /// Invocations in a workgroup.
    pub max_invocations: u32,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_memory: u32,
}

/// How a GPU is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Ask for no more than what every WebGPU implementation has, even if the adapter has more.
    pub baseline: bool,
    /// Which kernel a node gets for which there are several.
    pub candidates: GpuCandidates,
    /// Operators that run on the CPU although they have a GPU kernel: to find a wrong kernel by halving, and for tests.
    pub on_cpu: Vec<String>,
}

/// Which kernel a node gets for which the operator table has several ([`engine_ops::gpu::GpuCandidate`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuCandidates {
    /// The first that pays for its shapes on the device.
    #[default]
    ByRule,
    /// The one of this name wherever it works: to measure it, and for tests.
    Always(String),
    /// The one that works on every device.
    Last,
}

/// Name of the environment variable that sets [`GpuOptions::candidates`]: the name of one that is always taken, or `last`.
pub const GPU_CANDIDATES: &str = "REFIT_GPU_CANDIDATES";

/// Name of the environment variable that sets [`GpuOptions::baseline`] when it is `1`.
pub const GPU_BASELINE: &str = "REFIT_GPU_BASELINE";

impl GpuOptions {
    /// The defaults, changed by what the environment asks for.
    pub fn from_env() -> Self {
        let baseline = std::env::var_os(GPU_BASELINE).is_some_and(|v| v == "1");
        let candidates = match std::env::var(GPU_CANDIDATES) {
            Ok(last) if last == "last" => GpuCandidates::Last,
            Ok(name) if !name.is_empty() => GpuCandidates::Always(name),
            _ => GpuCandidates::ByRule,
        };
        Self { baseline, candidates, ..Self::default() }
    }
}
