//! Compiled shaders, each compiled once per device.

use super::device::GpuDevice;
use super::error::{GpuError, GpuErrorKind};
use engine_ops::gpu::{Bind, Dispatch};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType,
    BufferBindingType, ComputePipeline, ComputePipelineDescriptor, PipelineCompilationOptions,
    PipelineLayoutDescriptor, ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

/// What a pipeline depends on. Shapes are not in it: they travel as parameters.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    wgsl: Cow<'static, str>,
    /// For each storage binding, whether it is only read.
    reads: Vec<bool>,
    params: bool,
}

impl Key {
    fn of(dispatch: &Dispatch) -> Self {
        Self {
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

type Slot = Arc<OnceLock<Result<Arc<Pipeline>, GpuError>>>;

/// Pipelines by what they depend on. A shader that was refused stays refused.
#[derive(Default)]
pub(crate) struct PipelineCache {
    slots: Mutex<HashMap<Key, Slot>>,
}

impl PipelineCache {
    /// How many shaders were compiled or refused.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn slot(&self, key: &Key) -> Slot {
        // A panic in another thread leaves the map whole: entries are only ever added.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.clone()).or_default().clone()
    }
}

/// The pipelines of `dispatches`, in their order; those that are new are compiled in parallel.
pub(crate) fn pipelines(
    device: &GpuDevice,
    dispatches: &[&Dispatch],
) -> Result<Vec<Arc<Pipeline>>, GpuError> {
    dispatches.par_iter().map(|dispatch| pipeline(device, dispatch)).collect()
}

fn pipeline(device: &GpuDevice, dispatch: &Dispatch) -> Result<Arc<Pipeline>, GpuError> {
    let key = Key::of(dispatch);
    let slot = device.pipeline_cache().slot(&key);
    slot.get_or_init(|| compile(device, &dispatch.label, &key).map(Arc::new)).clone()
}

fn compile(device: &GpuDevice, label: &str, key: &Key) -> Result<Pipeline, GpuError> {
    device.scoped(GpuErrorKind::Shader, &format!("shader {label}"), |gpu| {
        // Checked on purpose: the checks bound every access by the buffer, and every loop, so that no program that
        // reaches this point (a forged engine file included) can read or hang outside its own memory.
        let module = gpu.create_shader_module(ShaderModuleDescriptor {
            label: Some(label),
            source: ShaderSource::Wgsl(key.wgsl.as_ref().into()),
        });
        let layout = gpu.create_bind_group_layout(&BindGroupLayoutDescriptor {
            label: Some(label),
            entries: &entries(key),
        });
        let pipeline_layout = gpu.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = gpu.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    })
}

fn entries(key: &Key) -> Vec<BindGroupLayoutEntry> {
    let storage = key.reads.iter().map(|&read_only| BufferBindingType::Storage { read_only });
    let params = key.params.then_some(BufferBindingType::Uniform);
    storage
        .chain(params)
        .zip(0..)
        .map(|(ty, binding)| BindGroupLayoutEntry {
            binding,
            visibility: ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        })
        .collect()
}
