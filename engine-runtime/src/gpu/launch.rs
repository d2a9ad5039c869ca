//! Dispatches bound to buffers, ready to be recorded any number of times.

use super::device::GpuDevice;
use super::error::{GpuError, GpuErrorKind};
use super::pipeline::{Pipeline, pipelines};
use super::words::gpu_len;
use engine_format::DType;
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::{Bind, Dispatch, GpuProgram};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding,
    BufferUsages, CommandEncoder, ComputePassDescriptor,
};

/// Why a node does not run on the GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The operator has no GPU kernel.
    NoKernel,
    /// The operator's GPU kernel does not take these types or shapes.
    NotTaken,
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
            Obstacle::NotTaken => {
                f.write_str("the operator's GPU kernel does not take these types or shapes")
            }
            Obstacle::Type(dtype) => write!(f, "{dtype} is not kept on the GPU"),
            Obstacle::TooLarge { bytes, limit } => {
                write!(f, "a tensor takes {bytes} bytes, a binding takes at most {limit}")
            }
            Obstacle::TooManyBuffers { buffers, limit } => {
                write!(f, "a shader binds {buffers} buffers, the device takes {limit}")
            }
            Obstacle::TooManyWorkgroups { groups, limit } => {
                write!(f, "a dispatch has {groups:?} workgroups, a dimension takes {limit}")
            }
        }
    }
}

/// What keeps `program` from running on `device`, if anything.
pub(crate) fn obstacle(
    device: &GpuDevice,
    program: &GpuProgram,
    inputs: &[Option<TensorMeta>],
    outputs: &[Option<TensorMeta>],
) -> Option<Obstacle> {
    let limits = device.wgpu_limits();
    let fits = |bytes: u64| {
        let limit = device.max_binding();
        (bytes > limit).then_some(Obstacle::TooLarge { bytes, limit })
    };
    let tensor = |metas: &[Option<TensorMeta>], i: usize| {
        let meta = metas.get(i).and_then(Option::as_ref)?;
        gpu_len(meta).map_or(Some(Obstacle::Type(meta.dtype)), fits)
    };
    program.dispatches.iter().find_map(|dispatch| {
        let limit = limits.max_storage_buffers_per_shader_stage as usize;
        if dispatch.binds.len() > limit {
            return Some(Obstacle::TooManyBuffers { buffers: dispatch.binds.len(), limit });
        }
        let limit = limits.max_compute_workgroups_per_dimension;
        if dispatch.groups.iter().any(|&n| n > limit) {
            return Some(Obstacle::TooManyWorkgroups { groups: dispatch.groups, limit });
        }
        dispatch.binds.iter().find_map(|bind| match *bind {
            Bind::In(i) => tensor(inputs, i),
            Bind::Out(i) => tensor(outputs, i),
            Bind::Scratch(i) => fits(program.scratch[i] as u64 * 4),
        })
    })
}

/// The buffers of one node. A buffer of an empty tensor is never read or written: kernels know the sizes from their
/// parameters.
pub(crate) struct Operands<'a> {
    /// By operand; `None` where it is omitted.
    pub(crate) inputs: &'a [Option<&'a Buffer>],
    /// By result; `None` where nobody asked.
    pub(crate) outputs: &'a [Option<&'a Buffer>],
    /// By temporary.
    pub(crate) scratch: &'a [&'a Buffer],
}

impl Operands<'_> {
    fn buffer(&self, dispatch: &Dispatch, bind: Bind) -> Result<Buffer, GpuError> {
        let found = match bind {
            Bind::In(i) => self.inputs.get(i).copied().flatten(),
            Bind::Out(i) => self.outputs.get(i).copied().flatten(),
            Bind::Scratch(i) => self.scratch.get(i).copied(),
        };
        found.cloned().ok_or_else(|| {
            let message = format!("binds {bind:?}, which this node does not have");
            GpuError::new(GpuErrorKind::Launch, dispatch.label.as_ref(), message)
        })
    }
}

/// Collects dispatches; [`Launches::build`] compiles and binds them.
pub(crate) struct Launches<'a> {
    device: &'a GpuDevice,
    dispatches: Vec<(Dispatch, Vec<Buffer>)>,
}

impl<'a> Launches<'a> {
    pub(crate) fn new(device: &'a GpuDevice) -> Self {
        Self { device, dispatches: Vec::new() }
    }

    /// Adds the dispatches of a node; those without workgroups have nothing to do.
    pub(crate) fn add(
        &mut self,
        program: &GpuProgram,
        operands: &Operands<'_>,
    ) -> Result<(), GpuError> {
        for dispatch in program.dispatches.iter().filter(|d| !d.groups.contains(&0)) {
            let buffers = dispatch
                .binds
                .iter()
                .map(|&bind| operands.buffer(dispatch, bind))
                .collect::<Result<_, _>>()?;
            self.dispatches.push((dispatch.clone(), buffers));
        }
        Ok(())
    }

    /// Compiles what is not compiled yet, puts all parameters into one buffer and makes the bind groups.
    pub(crate) fn build(self) -> Result<BoundLaunches, GpuError> {
        let list: Vec<&Dispatch> = self.dispatches.iter().map(|(d, _)| d).collect();
        let pipelines = pipelines(self.device, &list)?;
        let params = Params::write(self.device, &list)?;
        let bound = self
            .dispatches
            .iter()
            .zip(pipelines)
            .enumerate()
            .map(|(i, ((dispatch, buffers), pipeline))| {
                let group = bind(self.device, dispatch, &pipeline, buffers, params.binding(i))?;
                Ok(Bound { pipeline, group, groups: dispatch.groups })
            })
            .collect::<Result<_, GpuError>>()?;
        Ok(BoundLaunches { bound })
    }
}

fn bind(
    device: &GpuDevice,
    dispatch: &Dispatch,
    pipeline: &Pipeline,
    buffers: &[Buffer],
    params: Option<BufferBinding<'_>>,
) -> Result<BindGroup, GpuError> {
    let entries: Vec<BindGroupEntry<'_>> = buffers
        .iter()
        .map(Buffer::as_entire_buffer_binding)
        .chain(params)
        .zip(0..)
        .map(|(buffer, binding)| BindGroupEntry {
            binding,
            resource: BindingResource::Buffer(buffer),
        })
        .collect();
    device.scoped(GpuErrorKind::Launch, &dispatch.label, |gpu| {
        gpu.create_bind_group(&BindGroupDescriptor {
            label: Some(&dispatch.label),
            layout: &pipeline.layout,
            entries: &entries,
        })
    })
}

/// The parameters of many dispatches in one uniform buffer.
struct Params {
    buffer: Option<Buffer>,
    /// By dispatch: where its parameters start and how many bytes they are.
    places: Vec<(u64, u64)>,
}

impl Params {
    fn write(device: &GpuDevice, dispatches: &[&Dispatch]) -> Result<Self, GpuError> {
        let align = u64::from(device.wgpu_limits().min_uniform_buffer_offset_alignment);
        let mut bytes: Vec<u8> = Vec::new();
        let mut places = Vec::with_capacity(dispatches.len());
        for dispatch in dispatches {
            bytes.resize((bytes.len() as u64).next_multiple_of(align) as usize, 0);
            let start = bytes.len() as u64;
            bytes.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            places.push((start, bytes.len() as u64 - start));
        }
        if bytes.is_empty() {
            return Ok(Self { buffer: None, places });
        }
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let buffer = device.buffer("parameters", bytes.len() as u64, usage)?;
        device.queue().write_buffer(&buffer, 0, &bytes);
        Ok(Self { buffer: Some(buffer), places })
    }

    fn binding(&self, i: usize) -> Option<BufferBinding<'_>> {
        let (offset, size) = self.places[i];
        let size = wgpu::BufferSize::new(size)?;
        Some(BufferBinding { buffer: self.buffer.as_ref()?, offset, size: Some(size) })
    }
}

/// Dispatches that can be recorded.
pub(crate) struct BoundLaunches {
    bound: Vec<Bound>,
}

struct Bound {
    pipeline: Arc<Pipeline>,
    group: BindGroup,
    groups: [u32; 3],
}

impl BoundLaunches {
    /// How many dispatches there are.
    pub(crate) fn len(&self) -> usize {
        self.bound.len()
    }

    /// Records some of the dispatches, in order, as one compute pass; wgpu adds the barriers between them.
    pub(crate) fn record(&self, encoder: &mut CommandEncoder, which: Range<usize>) {
        if which.is_empty() {
            return;
        }
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for bound in &self.bound[which] {
            let [x, y, z] = bound.groups;
            pass.set_pipeline(&bound.pipeline.pipeline);
            pass.set_bind_group(0, &bound.group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}
