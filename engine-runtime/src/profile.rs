//! What a run tells of its steps.

use crate::plan::Step;
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Receives the steps of runs with the time they took. Clones are one and the same.
#[derive(Clone)]
pub struct Profile(Arc<dyn Fn(&StepTime<'_>) + Send + Sync>);

impl Profile {
    /// Calls `receive` for every step, on the thread of the run: on the CPU after the step, on a GPU when the run is over.
    pub fn new(receive: impl Fn(&StepTime<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    pub(crate) fn receive(&self, step: &StepTime<'_>) {
        (self.0)(step);
    }
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Profile")
    }
}

/// A step of a run and how long it took.
#[derive(Clone, Debug)]
pub struct StepTime<'a> {
    /// Path of the node in the model; steps that a physical plan adds bear that of the node they serve.
    pub path: &'a str,
    /// The operator, as it ran.
    pub op: &'static str,
    pub(crate) step: &'a Step,
    /// From the call of its kernel to its end; of a step on a GPU by the device's own clock, without what lies between its kernels.
    pub time: Duration,
    /// When it ended. For a step on a GPU that is reckoned back from the end of the run.
    pub end: Instant,
}

impl StepTime<'_> {
    /// Types of its operands; `None` is an omitted one.
    pub fn inputs(&self) -> impl Iterator<Item = Option<&TensorMeta>> {
        self.step.inputs.iter().map(|operand| operand.as_ref().map(|operand| &operand.meta))
    }

    /// Multiplications that it takes, where arithmetic decides how long it takes.
    pub fn multiplications(&self) -> Option<u64> {
        (self.step.def.multiplications)(&self.step.attrs, &self.step.input_metas())
    }

    /// Types of its results; `None` is one that nobody reads.
    pub fn outputs(&self) -> impl Iterator<Item = Option<&TensorMeta>> {
        self.step.outputs.iter().map(|output| output.as_ref().map(|output| &output.meta))
    }
}
