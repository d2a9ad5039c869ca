//! What compiled shaders depend on, and where a device keeps them.

use crate::gpu::GpuError;
use engine_ops::gpu::{Bind, Dispatch};
use engine_ops::{OpDef, lookup};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wgpu::{BindGroupLayout, ComputePipeline, ShaderRuntimeChecks};

/// What a pipeline depends on. Shapes are not in it: they travel as parameters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) wgsl: Cow<'static, str>,
    /// For each storage binding, whether it is only read.
    pub(super) reads: Vec<bool>,
    pub(super) params: bool,
    pub(super) trust: Trust,
}

/// Where a shader comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// A row of the operator table made it.
    Table,
    /// Anything else.
    Untrusted,
}

impl Trust {
    /// Trust in the programs that `def` makes. Definitions are plain data that anyone can write; only the table's own
    /// rows are known to be sound.
    pub(crate) fn of(def: &OpDef) -> Self {
        match lookup(def.name, def.version) {
            Some(row) if std::ptr::eq(row, def) => Trust::Table,
            _ => Trust::Untrusted,
        }
    }

    /// What keeps a shader of this origin from being compiled. Where matrix units read and write nothing checks.
    pub(super) fn refuses(self, wgsl: &str) -> Option<&'static str> {
        let units = self == Trust::Untrusted && wgsl.contains("wgpu_cooperative_matrix");
        units.then_some("matrix units are for kernels of the operator table")
    }

    pub(super) fn checks(self) -> ShaderRuntimeChecks {
        let mut checks = ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = self == Trust::Untrusted;
        checks
    }
}

impl Key {
    pub(super) fn of(dispatch: &Dispatch, trust: Trust) -> Self {
        Self {
            trust,
            wgsl: dispatch.wgsl.clone(),
            reads: dispatch.binds.iter().map(|b| matches!(b, Bind::In(_))).collect(),
            params: !dispatch.params.is_empty(),
        }
    }
}

/// A compiled shader and the layout of what it binds.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: ComputePipeline,
    pub(crate) layout: BindGroupLayout,
}

pub(super) type Slot = Arc<OnceLock<Result<Arc<Pipeline>, GpuError>>>;

/// Pipelines by what they depend on. A shader that was refused stays refused.
#[derive(Default)]
pub(crate) struct PipelineCache {
    slots: Mutex<HashMap<Key, Slot>>,
}

impl PipelineCache {
    /// Where the pipeline of this key is, or will be once it is compiled.
    pub(super) fn slot(&self, key: &Key) -> Slot {
        // A panic in another thread leaves the map whole: entries are only ever added.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_units_are_for_the_tables_own_shaders() {
        let shader = "enable f16;\nenable wgpu_cooperative_matrix;\n";
        assert!(Trust::Untrusted.refuses(shader).is_some());
        assert!(Trust::Table.refuses(shader).is_none());
        assert!(Trust::Untrusted.refuses("enable f16;\n").is_none());
    }
}
