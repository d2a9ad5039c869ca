//! One node: the program it gets, and running it by itself, which is how operators are tested.

use super::device::GpuDevice;
use super::launch::{Kernel, LaunchList};
use super::notes::Notes;
use super::obstacle::obstacle;
use super::pipeline::Trust;
use super::scope::Scope;
use super::transfer::{Readback, Upload};
use super::words::{gpu_len, paired, pairs};
use crate::cpu::kernel::{meta, node_error};
use crate::error::{RunError, RunErrorKind};
use crate::gpu::{GpuCandidates, GpuError, GpuErrorKind};
use crate::placement::Obstacle;
use engine_format::{Attrs, Tensor};
use engine_ops::cpu::{TensorMeta, TensorRef};
use engine_ops::gpu::{Bind, GpuCtx, GpuProgram};
use engine_ops::{OpDef, OpError, Role};
use wgpu::Buffer;

/// One application of an operator to operands of known types.
pub(crate) struct Node<'a> {
    pub(crate) def: &'static OpDef,
    pub(crate) attrs: &'a Attrs,
    pub(crate) inputs: &'a [Option<TensorMeta>],
    /// Contents of operands, where they are known before the run.
    pub(crate) values: &'a [Option<Tensor>],
    pub(crate) outputs: &'a [Option<TensorMeta>],
    /// By operand, whether it lies as halves.
    pub(crate) halves: &'a [bool],
}

impl Node<'_> {
    /// Its GPU program, or what keeps it off this GPU.
    pub(crate) fn program(
        &self,
        device: &GpuDevice,
    ) -> Result<Result<GpuProgram, Obstacle>, OpError> {
        let Self { def, attrs, inputs, values, outputs, halves } = *self;
        let without = if def.random { Obstacle::Drawn } else { Obstacle::NoKernel };
        let Some(kernel) = def.gpu else { return Ok(Err(without)) };
        if device.is_kept_off(def.name) {
            return Ok(Err(Obstacle::KeptOff));
        }
        let ctx = GpuCtx { attrs, inputs, values, outputs, halves, limits: device.limits() };
        let lying: Vec<_> =
            inputs.iter().enumerate().map(|(i, meta)| lying(&ctx, i, meta)).collect();
        for candidate in def.gpu_candidates {
            let taken = match device.candidates() {
                GpuCandidates::ByRule => (candidate.pays)(&ctx),
                GpuCandidates::Always(name) => name == candidate.name,
                GpuCandidates::Last => false,
            };
            if taken
                && let Some(program) = (candidate.kernel)(&ctx)?
                && obstacle(device, &program, &lying, outputs).is_none()
            {
                return Ok(Ok(program));
            }
        }
        let Some(program) = kernel(&ctx)? else {
            // A type that is not kept on the GPU is why, whatever else there is.
            let mut metas = inputs.iter().chain(outputs).flatten();
            let foreign = metas.find(|meta| gpu_len(meta).is_none());
            let why = foreign.map_or(Obstacle::NotTaken, |meta| Obstacle::Type(meta.dtype));
            return Ok(Err(why));
        };
        Ok(match obstacle(device, &program, &lying, outputs) {
            Some(why) => Err(why),
            None => Ok(program),
        })
    }
}

impl GpuDevice {
    /// Runs one operator over host tensors and reads its results back, `None` for those not asked for; or says what
    /// keeps it off this GPU. Attributes are normalised; of the operands' contents the kernel's maker sees those that
    /// decide shapes.
    pub fn run_node(
        &self,
        def: &'static OpDef,
        attrs: &Attrs,
        inputs: &[Option<Tensor>],
        outputs: &[Option<TensorMeta>],
    ) -> Result<Result<Vec<Option<Tensor>>, Obstacle>, RunError> {
        let metas: Vec<Option<TensorMeta>> = inputs.iter().map(|t| t.as_ref().map(meta)).collect();
        let decides = |i: usize| def.operand(i).is_some_and(|o| o.role == Role::Shape);
        let values: Vec<Option<Tensor>> =
            inputs.iter().enumerate().map(|(i, t)| t.clone().filter(|_| decides(i))).collect();
        // Operands are as constants are, of which nothing else reads.
        let reads = |(i, meta): (usize, &Option<TensorMeta>)| {
            meta.as_ref().is_some_and(|meta| def.reads_halves(i, meta.dtype))
        };
        let halves: Vec<bool> = metas.iter().enumerate().map(reads).collect();
        let node = Node { def, attrs, inputs: &metas, values: &values, outputs, halves: &halves };
        let made = node
            .program(self)
            .map_err(|why| node_error(RunErrorKind::Node, def, def.name, &metas, &why))?;
        let program = match made {
            Ok(program) => program,
            Err(why) => return Ok(Err(why)),
        };
        let lie = |(tensor, halves): (&Option<Tensor>, &bool)| {
            tensor.as_ref().map(|tensor| if *halves { paired(tensor) } else { tensor.clone() })
        };
        let lying: Vec<Option<Tensor>> = inputs.iter().zip(&halves).map(lie).collect();
        let results = self.run_program(program, Trust::of(def), &lying, outputs)?;
        let failed = |why| node_error(RunErrorKind::Node, def, def.name, &metas, &why);
        results.map(Ok).map_err(failed)
    }

    fn run_program(
        &self,
        program: GpuProgram,
        trust: Trust,
        inputs: &[Option<Tensor>],
        outputs: &[Option<TensorMeta>],
    ) -> Result<Result<Vec<Option<Tensor>>, OpError>, GpuError> {
        let metas: Vec<Option<TensorMeta>> = inputs.iter().map(|t| t.as_ref().map(meta)).collect();
        let label = program.dispatches.first().map_or("empty program".into(), |d| d.label.clone());
        let label = label.as_ref();
        let kernel = Kernel::new(self, program, trust)?;
        self.scoped(GpuErrorKind::Launch, label, |scope| {
            let ins = buffers(scope, label, &metas)?;
            let outs = buffers(scope, label, outputs)?;
            let temporary = |&words: &usize| scope.storage(label, words as u64 * 4);
            let scratch = kernel.scratch.iter().map(temporary).collect::<Result<Vec<_>, _>>()?;
            let launches = LaunchList::new(scope, [&kernel])?;
            let notes = Notes::new(scope, launches.noting().len())?;
            let resolve = |_, bind| match bind {
                Bind::In(i) => ins.get(i)?.as_ref(),
                Bind::Out(i) => outs.get(i)?.as_ref(),
                Bind::Scratch(i) => scratch.get(i),
                Bind::Outside => None,
            };
            let groups = (0..launches.len())
                .map(|i| launches.bind(scope, &notes, i, resolve).map(Some))
                .collect::<Result<Vec<_>, _>>()?;
            let mut uploads = Vec::new();
            for (tensor, buffer) in inputs.iter().zip(&ins) {
                if let (Some(tensor), Some(buffer)) = (tensor, buffer) {
                    let mut upload = Upload::new(buffer.clone());
                    upload.write(scope, TensorRef::from(tensor))?;
                    uploads.push(upload);
                }
            }
            let asked = outputs.iter().flatten().cloned();
            let asked: Vec<TensorMeta> = asked.chain(notes.meta()).collect();
            let readback = Readback::new(scope, &asked)?;
            let submission = scope.submit(|encoder| {
                uploads.iter_mut().for_each(|upload| upload.record(encoder));
                launches.record(&groups, encoder, launches.program(0), None);
                for (i, buffer) in outs.iter().flatten().chain(notes.buffer()).enumerate() {
                    readback.record(encoder, i, buffer);
                }
            });
            let mut results = readback.read(scope, submission)?;
            let noted = notes.buffer().and_then(|_| notes.first(&results.pop()?));
            if let Some((_, why)) = noted {
                return Ok(Err(why));
            }
            let mut results = results.into_iter();
            Ok(Ok(outputs.iter().map(|o| o.as_ref().and_then(|_| results.next())).collect()))
        })
    }
}

/// What operand `i` is where it lies.
fn lying(ctx: &GpuCtx<'_>, i: usize, meta: &Option<TensorMeta>) -> Option<TensorMeta> {
    let meta = meta.as_ref()?;
    Some(if ctx.lies_in_halves(i) { pairs(meta) } else { meta.clone() })
}

/// A buffer for each tensor. One that is not kept on the GPU gets none: binding it is an obstacle.
fn buffers(
    scope: &Scope<'_>,
    label: &str,
    metas: &[Option<TensorMeta>],
) -> Result<Vec<Option<Buffer>>, GpuError> {
    let make = |meta: &TensorMeta| gpu_len(meta).map(|bytes| scope.storage(label, bytes));
    metas.iter().map(|m| m.as_ref().and_then(make).transpose()).collect()
}
