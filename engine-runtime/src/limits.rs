//! How much memory a run may take: the sizes that models, inputs and values decide are held to it before anything is allocated.

use crate::cpu::kernel;
use crate::error::{RunError, RunErrorKind};
use crate::plan::{Place, Segment, Step};
use engine_ops::OpError;
use engine_ops::cpu::TensorMeta;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Bytes that runs on a device may take ([`Device::with_limits`](crate::Device::with_limits)). What would take more is an error
/// that names the node, the sizes and the limit, before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For one tensor.
    pub tensor: u64,
    /// For all that one run holds at once: values, results and the scratch memory of kernels, not inputs and weights. A list that a kernel
    /// makes for itself is held to what they leave of it.
    pub run: u64,
}

/// What the machine has, for a tensor and for a run.
impl Default for MemoryLimits {
    fn default() -> Self {
        static MACHINE: OnceLock<u64> = OnceLock::new();
        let machine = *MACHINE.get_or_init(machine);
        Self { tensor: machine, run: machine }
    }
}

/// Bytes of memory that this process may have; all there can be where the system does not say.
fn machine() -> u64 {
    let most = isize::MAX as u64;
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let total = text("/proc/meminfo").and_then(|text| meminfo(&text));
    // The limit of a container, if it has one.
    let container = text("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    [total, container].into_iter().flatten().fold(most, u64::min)
}

/// The machine's memory as Linux states it.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl MemoryLimits {
    /// Whether a result may be as large as it is.
    pub(crate) fn check_tensor(&self, result: usize, meta: &TensorMeta) -> Result<(), OpError> {
        let (bytes, most) = (meta.byte_len() as u64, self.tensor);
        if bytes <= most {
            return Ok(());
        }
        Err(OpError::new(format!(
            "result {result}, {meta}, takes {bytes} bytes, more than the limit of {most} bytes for a tensor"
        )))
    }

    /// Whether a run may hold `bytes` for a segment, besides the values that it takes over. Gives the bytes that are left for what kernels
    /// ask for while they run.
    pub(crate) fn check_run(&self, segment: &Segment, bytes: u64) -> Result<u64, RunError> {
        let (bytes, most) = (bytes.saturating_add(carried(segment)), self.run);
        if let Some(left) = most.checked_sub(bytes) {
            return Ok(left);
        }
        let what = format!("the run takes {bytes} bytes at once, more than its limit of {most}");
        Err(too_large(segment, &what))
    }
}

/// Bytes of the values that a segment takes over from those before it.
fn carried(segment: &Segment) -> u64 {
    let steps = segment.steps.iter().flat_map(|step| step.inputs.iter().flatten());
    let mut carried = BTreeMap::new();
    for operand in steps.chain(&segment.host).chain(&segment.carry) {
        if let Place::Carried(i) = operand.place {
            carried.insert(i, operand.meta.byte_len() as u64);
        }
    }
    carried.into_values().fold(0, u64::saturating_add)
}

/// The error of a segment that takes more memory than there is: its largest value and that value's node.
pub(crate) fn too_large(segment: &Segment, what: &str) -> RunError {
    let results = |step: &Step| {
        let bytes = step.outputs.iter().flatten().map(|output| output.meta.byte_len());
        bytes.max().unwrap_or(0)
    };
    let Some(step) = segment.steps.iter().max_by_key(|step| results(step)) else {
        return RunError::new(RunErrorKind::OutOfMemory, what);
    };
    let given: Vec<String> =
        step.outputs.iter().flatten().map(|output| output.meta.to_string()).collect();
    let why =
        format!("{what}; the largest value is of this node, which gives {}", given.join(", "));
    let (metas, why) = (step.input_metas(), OpError::new(why));
    kernel::node_error(RunErrorKind::OutOfMemory, step.def, &step.path, &metas, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_system_states_it() {
        let text = "MemTotal:       16316412 kB\nMemFree:         1207264 kB\n";
        assert_eq!(meminfo(text), Some(16_316_412 * 1024));
        assert_eq!((meminfo("MemTotal: many kB"), meminfo("")), (None, None));
        let limits = MemoryLimits::default();
        assert!(limits.tensor == limits.run && limits.run > 1 << 20);
    }
}
