//! Compiles shaders, each once per device.

use super::device::GpuDevice;
use super::pipeline::{Key, Pipeline, Trust};
use crate::gpu::{GpuError, GpuErrorKind};
use engine_ops::gpu::Dispatch;
use std::sync::Arc;
use wgpu::{
    BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType,
    ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor,
    ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

/// The pipeline of a dispatch, compiled if it is new.
pub(crate) fn pipeline(
    device: &GpuDevice,
    dispatch: &Dispatch,
    trust: Trust,
) -> Result<Arc<Pipeline>, GpuError> {
    let key = Key::of(dispatch, trust);
    let slot = device.pipeline_cache().slot(&key);
    slot.get_or_init(|| compile(device, &dispatch.label, &key).map(Arc::new)).clone()
}

fn compile(device: &GpuDevice, label: &str, key: &Key) -> Result<Pipeline, GpuError> {
    if let Some(why) = key.trust.refuses(&key.wgsl) {
        let place = format!("shader {label}");
        return Err(GpuError::new(GpuErrorKind::Shader, place, why.to_owned()));
    }
    device.scoped(GpuErrorKind::Shader, &format!("shader {label}"), |scope| {
        scope.counters().pipelines.count();
        let gpu = scope.wgpu();
        let descriptor = ShaderModuleDescriptor {
            label: Some(label),
            source: ShaderSource::Wgsl(key.wgsl.as_ref().into()),
        };
        // Accesses stay bounded by their buffers and divisions guarded whatever the shader, so that no forged program
        // reads or writes outside its own memory; that costs about 5 % of a matrix product on an H200. The counters
        // that bound every loop cost 25 %, and only strangers' shaders get them.
        //
        // SAFETY: the one check that is off is that of loops, for shaders of the operator table. Each of their loops
        // counts a variable that its body does not change by a step above zero up to a bound that is a constant, a
        // parameter or derived from or held below one, and these come from shapes of tensors that fit a binding, so that no counter
        // wraps around before it ends.
        let module = unsafe { gpu.create_shader_module_trusted(descriptor, key.trust.checks()) };
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
        Ok(Pipeline { pipeline, layout })
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
