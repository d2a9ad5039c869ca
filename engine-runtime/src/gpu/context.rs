//! The memory of one run, kept for later runs of the same segment.

use super::device::GpuDevice;
use super::error::GpuError;
use super::lower::{GpuLowered, Home, Op};
use super::notes::Notes;
use super::resident::GpuResident;
use super::transfer::Readback;
use crate::plan::{Place, Segment};
use engine_ops::gpu::Bind;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{BindGroup, Buffer};

/// Contexts that no run uses at present.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Context>>,
}

impl Pool {
    /// Drops the bind groups made for constants `resident`.
    pub(crate) fn forget(&self, resident: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        for context in &mut *idle {
            context.bound.take_if(|bound| bound.resident == resident);
        }
    }
}

/// The buffers of one run at a time.
pub(crate) struct Context {
    slots: Vec<Buffer>,
    own: Vec<Buffer>,
    scratch: Vec<Buffer>,
    pub(crate) inputs: BTreeMap<usize, Buffer>,
    /// For carried values that come from the host; made when one does.
    carried: BTreeMap<usize, Buffer>,
    /// What shaders note of indices that lie outside.
    pub(crate) notes: Notes,
    /// For the segment's results, and the notes behind them.
    pub(crate) results: Readback,
    /// For each [`Op::Fetch`], in order.
    pub(crate) fetches: Vec<Readback>,
    bound: Option<Bound>,
}

/// Bind groups, and the buffers from outside the context that they were made for.
struct Bound {
    resident: u64,
    carried: Vec<Option<Buffer>>,
    groups: Vec<BindGroup>,
}

impl Context {
    fn new(device: &GpuDevice, segment: &Segment, lowered: &GpuLowered) -> Result<Self, GpuError> {
        let memory = &lowered.memory;
        let all = |label: &str, sizes: &[u64]| -> Result<Vec<Buffer>, GpuError> {
            sizes.iter().map(|&bytes| device.storage(label, bytes)).collect()
        };
        let inputs = memory.inputs.iter().map(|(&i, &n)| Ok((i, device.storage("input", n)?)));
        let notes = Notes::new(device, lowered.launches.noting().len())?;
        let results = lowered.results.iter().map(|&i| segment.host[i].meta.clone());
        let results: Vec<_> = results.chain(notes.meta()).collect();
        let fetches = lowered.ops.iter().filter_map(|op| match op {
            Op::Fetch(buffers) => {
                let metas: Vec<_> =
                    buffers.iter().map(|&b| segment.buffers[b].meta.clone()).collect();
                Some(Readback::new(device, &metas))
            }
            Op::Launch(_) | Op::Host(_) => None,
        });
        Ok(Self {
            slots: all("slot", &memory.slots)?,
            own: all("value", &memory.own)?,
            scratch: all("temporary", &memory.scratch)?,
            inputs: inputs.collect::<Result<_, GpuError>>()?,
            carried: BTreeMap::new(),
            notes,
            results: Readback::new(device, &results)?,
            fetches: fetches.collect::<Result<_, _>>()?,
            bound: None,
        })
    }

    /// The memory of a buffer of the segment, if it has any on the device.
    pub(crate) fn buffer(&self, home: Home) -> Option<&Buffer> {
        match home {
            Home::Host => None,
            Home::Slot(i) => self.slots.get(i),
            Home::Own(i) => self.own.get(i),
        }
    }

    /// The bind groups for these constants and carried values: the ones of the last run if nothing changed.
    pub(crate) fn bind(
        &mut self,
        device: &GpuDevice,
        segment: &Segment,
        lowered: &GpuLowered,
        resident: &GpuResident,
        carried: Vec<Option<Buffer>>,
    ) -> Result<(), GpuError> {
        let fits = |b: &Bound| b.resident == resident.id && b.carried == carried;
        if !self.bound.as_ref().is_some_and(fits) {
            let resolve = |program: usize, bind: Bind| {
                let step = &segment.steps[lowered.steps[program]];
                let operand = match bind {
                    // Bound by the launches themselves.
                    Bind::Outside => return None,
                    Bind::Scratch(i) => return self.scratch.get(i),
                    Bind::Out(i) => {
                        return self.buffer(lowered.homes[step.outputs.get(i)?.as_ref()?.buffer]);
                    }
                    Bind::In(i) => step.inputs.get(i)?.as_ref()?,
                };
                match operand.place {
                    Place::Input(i) => self.inputs.get(&i),
                    Place::Resident(id) => resident.buffer(id),
                    Place::Constant(i) => lowered.constants.get(&i),
                    Place::Buffer(b) => self.buffer(lowered.homes[b]),
                    Place::Carried(i) => carried.get(i)?.as_ref(),
                }
            };
            let groups = lowered.launches.bind(device, &self.notes, resolve)?;
            resident.used_by(&lowered.pool);
            self.bound = Some(Bound { resident: resident.id, carried, groups });
        }
        Ok(())
    }

    /// The buffer for a carried value that comes from the host.
    pub(crate) fn carried_buffer(
        &mut self,
        device: &GpuDevice,
        i: usize,
        bytes: u64,
    ) -> Result<Buffer, GpuError> {
        if let Some(buffer) = self.carried.get(&i) {
            return Ok(buffer.clone());
        }
        let buffer = device.storage("carried", bytes)?;
        self.carried.insert(i, buffer.clone());
        Ok(buffer)
    }

    /// The bind groups that [`Self::bind`] made.
    pub(crate) fn groups(&self) -> &[BindGroup] {
        self.bound.as_ref().map_or(&[], |b| &b.groups)
    }
}

/// A context in use: it goes back to the pool when the run, and whoever reads the values it carried on, are done.
pub(crate) struct Lease {
    /// Always there until the lease is dropped.
    context: Option<Context>,
    pool: Arc<Pool>,
    /// The run went through. The memory of one that failed may still be in use or mapped, and is not used again.
    finished: bool,
}

impl Lease {
    /// An idle context, or a new one.
    pub(crate) fn take(
        device: &GpuDevice,
        segment: &Segment,
        lowered: &GpuLowered,
    ) -> Result<Self, GpuError> {
        let idle = lowered.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let context = match idle {
            Some(context) => context,
            None => Context::new(device, segment, lowered)?,
        };
        Ok(Self { context: Some(context), pool: lowered.pool.clone(), finished: false })
    }
}

impl Lease {
    /// Marks the memory as fit for another run.
    pub(crate) fn finished(&mut self) {
        self.finished = true;
    }
}

impl Deref for Lease {
    type Target = Context;
    fn deref(&self) -> &Context {
        self.context.as_ref().expect("taken only by drop")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Context {
        self.context.as_mut().expect("taken only by drop")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let context = self.context.take().filter(|_| self.finished);
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(context);
    }
}
