//! Running segments on the CPU.

pub(crate) mod kernel;

use crate::backend::{Backend, Constants, Finished, Run};
use crate::cancel;
use crate::error::{RunError, RunErrorKind};
use crate::limits;
use crate::plan::{Operand, Place, Segment, Slots, Step, assign};
use engine_format::{AlignedBuf, Bytes, OutOfMemory, Tensor};
use engine_ops::cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta, TensorMut, TensorRef};
use engine_ops::{OpDef, OpError};
use std::sync::{Arc, Mutex, PoisonError};

/// How the CPU runs kernels.
#[derive(Clone, Default)]
pub struct CpuOptions {
    /// The threads kernels spread over; rayon's global pool if none is given. Results do not depend on it.
    pub pool: Option<Arc<rayon::ThreadPool>>,
    /// Fill memory with `0xFF` before a kernel writes to it, so that an element it forgets shows as NaN or −1. For tests.
    pub poison: bool,
}

impl std::fmt::Debug for CpuOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = self.pool.as_ref().map(|pool| pool.current_num_threads());
        f.debug_struct("CpuOptions")
            .field("threads", &threads)
            .field("poison", &self.poison)
            .finish()
    }
}

/// The CPU as a device of sessions.
#[derive(Debug, Default)]
pub(crate) struct CpuBackend {
    options: CpuOptions,
    /// Memory of finished runs, for the next ones.
    arenas: Mutex<Vec<Arena>>,
}

/// Memory that one run at a time works in. It grows to the largest segment it has seen.
#[derive(Debug, Default)]
struct Arena {
    slots: Vec<AlignedBuf>,
    /// Buffers that leave the segment: fresh for each run, as they are given away.
    kept: Vec<AlignedBuf>,
    scratch: AlignedBuf,
}

/// A segment with its memory planned.
#[derive(Debug)]
pub(crate) struct Lowered {
    slots: Slots,
    /// Bytes of scratch of each step.
    scratch: Vec<usize>,
}

impl Arena {
    /// Has the memory that a run of the segment takes.
    fn provide(
        &mut self,
        segment: &Segment,
        slots: &Slots,
        scratch: &[usize],
    ) -> Result<(), OutOfMemory> {
        while self.slots.len() < slots.sizes.len() {
            self.slots.push(AlignedBuf::default());
        }
        for (slot, &size) in self.slots.iter_mut().zip(&slots.sizes) {
            slot.try_grow(size)?;
        }
        self.scratch.try_grow(scratch.iter().copied().max().unwrap_or(0))?;
        self.kept.clear();
        for buffer in &segment.buffers {
            self.kept.push(match buffer.kept {
                true => AlignedBuf::try_zeroed(buffer.meta.byte_len())?,
                false => AlignedBuf::default(),
            });
        }
        Ok(())
    }
}

impl CpuBackend {
    pub fn new(options: CpuOptions) -> Self {
        Self { options, arenas: Mutex::default() }
    }

    /// Runs `work` in the pool that was given.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.options.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

impl Backend for CpuBackend {
    const CHOOSES: bool = false;

    /// Weights are read where they are: in the mapped file or in the prepared tensors.
    type Resident = Constants;
    type Lowered = Lowered;
    type Carried = Tensor;

    fn load(
        &self,
        constants: &Constants,
        _previous: Option<(&Constants, &Constants)>,
    ) -> Result<Constants, RunError> {
        Ok(constants.clone())
    }

    fn lower(&self, segment: &Arc<Segment>) -> Result<Lowered, RunError> {
        // What a kernel asks for may follow the number of threads that it will have.
        let scratch = self.install(|| segment.steps.iter().map(scratch_bytes).collect());
        Ok(Lowered { slots: assign(segment, TensorMeta::byte_len), scratch })
    }

    fn cost(&self, lowered: &Lowered) -> usize {
        lowered.scratch.len() * size_of::<usize>()
            + lowered.slots.of.len() * size_of::<Option<usize>>()
    }

    fn memory(&self, segment: &Segment, lowered: &Lowered) -> u64 {
        let kept = segment.buffers.iter().filter(|b| b.kept).map(|b| b.meta.byte_len());
        let scratch = lowered.scratch.iter().copied().max();
        let all = lowered.slots.sizes.iter().copied().chain(kept).chain(scratch);
        all.fold(0, |sum: u64, bytes| sum.saturating_add(bytes as u64))
    }

    fn run(&self, run: Run<'_, Self>) -> Result<Finished<Tensor>, RunError> {
        let lock = || self.arenas.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arena = lock().pop().unwrap_or_default();
        let result = self.install(|| execute(&run, &mut arena, self.options.poison));
        arena.kept.clear();
        lock().push(arena);
        result
    }
}

fn scratch_bytes(step: &Step) -> usize {
    let (inputs, outputs) = (step.input_metas(), step.output_metas());
    step.def.scratch(&CpuShapes { attrs: &step.attrs, inputs: &inputs, outputs: &outputs })
}

fn execute(
    run: &Run<'_, CpuBackend>,
    arena: &mut Arena,
    poison: bool,
) -> Result<Finished<Tensor>, RunError> {
    let Lowered { slots, scratch } = run.lowered;
    arena
        .provide(run.segment, slots, scratch)
        .map_err(|why| limits::too_large(run.segment, &why.to_string()))?;
    for (step, &scratch) in run.segment.steps.iter().zip(scratch) {
        cancel::check(run.cancel)?;
        call(run, arena, step, scratch, poison).map_err(|why| {
            kernel::node_error(RunErrorKind::Node, step.def, &step.path, &step.input_metas(), &why)
        })?;
    }
    finish(run, arena)
}

/// Operands and results of a kernel are listed on the stack up to this many.
const INLINE: usize = 8;

fn call(
    run: &Run<'_, CpuBackend>,
    arena: &mut Arena,
    step: &Step,
    scratch: usize,
    poison: bool,
) -> Result<(), OpError> {
    // Where nothing is to be written there is nothing to calculate.
    if step.outputs.iter().flatten().all(|output| output.meta.is_empty()) {
        return Ok(());
    }
    // A step never reads what it writes, so its results' memory can be taken out while operands are borrowed.
    let mut scratch_buf = std::mem::take(&mut arena.scratch);
    let mut small = <[AlignedBuf; INLINE]>::default();
    let mut large = Vec::new();
    let written = list(&mut small, &mut large, step.outputs.len());
    for (buf, output) in written.iter_mut().zip(&step.outputs) {
        if let Some(output) = output {
            *buf = std::mem::take(storage(arena, &run.lowered.slots, output.buffer));
            if poison {
                buf.fill(0xFF);
            }
        }
    }
    if poison {
        scratch_buf.fill(0xFF);
    }
    let result = with_refs(run, arena, step, written, &mut scratch_buf[..scratch]);
    for (buf, output) in written.iter_mut().zip(&step.outputs) {
        if let Some(output) = output {
            *storage(arena, &run.lowered.slots, output.buffer) = std::mem::take(buf);
        }
    }
    arena.scratch = scratch_buf;
    result
}

/// `len` default elements, from `small` if it is long enough.
fn list<'a, T: Default>(
    small: &'a mut [T; INLINE],
    large: &'a mut Vec<T>,
    len: usize,
) -> &'a mut [T] {
    if len <= INLINE {
        return &mut small[..len];
    }
    large.resize_with(len, T::default);
    large
}

fn with_refs(
    run: &Run<'_, CpuBackend>,
    arena: &Arena,
    step: &Step,
    written: &mut [AlignedBuf],
    scratch: &mut [u8],
) -> Result<(), OpError> {
    let mut small = [const { None }; INLINE];
    let mut large = Vec::new();
    let inputs = list(&mut small, &mut large, step.inputs.len());
    for (slot, operand) in inputs.iter_mut().zip(&step.inputs) {
        *slot = operand.as_ref().map(|operand| TensorRef {
            dtype: operand.meta.dtype,
            shape: &operand.meta.shape,
            bytes: bytes(run, arena, operand),
        });
    }
    let mut small = [const { None }; INLINE];
    let mut large = Vec::new();
    let outputs = list(&mut small, &mut large, step.outputs.len());
    for ((slot, output), buf) in outputs.iter_mut().zip(&step.outputs).zip(written) {
        *slot = output.as_ref().map(|output| TensorMut {
            dtype: output.meta.dtype,
            shape: &output.meta.shape,
            bytes: &mut buf[..output.meta.byte_len()],
        });
    }
    let kernel = kernel_of(step.def)?;
    kernel(&mut CpuCtx { attrs: &step.attrs, inputs, outputs, scratch })
}

type Kernel = fn(&mut CpuCtx<'_>) -> Result<(), OpError>;

fn kernel_of(def: &OpDef) -> Result<Kernel, OpError> {
    match def.cpu {
        Cpu::Kernel { run, .. } => Ok(run),
        _ => Err(OpError::new("the operator has no CPU kernel for results of known shape")),
    }
}

/// The memory of a buffer. Empty buffers have none and share an empty one.
fn storage<'a>(arena: &'a mut Arena, slots: &Slots, buffer: usize) -> &'a mut AlignedBuf {
    match slots.of[buffer] {
        Some(slot) => &mut arena.slots[slot],
        None => &mut arena.kept[buffer],
    }
}

/// The bytes of an operand. Its type may be another than that of the memory it views, but never longer.
fn bytes<'a>(run: &Run<'a, CpuBackend>, arena: &'a Arena, operand: &Operand) -> &'a [u8] {
    let all: &[u8] = match operand.place {
        Place::Input(i) => run.inputs[i].bytes(),
        Place::Resident(id) => run.resident[&id].bytes(),
        Place::Constant(i) => run.segment.constants[i].tensor.bytes(),
        Place::Carried(i) => run.carried[i].bytes(),
        Place::Buffer(i) => match run.lowered.slots.of[i] {
            Some(slot) => &arena.slots[slot],
            None => &arena.kept[i],
        },
    };
    &all[..operand.meta.byte_len()]
}

/// Gives away what outlives the segment. Nothing is copied.
fn finish(run: &Run<'_, CpuBackend>, arena: &mut Arena) -> Result<Finished<Tensor>, RunError> {
    let kept: Vec<Option<Bytes>> = arena
        .kept
        .iter_mut()
        .zip(&run.segment.buffers)
        .map(|(buf, buffer)| buffer.kept.then(|| std::mem::take(buf).into()))
        .collect();
    let mut give = |operand: &Operand| {
        let tensor = |bytes: &Bytes| {
            kernel::tensor(&operand.meta, bytes.clone())
                .map_err(|why| RunError::new(RunErrorKind::Node, format!("a result: {why}")))
        };
        match operand.place {
            Place::Input(i) => tensor(run.inputs[i].bytes()),
            Place::Resident(id) => tensor(run.resident[&id].bytes()),
            Place::Constant(i) => tensor(run.segment.constants[i].tensor.bytes()),
            Place::Carried(i) => tensor(run.carried[i].bytes()),
            Place::Buffer(i) => {
                tensor(kept[i].as_ref().expect("results are read from kept buffers"))
            }
        }
    };
    Ok(Finished {
        host: run.segment.host.iter().map(&mut give).collect::<Result<_, _>>()?,
        carry: run.segment.carry.iter().map(&mut give).collect::<Result<_, _>>()?,
    })
}
