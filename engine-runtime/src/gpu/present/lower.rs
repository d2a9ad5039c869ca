//! Segments made ready to run on a GPU: where each step runs, where each value lives, in which order things happen.

use super::bindings::Outer;
use super::context::Pool;
use super::device::GpuDevice;
use super::launch::{Kernel, LaunchList};
use super::pipeline::Trust;
use super::resident::upload;
use super::schedule::{Location, Memory, Op, Schedule};
use super::scope::Scope;
use super::single::Node;
use super::words::{gpu_len, is_halves};
use crate::cpu::kernel::node_error;
use crate::error::{RunError, RunErrorKind};
use crate::gpu::{GpuError, GpuErrorKind};
use crate::placement::{Obstacle, Placement};
use crate::plan::{Operand, Output, Place, Segment, Step, assign};
use engine_format::ValueId;
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::Bind;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wgpu::Buffer;

/// A segment ready to run.
pub struct GpuLowered {
    segment: Arc<Segment>,
    /// By step. Segments for other shapes share those of steps that are the same.
    placed: Vec<Arc<Placed>>,
    pub(crate) schedule: Schedule,
    pub(crate) placement: Vec<Placement>,
    pub(crate) pool: Arc<Pool>,
}

impl GpuLowered {
    pub(crate) fn new(
        device: &GpuDevice,
        segment: &Arc<Segment>,
        halves: &BTreeSet<ValueId>,
        like: Option<&Self>,
    ) -> Result<Self, RunError> {
        let placed = placed(device, segment, halves, like)?;
        let uses = Uses::of(segment, &placed);
        let (locations, mut memory) = locations(segment, &uses);
        memory.add_scratch(&placed);
        memory.add_operands(segment, &placed);
        let kernels = placed.iter().enumerate().filter_map(|(i, p)| Some((i, p.kernel()?)));
        let (steps, kernels): (Vec<usize>, Vec<&Kernel>) = kernels.unzip();
        let (launches, constants) = device.scoped(GpuErrorKind::Launch, "a plan", |scope| {
            let launches = LaunchList::new(scope, kernels)?;
            Ok::<_, GpuError>((launches, upload_constants(scope, segment, &placed)?))
        })?;
        let bound = (0..launches.len()).map(|i| {
            let (program, binds) = launches.binds(i);
            (steps[program], binds)
        });
        let pool = Arc::new(Pool::new(Outer::all(segment, bound)));
        let placement =
            segment.steps.iter().zip(&placed).filter_map(|(s, p)| p.report(s)).collect();
        let on_device = |o: &Operand| match o.place {
            Place::Buffer(b) => uses.by_kernels.contains(&b) && !o.meta.is_empty(),
            _ => false,
        };
        let schedule = Schedule {
            ops: ops(segment, &placed, &uses, &launches),
            results: (0..segment.host.len()).filter(|&i| on_device(&segment.host[i])).collect(),
            fetch_carried: host_carried(segment, &placed),
            launches,
            steps,
            locations,
            memory,
            constants,
        };
        Ok(Self { segment: segment.clone(), placed, schedule, placement, pool })
    }

    /// Bytes of device memory that a run takes, without weights.
    pub(crate) fn cost(&self) -> usize {
        let bytes = self.schedule.memory.total() + self.schedule.launches.param_bytes();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What was chosen for step `i`, if it is `step`.
    fn of_step(&self, i: usize, step: &Step) -> Option<&Arc<Placed>> {
        let own = self.segment.steps.get(i)?;
        is_same(own, step).then(|| &self.placed[i])
    }
}

/// Whether two steps are one node over operands of the same types, contents as far as they are known, and residents.
fn is_same(a: &Step, b: &Step) -> bool {
    let resident = |operand: &Operand| match operand.place {
        Place::Resident(id) => Some(id),
        _ => None,
    };
    let reads = |a: &Option<Operand>, b: &Option<Operand>| match (a, b) {
        (Some(a), Some(b)) => a.meta == b.meta && resident(a) == resident(b) && a.value == b.value,
        (None, None) => true,
        _ => false,
    };
    let meta = |output: &Option<Output>| output.as_ref().map(|output| output.meta.clone());
    std::ptr::eq(a.def, b.def)
        && Arc::ptr_eq(&a.attrs, &b.attrs)
        && a.inputs.len() == b.inputs.len()
        && a.outputs.len() == b.outputs.len()
        && a.inputs.iter().zip(&b.inputs).all(|(a, b)| reads(a, b))
        && a.outputs.iter().zip(&b.outputs).all(|(a, b)| meta(a) == meta(b))
}

/// Where each step runs. Shaders that are new are made and compiled in parallel.
fn placed(
    device: &GpuDevice,
    segment: &Segment,
    halves: &BTreeSet<ValueId>,
    like: Option<&GpuLowered>,
) -> Result<Vec<Arc<Placed>>, RunError> {
    let known = |(i, step)| like.and_then(|like| like.of_step(i, step)).cloned();
    let known: Vec<Option<Arc<Placed>>> = segment.steps.iter().enumerate().map(known).collect();
    let new: Vec<&Step> =
        segment.steps.iter().zip(&known).filter(|(_, p)| p.is_none()).map(|(s, _)| s).collect();
    let new: Vec<_> = new.into_par_iter().map(|step| Placed::of(device, step, halves)).collect();
    let mut new = new.into_iter();
    let placed = |known: Option<Arc<Placed>>| match known {
        Some(placed) => Ok(placed),
        None => new.next().expect("what is not known is new").map(Arc::new),
    };
    known.into_iter().map(placed).collect()
}

/// Where a step runs.
enum Placed {
    /// Nowhere: all its results are empty.
    Skipped,
    Gpu(Kernel),
    Host(Obstacle),
}

impl Placed {
    fn of(device: &GpuDevice, step: &Step, halves: &BTreeSet<ValueId>) -> Result<Self, RunError> {
        if step.outputs.iter().flatten().all(|o| o.meta.is_empty()) {
            return Ok(Placed::Skipped);
        }
        let (inputs, outputs) = (step.input_metas(), step.output_metas());
        let lies = |operand: &Option<Operand>| {
            operand.as_ref().is_some_and(|operand| match operand.place {
                Place::Resident(id) => halves.contains(&id) && is_halves(operand.meta.dtype),
                _ => false,
            })
        };
        let halves: Vec<bool> = step.inputs.iter().map(lies).collect();
        let node = Node {
            halves: &halves,
            def: step.def,
            attrs: &step.attrs,
            inputs: &inputs,
            values: &step.input_values(),
            outputs: &outputs,
        };
        let made = node
            .program(device)
            .map_err(|why| node_error(RunErrorKind::Node, step.def, &step.path, &inputs, &why))?;
        Ok(match made {
            Ok(program) => Placed::Gpu(Kernel::new(device, program, Trust::of(step.def))?),
            Err(why) => Placed::Host(why),
        })
    }

    fn kernel(&self) -> Option<&Kernel> {
        match self {
            Placed::Gpu(kernel) => Some(kernel),
            Placed::Skipped | Placed::Host(_) => None,
        }
    }

    fn report(&self, step: &Step) -> Option<Placement> {
        let obstacle = match self {
            Placed::Skipped => return None,
            Placed::Gpu(_) => None,
            Placed::Host(why) => Some(why.clone()),
        };
        Some(Placement { path: step.path.clone(), op: step.def.name, obstacle })
    }

    /// The operands of `step` that kernels bind.
    fn bound<'s>(&self, step: &'s Step) -> impl Iterator<Item = &'s Operand> {
        let binds = self.kernel().into_iter().flat_map(Kernel::binds);
        let indices: BTreeSet<usize> = binds
            .filter_map(|bind| match bind {
                Bind::In(i) => Some(i),
                Bind::Out(_) | Bind::Scratch(_) | Bind::Outside => None,
            })
            .collect();
        indices.into_iter().filter_map(|i| step.inputs.get(i)?.as_ref())
    }
}

/// Who writes and reads the buffers of a segment.
struct Uses {
    /// Written by kernels.
    by_kernels: BTreeSet<usize>,
    /// Written by the host.
    by_host: BTreeSet<usize>,
    /// Read by kernels.
    to_kernels: BTreeSet<usize>,
}

impl Uses {
    fn of(segment: &Segment, placed: &[Arc<Placed>]) -> Self {
        let mut uses = Self {
            by_kernels: BTreeSet::new(),
            by_host: BTreeSet::new(),
            to_kernels: BTreeSet::new(),
        };
        for (step, placed) in segment.steps.iter().zip(placed) {
            let written = step.outputs.iter().flatten().map(|o| o.buffer);
            match &**placed {
                Placed::Gpu(_) => uses.by_kernels.extend(written),
                Placed::Host(_) => uses.by_host.extend(written),
                Placed::Skipped => {}
            }
            uses.to_kernels.extend(placed.bound(step).filter_map(|o| match o.place {
                Place::Buffer(b) => Some(b),
                _ => None,
            }));
        }
        uses
    }
}

fn locations(segment: &Segment, uses: &Uses) -> (Vec<Location>, Memory) {
    let size = |meta: &TensorMeta| gpu_len(meta).unwrap_or(0);
    let slots = assign(segment, |meta| usize::try_from(size(meta)).unwrap_or(usize::MAX));
    let mut memory = Memory::default();
    // Slots that only the host's values were given stay without memory, so slots are numbered anew.
    let mut renumbered: BTreeMap<usize, usize> = BTreeMap::new();
    let location = |(b, buffer): (usize, &crate::plan::Buffer)| {
        if !uses.by_kernels.contains(&b) && !uses.to_kernels.contains(&b) {
            return Location::Host;
        }
        let bytes = size(&buffer.meta);
        match slots.of[b].filter(|_| !uses.by_host.contains(&b)) {
            Some(slot) => {
                let slot = *renumbered.entry(slot).or_insert_with(|| {
                    memory.slots.push(0);
                    memory.slots.len() - 1
                });
                memory.slots[slot] = memory.slots[slot].max(bytes);
                Location::Slot(slot)
            }
            None => {
                memory.own.push(bytes);
                Location::Own(memory.own.len() - 1)
            }
        }
    };
    let locations = segment.buffers.iter().enumerate().map(location).collect();
    (locations, memory)
}

impl Memory {
    /// Temporaries are shared by all steps: each step's contents are dead when the next one starts.
    fn add_scratch(&mut self, placed: &[Arc<Placed>]) {
        for kernel in placed.iter().filter_map(|placed| placed.kernel()) {
            for (i, &words) in kernel.scratch.iter().enumerate() {
                if i == self.scratch.len() {
                    self.scratch.push(0);
                }
                self.scratch[i] = self.scratch[i].max(words as u64 * 4);
            }
        }
    }

    fn add_operands(&mut self, segment: &Segment, placed: &[Arc<Placed>]) {
        for (step, placed) in segment.steps.iter().zip(placed) {
            for operand in placed.bound(step) {
                if let Place::Input(_) | Place::Carried(_) = operand.place {
                    let bytes = self.given.entry(operand.place).or_insert(0);
                    *bytes = (*bytes).max(gpu_len(&operand.meta).unwrap_or(0));
                }
            }
        }
    }
}

fn upload_constants(
    scope: &Scope<'_>,
    segment: &Segment,
    placed: &[Arc<Placed>],
) -> Result<BTreeMap<usize, Buffer>, GpuError> {
    let mut constants = BTreeMap::new();
    for (step, placed) in segment.steps.iter().zip(placed) {
        for operand in placed.bound(step) {
            if let Place::Constant(i) = operand.place
                && !constants.contains_key(&i)
                && let Some(buffer) = upload(scope, &segment.constants[i].tensor)?
            {
                constants.insert(i, buffer);
            }
        }
    }
    Ok(constants)
}

/// The operands that steps on the host read.
fn host_reads<'s>(step: &'s Step, placed: &Placed) -> impl Iterator<Item = &'s Operand> {
    let host = matches!(placed, Placed::Host(_));
    step.inputs.iter().flatten().filter(move |_| host)
}

fn host_carried(segment: &Segment, placed: &[Arc<Placed>]) -> BTreeSet<usize> {
    let steps = segment.steps.iter().zip(placed).flat_map(|(s, p)| host_reads(s, p));
    steps
        .chain(&segment.host)
        .filter_map(|o| match o.place {
            Place::Carried(i) => Some(i),
            _ => None,
        })
        .collect()
}

fn ops(segment: &Segment, placed: &[Arc<Placed>], uses: &Uses, launches: &LaunchList) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut fetched: BTreeSet<usize> = BTreeSet::new();
    let mut program = 0;
    for (i, (step, placed)) in segment.steps.iter().zip(placed).enumerate() {
        match &**placed {
            Placed::Skipped => {}
            Placed::Gpu(_) => {
                let end = launches.program(program).end;
                program += 1;
                match ops.last_mut() {
                    Some(Op::Launch(last)) => *last = end,
                    _ => ops.push(Op::Launch(end)),
                }
            }
            Placed::Host(_) => {
                let missing: BTreeSet<usize> = host_reads(step, placed)
                    .filter_map(|o| match o.place {
                        Place::Buffer(b) if !o.meta.is_empty() => Some(b),
                        _ => None,
                    })
                    .filter(|b| uses.by_kernels.contains(b) && !fetched.contains(b))
                    .collect();
                if !missing.is_empty() {
                    fetched.extend(&missing);
                    ops.push(Op::Fetch(missing.into_iter().collect()));
                }
                ops.push(Op::Host(i));
            }
        }
    }
    ops
}
