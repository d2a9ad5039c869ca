//! Which device runs an engine.

use crate::backend::Constants;
use crate::cpu::{CpuBackend, CpuOptions};
use crate::error::RunError;
use crate::gpu::{self, AdapterSummary, GpuChoice, GpuDevice, GpuError, GpuOptions};
use crate::held::{DeviceTensor, Held};
use crate::limits::MemoryLimits;
use crate::plan::program::Program;
use crate::runner::{Loaded, Runner};
use crate::threads;
use engine_ops::parallel;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What device is asked for. Reads from text: `auto`, `cpu`, `gpu`, `gpu:N`, or part of an adapter's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSelector {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU.
    Gpu(GpuChoice),
}

impl FromStr for DeviceSelector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let index = text.strip_prefix("gpu:").and_then(|n| n.parse().ok());
        Ok(match (text, index) {
            ("auto", _) => Self::Auto,
            ("cpu", _) => Self::Cpu,
            ("gpu", _) => Self::Gpu(GpuChoice::First),
            (_, Some(index)) => Self::Gpu(GpuChoice::Index(index)),
            (name, None) => Self::Gpu(GpuChoice::Named(name.to_owned())),
        })
    }
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(choice) => choice.fmt(f),
        }
    }
}

/// A device that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceInfo {
    /// The CPU, always there.
    Cpu,
    /// A GPU.
    Gpu(AdapterSummary),
}

impl DeviceInfo {
    /// What `auto` takes, if it opens.
    pub fn auto() -> Self {
        Self::first_of(gpu::adapters())
    }

    /// The first of the adapters, unless it is a software adapter, which is never what `auto` means: the CPU device is faster.
    fn first_of(adapters: Vec<AdapterSummary>) -> Self {
        let first = adapters.into_iter().next().filter(|adapter| !adapter.software);
        first.map_or(Self::Cpu, Self::Gpu)
    }
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(adapter) => adapter.fmt(f),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// The first hardware GPU, opened, if there is one.
fn hardware() -> Option<Result<GpuDevice, GpuError>> {
    // Hardware comes first in the list, so it has the first index whether or not software adapters count.
    let found = DeviceInfo::first_of(gpu::adapters());
    tracing::debug!(device = %found, "auto takes the first hardware GPU, else the CPU");
    (found != DeviceInfo::Cpu)
        .then(|| GpuDevice::open(&GpuChoice::Index(0), GpuOptions::from_env()))
}

/// There is no such device, or it does not open. Lists what was found.
#[derive(Clone, Debug)]
pub struct DeviceError {
    asked: DeviceSelector,
    found: Vec<DeviceInfo>,
    cause: GpuError,
}

impl DeviceError {
    /// What was asked for.
    pub fn asked(&self) -> &DeviceSelector {
        &self.asked
    }

    /// Why it was not opened.
    pub fn cause(&self) -> &GpuError {
        &self.cause
    }

    /// The devices there are.
    pub fn found(&self) -> &[DeviceInfo] {
        &self.found
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The cause lists the adapters that were found.
        write!(f, "{}; the CPU is always there, as \"cpu\"", self.cause)
    }
}

impl std::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// An opened device. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Device {
    kind: Kind,
    /// The threads of refits, if the caller gave some.
    refit_pool: Option<Arc<rayon::ThreadPool>>,
    /// Why this is the CPU although there is a hardware GPU.
    passed_over: Option<GpuError>,
    limits: MemoryLimits,
}

#[derive(Clone, Debug)]
enum Kind {
    Cpu(CpuOptions),
    Gpu(GpuDevice),
}

impl Device {
    /// The CPU with the threads that all devices share which were given none.
    pub fn cpu() -> Self {
        Self::cpu_with(CpuOptions::default())
    }

    /// The CPU with threads of the caller's choice.
    pub fn cpu_with(options: CpuOptions) -> Self {
        Self::of(Kind::Cpu(options))
    }

    /// The same device with so many threads of its own for the kernels of runs, the one that runs included. A GPU has the
    /// steps that it leaves to the CPU done on the threads that all devices share.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        if let Kind::Cpu(options) = &mut self.kind {
            options.pool = CpuOptions::with_threads(threads).pool;
        }
        self
    }

    /// Opens what is asked for. `auto` falls back to the CPU; nothing else does. If that is because a GPU did not open,
    /// [`Device::passed_over`] says why.
    pub fn open(selector: &DeviceSelector) -> Result<Self, DeviceError> {
        match selector {
            DeviceSelector::Cpu => Ok(Self::cpu()),
            DeviceSelector::Auto => Ok(Self::or_cpu(hardware())),
            DeviceSelector::Gpu(choice) => {
                GpuDevice::open(choice, GpuOptions::from_env()).map(Self::gpu).map_err(|cause| {
                    DeviceError { asked: selector.clone(), found: Self::list(), cause }
                })
            }
        }
    }

    /// The GPU if there is one and it opens, else the CPU.
    fn or_cpu(hardware: Option<Result<GpuDevice, GpuError>>) -> Self {
        match hardware {
            Some(Ok(gpu)) => Self::gpu(gpu),
            Some(Err(error)) => {
                tracing::warn!(%error, "the GPU does not open, the CPU is used");
                Self { passed_over: Some(error), ..Self::cpu() }
            }
            None => Self::cpu(),
        }
    }

    /// Why this is the CPU although `auto` found a hardware GPU: the GPU did not open.
    pub fn passed_over(&self) -> Option<&GpuError> {
        self.passed_over.as_ref()
    }

    /// An opened GPU.
    pub fn gpu(gpu: GpuDevice) -> Self {
        Self::of(Kind::Gpu(gpu))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, refit_pool: None, passed_over: None, limits: MemoryLimits::default() }
    }

    /// The same device, on which tensors and runs take no more memory than this. A device that is given no limits has those of
    /// the machine.
    #[must_use]
    pub fn with_limits(mut self, limits: MemoryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How much memory tensors and runs may take.
    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }

    /// The same device with these threads for refits: they read, digest and prepare weights, while the module goes on running on
    /// its own. Devices that are given none share a pool of half as many threads as the machine has; the first weights of a
    /// module that cannot run yet are then prepared on the threads of runs, of which it needs none.
    #[must_use]
    pub fn with_refit_pool(mut self, pool: Arc<rayon::ThreadPool>) -> Self {
        self.refit_pool = Some(pool);
        self
    }

    /// Every device there is, the CPU first.
    pub fn list() -> Vec<DeviceInfo> {
        let gpus = gpu::adapters().into_iter().map(DeviceInfo::Gpu);
        std::iter::once(DeviceInfo::Cpu).chain(gpus).collect()
    }

    /// What this device is.
    pub fn info(&self) -> DeviceInfo {
        match &self.kind {
            Kind::Cpu(_) => DeviceInfo::Cpu,
            Kind::Gpu(gpu) => DeviceInfo::Gpu(gpu.adapter().clone()),
        }
    }

    /// Whether this is a GPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, Kind::Gpu(_))
    }

    /// Whether it times the steps of a run ([`RunOptions::profile`](crate::RunOptions::profile)): a GPU does if its adapter has timestamps.
    pub fn has_clock(&self) -> bool {
        match &self.kind {
            Kind::Gpu(gpu) => gpu.has_clock(),
            Kind::Cpu(_) => true,
        }
    }

    /// Whether a value that a run left is where runs of this device take it as it is.
    pub(crate) fn holds(&self, value: &DeviceTensor) -> bool {
        match (value.held(), &self.kind) {
            (Held::Host(_), _) => true,
            (Held::Gpu(tensor), Kind::Gpu(gpu)) => tensor.is_on(gpu),
            (Held::Gpu(_), Kind::Cpu(_)) => false,
        }
    }

    /// Does `work`, which prepares weights, on the threads of refits if a module serves meanwhile or the caller gave some, else
    /// on those of runs.
    pub(crate) fn preparing<R: Send>(&self, serves: bool, work: impl FnOnce() -> R + Send) -> R {
        match (self.refit_pool.as_deref(), serves) {
            (None, false) => {
                parallel::with(self.cpu_options().pool.unwrap_or_else(threads::shared), work)
            }
            (pool, _) => threads::refitting(pool, work),
        }
    }

    /// Has `work` done on the threads of refits after this call. Where there are none it is dropped.
    pub(crate) fn beside(&self, work: impl FnOnce() + Send + 'static) {
        threads::beside(self.refit_pool.as_deref(), work);
    }

    /// How work that is done on the CPU is done, whatever the device.
    pub(crate) fn cpu_options(&self) -> CpuOptions {
        match &self.kind {
            Kind::Cpu(options) => options.clone(),
            Kind::Gpu(_) => CpuOptions::default(),
        }
    }

    /// A program with its constants on this device.
    pub(crate) fn runner(
        &self,
        program: Arc<Program>,
        constants: Constants,
    ) -> Result<Box<dyn Runner>, RunError> {
        Ok(match &self.kind {
            Kind::Cpu(options) => {
                let pool = Some(options.pool.clone().unwrap_or_else(threads::shared));
                let backend = Arc::new(CpuBackend::new(CpuOptions { pool, ..options.clone() }));
                Box::new(Loaded::new(backend, program, constants, self.limits)?)
            }
            Kind::Gpu(gpu) => gpu.runner(program, constants, self.limits)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuErrorKind;

    #[test]
    fn auto_takes_hardware_alone() {
        let adapter = |name: &str, software| AdapterSummary {
            name: name.to_owned(),
            backend: "vulkan".to_owned(),
            software,
            driver: String::new(),
        };
        let (gpu, lavapipe) = (adapter("Acme 9000", false), adapter("llvmpipe", true));
        let found = DeviceInfo::first_of(vec![gpu.clone(), lavapipe.clone()]);
        assert_eq!(found, DeviceInfo::Gpu(gpu));
        assert_eq!(DeviceInfo::first_of(vec![lavapipe]), DeviceInfo::Cpu);
        assert_eq!(DeviceInfo::first_of(Vec::new()), DeviceInfo::Cpu);
    }

    #[test]
    fn a_gpu_that_does_not_open_is_passed_over_and_said() {
        let error = GpuError::new(GpuErrorKind::Open, "Acme 9000", "it is busy");
        let device = Device::or_cpu(Some(Err(error)));
        assert_eq!(device.info(), DeviceInfo::Cpu);
        let said = device.passed_over().map(ToString::to_string).unwrap_or_default();
        assert!(said.contains("Acme 9000") && said.contains("it is busy"), "{said}");
        assert!(Device::or_cpu(None).passed_over().is_none(), "there is none");
        assert!(Device::cpu().passed_over().is_none());
    }
}
