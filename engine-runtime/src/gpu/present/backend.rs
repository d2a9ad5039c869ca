//! Running segments on a GPU.

use super::context::{Context, Lease};
use super::device::GpuDevice;
use super::held::{GpuTensor, OnDevice};
use super::lower::GpuLowered;
use super::resident::{Constant, GpuResident};
use super::schedule::Op;
use super::scope::Scope;
use super::stamps::Stamps;
use crate::backend::{Backend, Constants, Finished, Run, foreign};
use crate::cpu::kernel::{evaluate, node_error, tensor};
use crate::error::{RunError, RunErrorKind};
use crate::gpu::{GpuError, GpuErrorKind};
use crate::held::{DeviceTensor, Held};
use crate::limits::MemoryLimits;
use crate::placement::Placement;
use crate::plan::program::Program;
use crate::plan::{Operand, Place, Segment};
use crate::profile::StepTime;
use crate::runner::{Loaded, Runner};
use crate::threads;
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::TensorMeta;
use engine_ops::parallel;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgpu::{CommandEncoder, SubmissionIndex};

/// A value handed from one segment to the next: on the device, on the host, or both.
#[derive(Clone)]
pub struct Carried {
    meta: TensorMeta,
    host: Option<Tensor>,
    device: Option<OnDevice>,
}

impl GpuDevice {
    /// A program with its constants here.
    pub(crate) fn runner(
        &self,
        program: Arc<Program>,
        constants: Constants,
        limits: MemoryLimits,
    ) -> Result<Box<dyn Runner>, RunError> {
        Ok(Box::new(Loaded::new(Arc::new(self.clone()), program, constants, limits)?))
    }
}

impl Backend for GpuDevice {
    const CHOOSES: bool = true;

    type Constant = Arc<Constant>;
    type Resident = GpuResident;
    type Lowered = GpuLowered;
    type Carried = Carried;

    fn constant(&self, tensor: &Tensor, halves: bool) -> Result<Arc<Constant>, RunError> {
        Ok(Arc::new(Constant::new(self, tensor, halves)?))
    }

    fn moved(
        &self,
        constants: &[(ValueId, &Tensor)],
        halves: &BTreeSet<ValueId>,
    ) -> Result<BTreeMap<ValueId, Arc<Constant>>, RunError> {
        // They differ much in size, so each is a task of its own.
        let constants = constants.par_iter().with_max_len(1);
        constants
            .map(|&(id, tensor)| Ok((id, self.constant(tensor, halves.contains(&id))?)))
            .collect()
    }

    fn relocated(&self, constant: &Arc<Constant>, tensor: &Tensor) -> Arc<Constant> {
        constant.relocated(tensor).map_or_else(|| constant.clone(), Arc::new)
    }

    fn compact(&self, constant: &Arc<Constant>) -> Arc<Constant> {
        constant.compact().map_or_else(|| constant.clone(), Arc::new)
    }

    #[cfg(test)]
    fn on_host(&self, constant: &Arc<Constant>) -> Option<Tensor> {
        constant.on_host()
    }

    fn resident(
        &self,
        constants: BTreeMap<ValueId, Arc<Constant>>,
        previous: Option<(&GpuResident, &BTreeSet<ValueId>)>,
    ) -> Result<GpuResident, RunError> {
        // A version that is there is there on the device: what fails on the way fails before the one before it is replaced.
        if previous.is_none_or(|(_, changed)| !changed.is_empty()) {
            self.wait(self.queue().submit([]))?;
        }
        Ok(GpuResident::new(constants))
    }

    fn constants<'r>(&self, resident: &'r GpuResident) -> &'r BTreeMap<ValueId, Arc<Constant>> {
        &resident.constants
    }

    fn bytes(&self, constant: &Arc<Constant>) -> [u64; 2] {
        constant.bytes()
    }

    fn kept(&self, lowered: &[&GpuLowered]) -> u64 {
        lowered.iter().map(|lowered| lowered.pool.bytes()).sum()
    }

    fn trim(&self, lowered: &[&GpuLowered]) {
        lowered.iter().for_each(|lowered| lowered.pool.clear());
    }

    fn leave(&self, carried: Carried) -> Result<DeviceTensor, RunError> {
        let Carried { meta, host, device } = carried;
        match (device, host) {
            (Some(place), _) => {
                let device = self.clone();
                Ok(DeviceTensor::new(Held::Gpu(GpuTensor { device, meta, place })))
            }
            (None, Some(tensor)) => Ok(DeviceTensor::new(Held::Host(tensor))),
            (None, None) => {
                let what = "internal error: a result is neither on the device nor on the host";
                Err(RunError::new(RunErrorKind::Device, what))
            }
        }
    }

    fn take(&self, value: &DeviceTensor) -> Result<Carried, RunError> {
        match value.held() {
            Held::Gpu(tensor) if tensor.is_on(self) => Ok(Carried {
                meta: tensor.meta.clone(),
                host: None,
                device: Some(tensor.place.clone()),
            }),
            Held::Gpu(_) => Err(foreign(value, self.adapter())),
            Held::Host(tensor) => {
                Ok(Carried { meta: value.meta(), host: Some(tensor.clone()), device: None })
            }
        }
    }

    fn lower(
        &self,
        segment: &Arc<Segment>,
        halves: &BTreeSet<ValueId>,
        like: Option<&GpuLowered>,
    ) -> Result<GpuLowered, RunError> {
        GpuLowered::new(self, segment, halves, like)
    }

    fn cost(&self, lowered: &GpuLowered) -> usize {
        lowered.cost()
    }

    fn memory(&self, _segment: &Segment, lowered: &GpuLowered) -> u64 {
        lowered.schedule.memory.total()
    }

    fn placement(&self, lowered: &GpuLowered) -> Vec<Placement> {
        lowered.placement.clone()
    }

    fn run(&self, run: Run<'_, Self>) -> Result<Finished<Carried>, RunError> {
        self.scoped(GpuErrorKind::Launch, "a run", |scope| {
            let (pool, schedule) = (&run.lowered.pool, &run.lowered.schedule);
            let mut lease = pool.lease(scope, run.segment, schedule, run.resident)?;
            let carried = on_host(scope, &run, &mut lease)?;
            let host = vec![None; run.segment.buffers.len()];
            let stamps = match run.options.profile {
                Some(_) => Stamps::new(scope, schedule.launches.len())?,
                None => None,
            };
            let values = Values { scope, run, carried, host };
            let (launched, pending, on_cpu) = (0, 0, Vec::new());
            let mut execution =
                Execution { scope, values, lease, launched, pending, stamps, on_cpu };
            execution.upload()?;
            execution.steps()?;
            let results = execution.results()?;
            execution.finish(results)
        })
    }
}

/// Carried values, those that the host reads brought there.
fn on_host(
    scope: &Scope<'_>,
    run: &Run<'_, GpuDevice>,
    lease: &mut Lease,
) -> Result<Vec<Carried>, GpuError> {
    let mut carried = run.carried.to_vec();
    let wanted: Vec<usize> = run
        .lowered
        .schedule
        .fetch_carried
        .iter()
        .copied()
        .filter(|&i| carried[i].host.is_none())
        .collect();
    if wanted.is_empty() {
        return Ok(carried);
    }
    let metas: Vec<TensorMeta> = wanted.iter().map(|&i| carried[i].meta.clone()).collect();
    let readback = lease.carried_back(scope, &metas)?;
    let submission = scope.submit(|encoder| {
        for (part, &i) in wanted.iter().enumerate() {
            if let Some(on_device) = &carried[i].device {
                readback.record(encoder, part, &on_device.buffer);
            }
        }
    });
    for (i, tensor) in wanted.into_iter().zip(readback.read(scope, submission)?) {
        carried[i].host = Some(tensor);
    }
    Ok(carried)
}

/// What a run has on the host.
struct Values<'a> {
    scope: &'a Scope<'a>,
    run: Run<'a, GpuDevice>,
    carried: Vec<Carried>,
    /// By buffer of the segment: its value, if it is on the host.
    host: Vec<Option<Tensor>>,
}

impl Values<'_> {
    /// An operand on the host. The schedule brought it there.
    fn get(&self, operand: &Operand) -> Result<Tensor, RunError> {
        let Operand { place, meta, .. } = operand;
        if meta.is_empty() {
            return Ok(Tensor::zeros(meta.dtype, &meta.shape));
        }
        let absent = || {
            let what = format!("internal error: {place:?} is not on the host where it is read");
            RunError::new(RunErrorKind::Device, what)
        };
        let value = match *place {
            Place::Input(i) => self.run.inputs[i].clone(),
            Place::Resident(id) => {
                self.run.resident.constant(id).ok_or_else(absent)?.fetch(self.scope)?
            }
            Place::Constant(i) => self.run.segment.constants[i].tensor.clone(),
            Place::Carried(i) => self.carried[i].host.clone().ok_or_else(absent)?,
            Place::Buffer(b) => self.host[b].clone().ok_or_else(absent)?,
        };
        // A view has another shape than what it views.
        tensor(meta, value.into_bytes())
            .map_err(|why| RunError::new(RunErrorKind::Node, format!("a value: {why}")))
    }

    /// What the next segment reads of `operand`. Values in this run's memory keep its context from other runs.
    fn carry(&self, operand: &Operand, lease: &Arc<Lease>) -> Result<Carried, RunError> {
        let meta = operand.meta.clone();
        match operand.place {
            Place::Carried(i) => Ok(Carried { meta, ..self.carried[i].clone() }),
            Place::Buffer(b) if self.host[b].is_none() && !meta.is_empty() => {
                let buffer = lease.buffer(self.run.lowered.schedule.locations[b]).cloned();
                let device = buffer.map(|buffer| OnDevice::new(buffer, lease.clone()));
                Ok(Carried { meta, host: None, device })
            }
            _ => Ok(Carried { meta, host: Some(self.get(operand)?), device: None }),
        }
    }
}

/// A run under way.
struct Execution<'a> {
    scope: &'a Scope<'a>,
    values: Values<'a>,
    lease: Lease,
    /// Launches submitted so far.
    launched: usize,
    /// Launches to be submitted next end here.
    pending: usize,
    /// Where the launches note their times, if anybody asked for those.
    stamps: Option<Stamps>,
    /// Steps that ran on the CPU of a run whose times somebody asked for.
    on_cpu: Vec<(usize, Range<Instant>)>,
}

impl Execution<'_> {
    /// Sends what kernels read from the host and makes the bind groups that are missing.
    fn upload(&mut self) -> Result<(), GpuError> {
        let Run { segment, lowered, resident, inputs, .. } = self.values.run;
        let schedule = &lowered.schedule;
        let carried = &self.values.carried;
        for (&place, &bytes) in &schedule.memory.given {
            let tensor = match place {
                Place::Input(i) => Some(&inputs[i]),
                Place::Carried(i) if carried[i].device.is_none() => carried[i].host.as_ref(),
                _ => None,
            };
            if let Some(tensor) = tensor {
                let target = |_: &Context| Some(self.scope.storage("input", bytes));
                self.lease.send(self.scope, place, tensor, target)?;
            }
        }
        let on_device = |place: Place| match place {
            Place::Carried(i) => Some(carried[i].device.as_ref()?.buffer.clone()),
            _ => None,
        };
        self.lease.bind(self.scope, segment, schedule, resident, on_device)
    }

    fn steps(&mut self) -> Result<(), RunError> {
        let mut fetches = 0;
        for op in &self.values.run.lowered.schedule.ops {
            self.values.run.options.check()?;
            match op {
                Op::Launch(end) => self.pending = *end,
                Op::Fetch(buffers) => {
                    self.fetch(fetches, buffers)?;
                    fetches += 1;
                }
                Op::Host(step) => self.on_cpu(*step)?,
            }
        }
        Ok(())
    }

    /// Submits what the host wrote, the launches that wait, as one compute pass, and what `read` records after them.
    fn flush(&mut self, read: impl FnOnce(&Context, &mut CommandEncoder)) -> SubmissionIndex {
        let launches = &self.values.run.lowered.schedule.launches;
        let (waiting, lease) = (self.launched..self.pending, &mut self.lease);
        let stamps = self.stamps.as_ref();
        let submission = self.scope.submit(|encoder| {
            lease.uploads().for_each(|upload| upload.record(encoder));
            if waiting.start == 0 {
                lease.notes.clear(encoder);
            }
            launches.record(lease.groups(), encoder, waiting, stamps);
            read(lease, encoder);
        });
        lease.uploads().for_each(|upload| upload.submitted(&submission));
        self.launched = self.pending;
        submission
    }

    fn fetch(&mut self, which: usize, buffers: &[usize]) -> Result<(), GpuError> {
        let locations = &self.values.run.lowered.schedule.locations;
        let submission = self.flush(|context, encoder| {
            for (part, &b) in buffers.iter().enumerate() {
                if let Some(buffer) = context.buffer(locations[b]) {
                    context.fetches[which].record(encoder, part, buffer);
                }
            }
        });
        let tensors = self.lease.fetches[which].read(self.scope, submission)?;
        for (&b, tensor) in buffers.iter().zip(tensors) {
            self.values.host[b] = Some(tensor);
        }
        Ok(())
    }

    fn on_cpu(&mut self, number: usize) -> Result<(), RunError> {
        let Run { segment, lowered, draws, options, .. } = self.values.run;
        let step = &segment.steps[number];
        let begun = options.profile.is_some().then(Instant::now);
        let inputs = step
            .inputs
            .iter()
            .map(|o| o.as_ref().map(|o| self.values.get(o)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let evaluate = || evaluate(step.def, &step.attrs, &inputs, &step.output_metas(), draws);
        let results = parallel::with(threads::shared(), evaluate).map_err(|why| {
            node_error(RunErrorKind::Node, step.def, &step.path, &step.input_metas(), &why)
        })?;
        self.on_cpu.extend(begun.map(|begun| (number, begun..Instant::now())));
        for (output, result) in step.outputs.iter().zip(results) {
            let (Some(output), Some(result)) = (output, result) else { continue };
            let location = lowered.schedule.locations[output.buffer];
            let target = |context: &Context| Some(Ok(context.buffer(location)?.clone()));
            self.lease.send(self.scope, Place::Buffer(output.buffer), &result, target)?;
            self.values.host[output.buffer] = Some(result);
        }
        Ok(())
    }

    /// Submits the rest and reads the results that are on the device. An index that lies outside is an error then.
    fn results(&mut self) -> Result<Vec<Tensor>, RunError> {
        self.values.run.options.check()?;
        let Run { segment, lowered, .. } = self.values.run;
        let noting = self.lease.notes.buffer().is_some();
        let reads = !lowered.schedule.results.is_empty() || noting;
        if self.launched == self.pending && !reads {
            return Ok(Vec::new());
        }
        let source = |context: &Context, i: usize| match segment.host[i].place {
            Place::Buffer(b) => context.buffer(lowered.schedule.locations[b]).cloned(),
            _ => None,
        };
        let submission = self.flush(|context, encoder| {
            let results = lowered.schedule.results.iter().map(|&i| source(context, i));
            let notes = context.notes.buffer().map(|notes| Some(notes.clone()));
            for (part, buffer) in results.chain(notes).enumerate() {
                if let Some(buffer) = buffer {
                    context.results.record(encoder, part, &buffer);
                }
            }
        });
        if !reads {
            return Ok(Vec::new());
        }
        let mut read = self.lease.results.read(self.scope, submission)?;
        let noted = read.pop_if(|_| noting).and_then(|read| self.lease.notes.first(&read));
        if let Some((i, why)) = noted {
            let step =
                &segment.steps[lowered.schedule.steps[lowered.schedule.launches.noting()[i]]];
            let kind = RunErrorKind::Node;
            return Err(node_error(kind, step.def, &step.path, &step.input_metas(), &why));
        }
        Ok(read)
    }

    /// Tells whoever asked how long the steps took. All launches were submitted.
    fn tell_times(&mut self) -> Result<(), GpuError> {
        let Run { segment, lowered, options, .. } = self.values.run;
        let Some(profile) = &options.profile else { return Ok(()) };
        let mut times: Vec<(usize, Duration, Instant)> = self
            .on_cpu
            .drain(..)
            .map(|(step, time)| (step, time.end - time.start, time.end))
            .collect();
        if let Some(stamps) = self.stamps.take() {
            let launches = stamps.read(self.scope)?;
            let over = Instant::now();
            let last = launches.iter().map(|time| time.end).max().unwrap_or_default();
            for (program, &step) in lowered.schedule.steps.iter().enumerate() {
                let own = &launches[lowered.schedule.launches.program(program)];
                let Some(end) = own.last().map(|time| time.end) else { continue };
                // The last launch ended before its stamps were read; how long before cannot be told.
                let end = over.checked_sub(last - end).unwrap_or(over);
                times.push((step, own.iter().map(|time| time.end - time.start).sum(), end));
            }
        }
        times.sort_by_key(|&(step, ..)| step);
        for (step, time, end) in times {
            let step = &segment.steps[step];
            profile.receive(&StepTime { path: &step.path, op: step.def.name, step, time, end });
        }
        Ok(())
    }

    fn finish(mut self, read: Vec<Tensor>) -> Result<Finished<Carried>, RunError> {
        self.tell_times()?;
        let Self { values, mut lease, .. } = self;
        let segment = values.run.segment;
        let mut read = values.run.lowered.schedule.results.iter().zip(read).peekable();
        let mut host = Vec::with_capacity(segment.host.len());
        for (i, operand) in segment.host.iter().enumerate() {
            host.push(match read.next_if(|(at, _)| **at == i) {
                Some((_, tensor)) => tensor,
                None => values.get(operand)?,
            });
        }
        lease.finished();
        let lease = Arc::new(lease);
        let carry = segment.carry.iter().map(|o| values.carry(o, &lease));
        Ok(Finished { host, carry: carry.collect::<Result<_, _>>()? })
    }
}
