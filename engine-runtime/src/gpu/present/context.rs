//! The memory of one run, kept for later runs of the same segment.

use super::bindings::{Bindings, Outer};
use super::notes::Notes;
use super::resident::{GpuResident, Holder};
use super::schedule::{Location, Op, Schedule};
use super::scope::Scope;
use super::transfer::{Readback, Upload};
use crate::gpu::GpuError;
use crate::plan::{Place, Segment};
use engine_format::Tensor;
use engine_ops::cpu::{TensorMeta, TensorRef};
use engine_ops::gpu::Bind;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wgpu::{BindGroup, Buffer};

/// Contexts that no run uses at present.
pub(crate) struct Pool {
    idle: Mutex<Vec<Context>>,
    /// What kernels read from outside of a context.
    outer: Vec<Outer>,
}

impl Pool {
    pub(crate) fn new(outer: Vec<Outer>) -> Self {
        Self { idle: Mutex::default(), outer }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Context>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the contexts that no run uses.
    pub(crate) fn bytes(&self) -> u64 {
        self.idle().iter().map(Context::bytes).sum()
    }

    /// Lets go of them.
    pub(crate) fn clear(&self) {
        self.idle().clear();
    }

    /// An idle context, one that was last bound to these constants if there is one; else a new one.
    pub(crate) fn lease(
        self: &Arc<Self>,
        scope: &Scope<'_>,
        segment: &Segment,
        schedule: &Schedule,
        resident: &GpuResident,
    ) -> Result<Lease, GpuError> {
        let idle = {
            let mut idle = self.idle();
            let bound = |context: &Context| context.bindings.resident() == Some(resident.id);
            match idle.iter().rposition(bound) {
                Some(at) => Some(idle.remove(at)),
                None => idle.pop(),
            }
        };
        let context = match idle {
            Some(context) => context,
            None => Context::new(scope, segment, schedule, self.outer.len())?,
        };
        Ok(Lease { context: Some(context), pool: self.clone(), finished: false })
    }
}

impl Holder for Pool {
    fn sweep(&self) {
        self.idle().iter_mut().for_each(|context| context.bindings.sweep(&self.outer));
    }
}

/// The buffers of one run at a time.
pub(crate) struct Context {
    slots: Vec<Buffer>,
    own: Vec<Buffer>,
    scratch: Vec<Buffer>,
    /// The ways of values from the host, by what they are in the plan; made when they are first taken.
    uploads: BTreeMap<Place, Upload>,
    /// For carried values that the host reads; made when it does.
    carried_back: Option<Readback>,
    /// What shaders note of indices that lie outside.
    pub(crate) notes: Notes,
    /// For the segment's results, and the notes behind them.
    pub(crate) results: Readback,
    /// For each [`Op::Fetch`], in order.
    pub(crate) fetches: Vec<Readback>,
    bindings: Bindings,
}

impl Context {
    fn new(
        scope: &Scope<'_>,
        segment: &Segment,
        schedule: &Schedule,
        outer: usize,
    ) -> Result<Self, GpuError> {
        let memory = &schedule.memory;
        let all = |label: &str, sizes: &[u64]| {
            sizes.iter().map(|&bytes| scope.storage(label, bytes)).collect::<Result<Vec<_>, _>>()
        };
        let notes = Notes::new(scope, schedule.launches.noting().len())?;
        let results = schedule.results.iter().map(|&i| segment.host[i].meta.clone());
        let results: Vec<_> = results.chain(notes.meta()).collect();
        let fetches = schedule.ops.iter().filter_map(|op| match op {
            Op::Fetch(buffers) => {
                let metas: Vec<_> =
                    buffers.iter().map(|&b| segment.buffers[b].meta.clone()).collect();
                Some(Readback::new(scope, &metas))
            }
            Op::Launch(_) | Op::Host(_) => None,
        });
        Ok(Self {
            slots: all("slot", &memory.slots)?,
            own: all("value", &memory.own)?,
            scratch: all("temporary", &memory.scratch)?,
            uploads: BTreeMap::new(),
            carried_back: None,
            notes,
            results: Readback::new(scope, &results)?,
            fetches: fetches.collect::<Result<_, _>>()?,
            bindings: Bindings::new(schedule.launches.len(), outer),
        })
    }

    fn bytes(&self) -> u64 {
        let buffers = [&self.slots, &self.own, &self.scratch].into_iter().flatten();
        let reads = self.fetches.iter().chain(&self.carried_back).chain([&self.results]);
        buffers.map(Buffer::size).sum::<u64>()
            + self.uploads.values().map(Upload::bytes).sum::<u64>()
            + reads.map(Readback::bytes).sum::<u64>()
    }

    /// The memory of a buffer of the segment, if it has any on the device.
    pub(crate) fn buffer(&self, location: Location) -> Option<&Buffer> {
        match location {
            Location::Host => None,
            Location::Slot(i) => self.slots.get(i),
            Location::Own(i) => self.own.get(i),
        }
    }

    /// Sends a value from the host to the memory that `target` gives, if it has any there.
    pub(crate) fn send(
        &mut self,
        scope: &Scope<'_>,
        place: Place,
        tensor: &Tensor,
        target: impl FnOnce(&Self) -> Option<Result<Buffer, GpuError>>,
    ) -> Result<(), GpuError> {
        if !self.uploads.contains_key(&place) {
            let Some(target) = target(self) else { return Ok(()) };
            self.uploads.insert(place, Upload::new(target?));
        }
        let upload = self.uploads.get_mut(&place);
        upload.map_or(Ok(()), |upload| upload.write(scope, TensorRef::from(tensor)))
    }

    /// The read-back for carried values of these types.
    pub(crate) fn carried_back(
        &mut self,
        scope: &Scope<'_>,
        metas: &[TensorMeta],
    ) -> Result<&Readback, GpuError> {
        let back = match self.carried_back.take().filter(|back| back.is_for(metas)) {
            Some(back) => back,
            None => Readback::new(scope, metas)?,
        };
        Ok(self.carried_back.insert(back))
    }

    /// The ways of values from the host.
    pub(crate) fn uploads(&mut self) -> impl Iterator<Item = &mut Upload> {
        self.uploads.values_mut()
    }

    /// The bind groups of the launches; each is there after [`Lease::bind`].
    pub(crate) fn groups(&self) -> &[Option<BindGroup>] {
        &self.bindings.groups
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
    /// Makes the bind groups over these constants, and over inputs and carried values where `given` says that they lie on the device
    /// already, that are not those of the context's last run.
    pub(crate) fn bind(
        &mut self,
        scope: &Scope<'_>,
        segment: &Segment,
        schedule: &Schedule,
        resident: &GpuResident,
        given: impl Fn(Place) -> Option<Buffer>,
    ) -> Result<(), GpuError> {
        let pool = self.pool.clone();
        let holder: Weak<dyn Holder> = Arc::downgrade(&pool) as _;
        let mut bindings = std::mem::take(&mut self.bindings);
        let outer = |place: Place| {
            given(place).or_else(|| Some(self.uploads.get(&place)?.target().clone()))
        };
        for constant in bindings.update(&pool.outer, resident, outer) {
            constant.used_by(&holder);
        }
        let resolve = |program: usize, bind: Bind| {
            let step = &segment.steps[schedule.steps[program]];
            let operand = match bind {
                // Bound by the launches themselves.
                Bind::Outside => return None,
                Bind::Scratch(i) => return self.scratch.get(i),
                Bind::Out(i) => {
                    return self.buffer(schedule.locations[step.outputs.get(i)?.as_ref()?.buffer]);
                }
                Bind::In(i) => step.inputs.get(i)?.as_ref()?,
            };
            match operand.place {
                Place::Constant(i) => schedule.constants.get(&i),
                Place::Buffer(b) => self.buffer(schedule.locations[b]),
                place => bindings.buffer(&pool.outer, place),
            }
        };
        let missing = (0..bindings.groups.len()).filter(|&i| bindings.groups[i].is_none());
        let made = missing
            .map(|i| Ok((i, schedule.launches.bind(scope, &self.notes, i, resolve)?)))
            .collect::<Result<Vec<_>, GpuError>>()?;
        for (i, group) in made {
            bindings.groups[i] = Some(group);
        }
        self.bindings = bindings;
        Ok(())
    }

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
        let Some(mut context) = self.context.take().filter(|_| self.finished) else { return };
        // Under the lock, so that a constant that goes meanwhile is seen here or sees the context there.
        let mut idle = self.pool.idle();
        context.bindings.sweep(&self.pool.outer);
        idle.push(context);
    }
}
