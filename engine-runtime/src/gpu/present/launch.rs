//! Dispatches, compiled and with their parameters uploaded; bound to buffers and recorded any number of times.

use super::compile::pipeline;
use super::device::GpuDevice;
use super::notes::Notes;
use super::pipeline::{Pipeline, Trust};
use super::scope::Scope;
use super::stamps::Stamps;
use crate::gpu::{GpuError, GpuErrorKind};
use engine_ops::gpu::{Bind, Dispatch, GpuProgram};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding,
    BufferUsages, CommandEncoder, ComputePassDescriptor,
};

/// A program compiled.
#[derive(Debug)]
pub(crate) struct Kernel {
    dispatches: Vec<Compiled>,
    /// Words of each temporary buffer.
    pub(crate) scratch: Vec<usize>,
}

/// A dispatch without its text.
#[derive(Debug)]
struct Compiled {
    label: Cow<'static, str>,
    pipeline: Arc<Pipeline>,
    binds: Vec<Bind>,
    params: Vec<u32>,
    groups: [u32; 3],
}

impl Kernel {
    /// Compiles what is not compiled yet. Dispatches without workgroups have nothing to do and are left out.
    pub(crate) fn new(
        device: &GpuDevice,
        program: GpuProgram,
        trust: Trust,
    ) -> Result<Self, GpuError> {
        let busy = program.dispatches.into_iter().filter(|d| !d.groups.contains(&0));
        let compiled = busy.map(|dispatch| {
            let pipeline = pipeline(device, &dispatch, trust)?;
            let Dispatch { label, binds, params, groups, .. } = dispatch;
            Ok(Compiled { label, pipeline, binds, params, groups })
        });
        Ok(Self { dispatches: compiled.collect::<Result<_, _>>()?, scratch: program.scratch })
    }

    /// What its dispatches bind.
    pub(crate) fn binds(&self) -> impl Iterator<Item = Bind> + '_ {
        self.dispatches.iter().flat_map(|dispatch| dispatch.binds.iter().copied())
    }
}

/// The dispatches of several kernels, one after another.
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
    /// Uploads all parameters as one buffer.
    pub(crate) fn new<'k>(
        scope: &Scope<'_>,
        kernels: impl IntoIterator<Item = &'k Kernel>,
    ) -> Result<Self, GpuError> {
        let mut dispatches: Vec<(usize, &Compiled)> = Vec::new();
        let mut ranges = Vec::new();
        for (i, kernel) in kernels.into_iter().enumerate() {
            let start = dispatches.len();
            dispatches.extend(kernel.dispatches.iter().map(|dispatch| (i, dispatch)));
            ranges.push(start..dispatches.len());
        }
        let params = Params::write(scope, dispatches.iter().map(|(_, d)| d.params.as_slice()))?;
        let launches: Vec<Launch> = dispatches
            .into_iter()
            .map(|(program, dispatch)| Launch {
                label: dispatch.label.clone(),
                pipeline: dispatch.pipeline.clone(),
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

    /// Number of launches.
    pub(crate) fn len(&self) -> usize {
        self.launches.len()
    }

    /// The program that launch `i` belongs to, and what it binds.
    pub(crate) fn binds(&self, i: usize) -> (usize, &[Bind]) {
        let launch = &self.launches[i];
        (launch.program, &launch.binds)
    }

    /// The bind group of launch `i` over the buffers that `resolve` gives for what its program binds, but for what the program notes,
    /// which goes into `notes`.
    pub(crate) fn bind<'b>(
        &self,
        scope: &Scope<'_>,
        notes: &'b Notes,
        i: usize,
        resolve: impl Fn(usize, Bind) -> Option<&'b Buffer>,
    ) -> Result<BindGroup, GpuError> {
        let launch = &self.launches[i];
        let whole = |bind: Bind| match bind {
            Bind::Outside => notes.binding(self.noting.binary_search(&launch.program).ok()?),
            _ => Some(resolve(launch.program, bind)?.as_entire_buffer_binding()),
        };
        let buffers = launch.binds.iter().map(|&bind| whole(bind).ok_or(bind));
        let buffers: Vec<_> = buffers.collect::<Result<_, _>>().map_err(|bind| {
            let message = format!("binds {bind:?}, which its node does not have");
            GpuError::new(GpuErrorKind::Launch, launch.label.as_ref(), message)
        })?;
        let entries: Vec<BindGroupEntry<'_>> = buffers
            .into_iter()
            .chain(self.params.binding(i))
            .zip(0..)
            .map(|(buffer, binding)| BindGroupEntry {
                binding,
                resource: BindingResource::Buffer(buffer),
            })
            .collect();
        Ok(scope.bind_group(&BindGroupDescriptor {
            label: Some(&launch.label),
            layout: &launch.pipeline.layout,
            entries: &entries,
        }))
    }

    /// Records some of the launches, in order, as one compute pass; wgpu adds the barriers between them. Where launches are to be timed each
    /// has a pass of its own.
    pub(crate) fn record(
        &self,
        groups: &[Option<BindGroup>],
        encoder: &mut CommandEncoder,
        which: Range<usize>,
        stamps: Option<&Stamps>,
    ) {
        if let Some(stamps) = stamps {
            for i in which {
                let timestamp_writes = Some(stamps.pass(i));
                let descriptor = ComputePassDescriptor { label: None, timestamp_writes };
                self.dispatch(groups, encoder, &descriptor, i..i + 1);
            }
        } else if !which.is_empty() {
            self.dispatch(groups, encoder, &ComputePassDescriptor::default(), which);
        }
    }

    /// Records one compute pass.
    fn dispatch(
        &self,
        groups: &[Option<BindGroup>],
        encoder: &mut CommandEncoder,
        descriptor: &ComputePassDescriptor<'_>,
        which: Range<usize>,
    ) {
        let mut pass = encoder.begin_compute_pass(descriptor);
        let mut current: Option<&Arc<Pipeline>> = None;
        for (launch, group) in self.launches[which.clone()].iter().zip(&groups[which]) {
            if !current.is_some_and(|p| Arc::ptr_eq(p, &launch.pipeline)) {
                pass.set_pipeline(&launch.pipeline.pipeline);
                current = Some(&launch.pipeline);
            }
            let [x, y, z] = launch.groups;
            pass.set_bind_group(0, group.as_ref(), &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// The parameters of many dispatches in one uniform buffer.
struct Params {
    buffer: Option<Buffer>,
    /// By dispatch: where its parameters start and how many bytes they are.
    places: Vec<(u64, u64)>,
}

impl Params {
    fn write<'p>(
        scope: &Scope<'_>,
        dispatches: impl Iterator<Item = &'p [u32]>,
    ) -> Result<Self, GpuError> {
        let align = u64::from(scope.wgpu_limits().min_uniform_buffer_offset_alignment);
        let mut bytes: Vec<u8> = Vec::new();
        let mut places = Vec::new();
        for params in dispatches {
            if !params.is_empty() {
                bytes.resize((bytes.len() as u64).next_multiple_of(align) as usize, 0);
            }
            let start = bytes.len();
            bytes.extend_from_slice(bytemuck::cast_slice(params));
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            places.push((start as u64, (bytes.len() - start) as u64));
        }
        if bytes.is_empty() {
            return Ok(Self { buffer: None, places });
        }
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let buffer = scope.buffer("parameters", bytes.len() as u64, usage)?;
        scope.queue().write_buffer(&buffer, 0, &bytes);
        Ok(Self { buffer: Some(buffer), places })
    }

    fn binding(&self, i: usize) -> Option<BufferBinding<'_>> {
        let (offset, size) = self.places[i];
        let size = wgpu::BufferSize::new(size)?;
        Some(BufferBinding { buffer: self.buffer.as_ref()?, offset, size: Some(size) })
    }
}
