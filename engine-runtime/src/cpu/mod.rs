//! Running segments on the CPU.

mod forms;
pub(crate) mod kernel;
mod layout;
mod returned;

use crate::backend::{Backend, Constants, Finished, Run, foreign};
use crate::error::{RunError, RunErrorKind};
use crate::held::{DeviceTensor, Held};
use crate::limits;
use crate::plan::{Operand, Place, Segment, Slots, Step, assign};
use crate::profile::StepTime;
use crate::threads::SpinPool;

use engine_format::{AlignedBuf, Bytes, DType, OutOfMemory, Tensor, ValueId};
use engine_ops::OpError;
use engine_ops::cpu::{CpuCtx, CpuShapes, Ready, TensorMeta, TensorMut, TensorRef};
use engine_ops::form::Form;
use engine_ops::parallel::{self, Pool};
use forms::{Forms, View};
use returned::Returned;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How the CPU runs kernels.
#[derive(Clone, Default)]
pub struct CpuOptions {
    /// The threads kernels spread over. Devices that are given none share a [`SpinPool`] with as many threads as the variable
    /// `REFIT_THREADS` says, or one for each processor. Results do not depend on it.
    pub pool: Option<Arc<dyn Pool>>,
    /// Fill memory with `0xFF` before a kernel writes to it, so that an element it forgets shows as NaN or −1. For tests.
    pub poison: bool,
}

impl CpuOptions {
    /// Threads of its own, so many, the one that runs included.
    pub fn with_threads(threads: usize) -> Self {
        Self { pool: Some(Arc::new(SpinPool::new(threads))), ..Self::default() }
    }
}

impl std::fmt::Debug for CpuOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = self.pool.as_ref().map(|pool| pool.threads());
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
    /// Memory of outputs.
    returned: Arc<Returned>,
}

/// Memory that one run at a time works in. It grows to the largest segment it has seen.
#[derive(Debug, Default)]
struct Arena {
    slots: Vec<AlignedBuf>,
    /// Buffers that leave the segment: others for each run, as they are given away.
    kept: Vec<AlignedBuf>,
    scratch: AlignedBuf,
}

/// Constants where the CPU reads them: weights in the mapped file or in the prepared tensors, and the forms that kernels asked for.
#[derive(Debug, Default)]
pub(crate) struct Resident {
    constants: Constants,
    forms: Forms<ValueId>,
}

impl Resident {
    /// Constants of which no form was made yet.
    pub fn new(constants: Constants) -> Self {
        Self { constants, forms: Forms::default() }
    }
}

/// A form that somebody undertook to make. If it is dropped instead, runs make it.
struct Claim {
    resident: Arc<Resident>,
    id: ValueId,
    form: Form,
    /// What is read of the constant.
    dtype: DType,
    len: usize,
}

impl Claim {
    fn new(resident: &Arc<Resident>, id: ValueId, form: Form, meta: &TensorMeta) -> Option<Self> {
        let claim = || {
            let (dtype, len) = (meta.dtype, meta.byte_len());
            Self { resident: resident.clone(), id, form, dtype, len }
        };
        resident.forms.claim(id, form).then(claim)
    }

    fn make(self) {
        let constant = &self.resident.constants[&self.id];
        let view = View { constant, dtype: self.dtype, len: self.len };
        self.resident.forms.make(self.id, self.form, view);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.resident.forms.give_up(self.id, self.form);
    }
}

/// The physical plan of a segment: its values laid out, kernels chosen, memory planned.
#[derive(Debug)]
pub(crate) struct Lowered {
    segment: Arc<Segment>,
    slots: Slots,
    /// The kernel of each step.
    kernels: Vec<Ready>,
    /// Bytes of scratch of the step that takes most.
    scratch: usize,
    /// Forms of the constants of the segment.
    forms: Forms<usize>,
}

impl Arena {
    fn bytes(&self) -> u64 {
        let slots: usize = self.slots.iter().map(|slot| slot.len()).sum();
        (slots + self.scratch.len()) as u64
    }

    /// Has the memory that a run of the segment takes.
    fn provide(&mut self, lowered: &Lowered, returned: &Arc<Returned>) -> Result<(), OutOfMemory> {
        let Lowered { segment, slots, scratch, .. } = lowered;
        while self.slots.len() < slots.sizes.len() {
            self.slots.push(AlignedBuf::default());
        }
        for (slot, &size) in self.slots.iter_mut().zip(&slots.sizes) {
            slot.try_grow(size)?;
        }
        self.scratch.try_grow(*scratch)?;
        self.kept.clear();
        for buffer in &segment.buffers {
            self.kept.push(match buffer.kept {
                true => returned.lend(buffer.meta.byte_len())?,
                false => AlignedBuf::default(),
            });
        }
        Ok(())
    }
}

impl CpuBackend {
    pub fn new(options: CpuOptions) -> Self {
        Self { options, ..Self::default() }
    }

    fn arenas(&self) -> MutexGuard<'_, Vec<Arena>> {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with the help of the pool that was given, or of whoever helps here anyway.
    pub fn install<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.options.pool {
            Some(pool) => parallel::with(pool.clone(), work),
            None => work(),
        }
    }
}

impl Backend for CpuBackend {
    const CHOOSES: bool = false;

    type Constant = Tensor;
    type Resident = Resident;
    type Lowered = Lowered;
    type Carried = Tensor;

    fn constant(&self, tensor: &Tensor, _halves: bool) -> Result<Tensor, RunError> {
        Ok(tensor.clone())
    }

    fn relocated(&self, _constant: &Tensor, tensor: &Tensor) -> Tensor {
        tensor.clone()
    }

    fn compact(&self, constant: &Tensor) -> Tensor {
        constant.compact()
    }

    #[cfg(test)]
    fn on_host(&self, constant: &Tensor) -> Option<Tensor> {
        Some(constant.clone())
    }

    fn resident(
        &self,
        constants: Constants,
        previous: Option<(&Resident, &BTreeSet<ValueId>)>,
    ) -> Result<Resident, RunError> {
        let resident = Resident::new(constants);
        if let Some((previous, changed)) = previous {
            resident.forms.adopt(&previous.forms, |id| !changed.contains(&id));
        }
        Ok(resident)
    }

    fn constants<'r>(&self, resident: &'r Resident) -> &'r Constants {
        &resident.constants
    }

    fn bytes(&self, constant: &Tensor) -> [u64; 2] {
        [constant.bytes().len() as u64, 0]
    }

    fn form_bytes(&self, resident: &Resident, lowered: &[&Lowered]) -> u64 {
        resident.forms.bytes() + lowered.iter().map(|lowered| lowered.forms.bytes()).sum::<u64>()
    }

    fn kept(&self, _lowered: &[&Lowered]) -> u64 {
        self.arenas().iter().map(Arena::bytes).sum::<u64>() + self.returned.bytes()
    }

    fn trim(&self, _lowered: &[&Lowered]) {
        self.arenas().clear();
        self.returned.clear();
    }

    fn leave(&self, carried: Tensor) -> Result<DeviceTensor, RunError> {
        Ok(DeviceTensor::new(Held::Host(carried)))
    }

    fn take(&self, value: &DeviceTensor) -> Result<Tensor, RunError> {
        match value.held() {
            Held::Host(tensor) => Ok(tensor.clone()),
            Held::Gpu(_) => Err(foreign(value, &"the CPU")),
        }
    }

    fn forms(&self, lowered: &Lowered, resident: &Arc<Resident>) -> Vec<Box<dyn FnOnce() + Send>> {
        let mut claimed: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        for (step, kernel) in lowered.segment.steps.iter().zip(&lowered.kernels) {
            for (i, operand) in step.inputs.iter().enumerate().take(INLINE) {
                let Some((form, operand)) = kernel.form(i).zip(operand.as_ref()) else { continue };
                let Place::Resident(id) = operand.place else { continue };
                if let Some(claim) = Claim::new(resident, id, form, &operand.meta) {
                    claimed.push(Box::new(move || claim.make()));
                }
            }
        }
        claimed
    }

    fn lower(
        &self,
        segment: &Arc<Segment>,
        _halves: &BTreeSet<ValueId>,
        _like: Option<&Lowered>,
    ) -> Result<Lowered, RunError> {
        let segment = match layout::physical(segment) {
            Some(physical) => Arc::new(physical),
            None => segment.clone(),
        };
        // How a kernel cuts its work may follow the number of threads that it will have.
        let kernels =
            self.install(|| segment.steps.iter().map(ready).collect::<Result<Vec<_>, _>>())?;
        let scratch = kernels.iter().map(Ready::scratch).max().unwrap_or(0);
        let slots = assign(&segment, TensorMeta::byte_len);
        Ok(Lowered { segment, slots, kernels, scratch, forms: Forms::default() })
    }

    fn cost(&self, lowered: &Lowered) -> usize {
        lowered.kernels.len() * (size_of::<Ready>() + size_of::<Step>())
            + lowered.slots.of.len() * size_of::<Option<usize>>()
    }

    fn memory(&self, _segment: &Segment, lowered: &Lowered) -> u64 {
        let kept = lowered.segment.buffers.iter().filter(|b| b.kept).map(|b| b.meta.byte_len());
        let all = lowered.slots.sizes.iter().copied().chain(kept).chain([lowered.scratch]);
        all.fold(0, |sum: u64, bytes| sum.saturating_add(bytes as u64))
    }

    fn run(&self, run: Run<'_, Self>) -> Result<Finished<Tensor>, RunError> {
        let mut arena = self.arenas().pop().unwrap_or_default();
        let result = self.install(|| execute(&run, &mut arena, self));
        arena.kept.clear();
        self.arenas().push(arena);
        result
    }
}

fn ready(step: &Step) -> Result<Ready, RunError> {
    let (inputs, outputs) = (step.input_metas(), step.output_metas());
    let (attrs, values) = (&step.attrs, &step.input_values());
    let shapes = CpuShapes { attrs, inputs: &inputs, values, outputs: &outputs };
    step.def
        .ready(&shapes)
        .map_err(|why| kernel::node_error(RunErrorKind::Node, step.def, &step.path, &inputs, &why))
}

fn execute(
    run: &Run<'_, CpuBackend>,
    arena: &mut Arena,
    backend: &CpuBackend,
) -> Result<Finished<Tensor>, RunError> {
    let (lowered, poison) = (run.lowered, backend.options.poison);
    arena
        .provide(lowered, &backend.returned)
        .map_err(|why| limits::too_large(&lowered.segment, &why.to_string()))?;
    for (step, kernel) in lowered.segment.steps.iter().zip(&lowered.kernels) {
        run.options.check()?;
        let begun = run.options.profile.is_some().then(Instant::now);
        call(run, arena, step, kernel, poison).map_err(|why| {
            kernel::node_error(RunErrorKind::Node, step.def, &step.path, &step.input_metas(), &why)
        })?;
        if let Some((profile, begun)) = run.options.profile.as_ref().zip(begun) {
            profile.receive(&StepTime {
                path: &step.path,
                op: step.def.name,
                step,
                time: begun.elapsed(),
                end: Instant::now(),
            });
        }
    }
    finish(run, arena)
}

/// Operands and results of a kernel are listed on the stack up to this many.
const INLINE: usize = 8;

fn call(
    run: &Run<'_, CpuBackend>,
    arena: &mut Arena,
    step: &Step,
    kernel: &Ready,
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
    let result =
        with_refs(run, arena, (step, kernel), written, &mut scratch_buf[..kernel.scratch()]);
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
    (step, kernel): (&Step, &Ready),
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
    // Only operands that are listed on the stack come in forms: those of the operators that ask for them are few.
    let mut made = [const { None }; INLINE];
    for (i, (slot, operand)) in made.iter_mut().zip(&step.inputs).enumerate() {
        let asked = kernel.form(i).zip(operand.as_ref());
        *slot = asked.and_then(|(form, operand)| form_of(run, form, operand));
    }
    let mut forms = [None; INLINE];
    for (slot, made) in forms.iter_mut().zip(&made) {
        *slot = made.as_ref().map(|made| bytemuck::cast_slice(made));
    }
    let (attrs, draws) = (&*step.attrs, run.draws);
    kernel.run(&mut CpuCtx { attrs, inputs, outputs, scratch, forms: &forms, draws })
}

/// The form of an operand, if it is a constant and the form is there.
fn form_of(run: &Run<'_, CpuBackend>, form: Form, operand: &Operand) -> Option<Arc<AlignedBuf>> {
    let view = |constant| View::of(constant, &operand.meta);
    match operand.place {
        Place::Resident(id) => run.resident.forms.get(id, form, view(&run.resident.constants[&id])),
        Place::Constant(i) => {
            let constant = &run.lowered.segment.constants[i].tensor;
            run.lowered.forms.get(i, form, view(constant))
        }
        Place::Input(_) | Place::Buffer(_) | Place::Carried(_) => None,
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
        Place::Resident(id) => run.resident.constants[&id].bytes(),
        Place::Constant(i) => run.lowered.segment.constants[i].tensor.bytes(),
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
        .zip(&run.lowered.segment.buffers)
        .map(|(buf, buffer)| buffer.kept.then(|| std::mem::take(buf).into()))
        .collect();
    let mut give = |operand: &Operand| {
        let tensor = |bytes: &Bytes| {
            kernel::tensor(&operand.meta, bytes.clone())
                .map_err(|why| RunError::new(RunErrorKind::Node, format!("a result: {why}")))
        };
        match operand.place {
            Place::Input(i) => tensor(run.inputs[i].bytes()),
            Place::Resident(id) => tensor(run.resident.constants[&id].bytes()),
            Place::Constant(i) => tensor(run.lowered.segment.constants[i].tensor.bytes()),
            Place::Carried(i) => tensor(run.carried[i].bytes()),
            Place::Buffer(i) => {
                tensor(kept[i].as_ref().expect("results are read from kept buffers"))
            }
        }
    };
    Ok(Finished {
        host: run.lowered.segment.host.iter().map(&mut give).collect::<Result<_, _>>()?,
        carry: run.lowered.segment.carry.iter().map(&mut give).collect::<Result<_, _>>()?,
    })
}
