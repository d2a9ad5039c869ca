//! Dispatches, compiled and with their parameters uploaded; bound to buffers and recorded any number of times.

use super::device::GpuDevice;
use super::error::{GpuError, GpuErrorKind};
use super::notes::Notes;
use super::pipeline::{Pipeline, Trust, pipelines};
use engine_ops::gpu::{Bind, Dispatch, GpuProgram};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding,
    BufferUsages, CommandEncoder, ComputePassDescriptor,
};

/// The dispatches of several programs, one after another.
pub(crate) struct LaunchList {
    launches: Vec<Launch>,
    params: Params,
    /// By program: its launches.
    programs: Vec<Range<usize>>,
    /// The programs that may note an index outside, in order.
    noting: Vec<usize>,
}

struct Launch {
    label: Cow<'static, str>,
    pipeline: Arc<Pipeline>,
    program: usize,
    binds: Vec<Bind>,
    groups: [u32; 3],
}

impl LaunchList {
    /// Compiles what is not compiled yet and uploads all parameters as one buffer. Dispatches without workgroups have
    /// nothing to do and are left out.
    pub(crate) fn new(
        device: &GpuDevice,
        programs: &[(&GpuProgram, Trust)],
    ) -> Result<Self, GpuError> {
        let mut dispatches: Vec<(usize, &Dispatch)> = Vec::new();
        let mut ranges = Vec::with_capacity(programs.len());
        for (i, (program, _)) in programs.iter().enumerate() {
            let start = dispatches.len();
            let busy = program.dispatches.iter().filter(|d| !d.groups.contains(&0));
            dispatches.extend(busy.map(|dispatch| (i, dispatch)));
            ranges.push(start..dispatches.len());
        }
        let list: Vec<(&Dispatch, Trust)> =
            dispatches.iter().map(|&(program, d)| (d, programs[program].1)).collect();
        let params = Params::write(device, &list)?;
        let pipelines = pipelines(device, &list)?;
        let launches: Vec<Launch> = dispatches
            .into_iter()
            .zip(pipelines)
            .map(|((program, dispatch), pipeline)| Launch {
                label: dispatch.label.clone(),
                pipeline,
                program,
                binds: dispatch.binds.clone(),
                groups: dispatch.groups,
            })
            .collect();
        let notes = |launch: &&Launch| launch.binds.contains(&Bind::Outside);
        let mut noting: Vec<usize> = launches.iter().filter(notes).map(|l| l.program).collect();
        noting.dedup();
        Ok(Self { launches, params, programs: ranges, noting })
    }

    /// The programs that may note an index outside, in order.
    pub(crate) fn noting(&self) -> &[usize] {
        &self.noting
    }

    /// The launches of program `i`.
    pub(crate) fn program(&self, i: usize) -> Range<usize> {
        self.programs[i].clone()
    }

    /// Bytes of GPU memory that parameters take.
    pub(crate) fn param_bytes(&self) -> u64 {
        self.params.buffer.as_ref().map_or(0, Buffer::size)
    }

    /// Bind groups over the buffers that `resolve` gives for a program's bindings, but for what programs note, which goes into
    /// `notes`.
    pub(crate) fn bind<'b>(
        &self,
        device: &GpuDevice,
        notes: &'b Notes,
        resolve: impl Fn(usize, Bind) -> Option<&'b Buffer>,
    ) -> Result<Vec<BindGroup>, GpuError> {
        let whole = |program: usize, bind: Bind| match bind {
            Bind::Outside => notes.binding(self.noting.binary_search(&program).ok()?),
            _ => Some(resolve(program, bind)?.as_entire_buffer_binding()),
        };
        let group = |(i, launch): (usize, &Launch)| {
            let buffers: Vec<BufferBinding<'_>> = launch
                .binds
                .iter()
                .map(|&bind| whole(launch.program, bind).ok_or(bind))
                .collect::<Result<_, _>>()
                .map_err(|bind| {
                    let message = format!("binds {bind:?}, which its node does not have");
                    GpuError::new(GpuErrorKind::Launch, launch.label.as_ref(), message)
                })?;
            launch.bind(device, buffers, self.params.binding(i))
        };
        self.launches.iter().enumerate().map(group).collect()
    }

    /// Records some of the launches, in order, as one compute pass; wgpu adds the barriers between them.
    pub(crate) fn record(
        &self,
        groups: &[BindGroup],
        encoder: &mut CommandEncoder,
        which: Range<usize>,
    ) {
        if which.is_empty() {
            return;
        }
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        let mut current: Option<&Arc<Pipeline>> = None;
        for (launch, group) in self.launches[which.clone()].iter().zip(&groups[which]) {
            if !current.is_some_and(|p| Arc::ptr_eq(p, &launch.pipeline)) {
                pass.set_pipeline(&launch.pipeline.pipeline);
                current = Some(&launch.pipeline);
            }
            let [x, y, z] = launch.groups;
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

impl Launch {
    fn bind(
        &self,
        device: &GpuDevice,
        buffers: Vec<BufferBinding<'_>>,
        params: Option<BufferBinding<'_>>,
    ) -> Result<BindGroup, GpuError> {
        let entries: Vec<BindGroupEntry<'_>> = buffers
            .into_iter()
            .chain(params)
            .zip(0..)
            .map(|(buffer, binding)| BindGroupEntry {
                binding,
                resource: BindingResource::Buffer(buffer),
            })
            .collect();
        device.scoped(GpuErrorKind::Launch, &self.label, |gpu| {
            gpu.create_bind_group(&BindGroupDescriptor {
                label: Some(&self.label),
                layout: &self.pipeline.layout,
                entries: &entries,
            })
        })
    }
}

/// The parameters of many dispatches in one uniform buffer.
struct Params {
    buffer: Option<Buffer>,
    /// By dispatch: where its parameters start and how many bytes they are.
    places: Vec<(u64, u64)>,
}

impl Params {
    fn write(device: &GpuDevice, dispatches: &[(&Dispatch, Trust)]) -> Result<Self, GpuError> {
        let align = u64::from(device.wgpu_limits().min_uniform_buffer_offset_alignment);
        let mut bytes: Vec<u8> = Vec::new();
        let mut places = Vec::with_capacity(dispatches.len());
        for (dispatch, _) in dispatches {
            if !dispatch.params.is_empty() {
                bytes.resize((bytes.len() as u64).next_multiple_of(align) as usize, 0);
            }
            let start = bytes.len();
            bytes.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            places.push((start as u64, (bytes.len() - start) as u64));
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
