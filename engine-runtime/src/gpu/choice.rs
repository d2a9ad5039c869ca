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

/// How a GPU is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Ask for no more than what every WebGPU implementation has, even if the adapter has more.
    pub baseline: bool,
    /// Operators that run on the CPU although they have a GPU kernel: to find a wrong kernel by halving, and for tests.
    pub on_cpu: Vec<String>,
}

/// Name of the environment variable that sets [`GpuOptions::baseline`] when it is `1`.
pub const GPU_BASELINE: &str = "REFIT_GPU_BASELINE";

impl GpuOptions {
    /// The defaults, changed by what the environment asks for.
    pub fn from_env() -> Self {
        let baseline = std::env::var_os(GPU_BASELINE).is_some_and(|v| v == "1");
        Self { baseline, ..Self::default() }
    }
}
