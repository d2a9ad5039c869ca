//! One program, run by itself: the harness that operators are tested with.

use super::device::GpuDevice;
use super::error::{GpuError, GpuErrorKind};
use super::launch::{Launches, Operands, obstacle};
use super::transfer::Readback;
use super::words::gpu_len;
use engine_format::Tensor;
use engine_ops::cpu::{TensorMeta, TensorRef};
use engine_ops::gpu::GpuProgram;
use wgpu::{Buffer, CommandEncoderDescriptor};

impl GpuDevice {
    /// Runs the dispatches of one node over host tensors and reads its results back; `None` for those not asked for.
    pub fn run_program(
        &self,
        program: &GpuProgram,
        inputs: &[Option<Tensor>],
        outputs: &[Option<TensorMeta>],
    ) -> Result<Vec<Option<Tensor>>, GpuError> {
        let label = program.dispatches.first().map_or("empty program", |d| &d.label);
        let metas: Vec<Option<TensorMeta>> = inputs.iter().map(|t| t.as_ref().map(meta)).collect();
        if let Some(reason) = obstacle(self, program, &metas, outputs) {
            return Err(GpuError::new(GpuErrorKind::TooLarge, label, reason.to_string()));
        }
        let ins = self.buffers(label, &metas)?;
        for (tensor, buffer) in inputs.iter().zip(&ins) {
            if let (Some(tensor), Some(buffer)) = (tensor, buffer) {
                self.write(buffer, TensorRef::from(tensor));
            }
        }
        let outs = self.buffers(label, outputs)?;
        let scratch = program
            .scratch
            .iter()
            .map(|&words| self.storage(label, words as u64 * 4))
            .collect::<Result<Vec<_>, _>>()?;
        let mut launches = Launches::new(self);
        launches.add(
            program,
            &Operands {
                inputs: &ins.iter().map(Option::as_ref).collect::<Vec<_>>(),
                outputs: &outs.iter().map(Option::as_ref).collect::<Vec<_>>(),
                scratch: &scratch.iter().collect::<Vec<_>>(),
            },
        )?;
        let launches = launches.build()?;
        let asked: Vec<TensorMeta> = outputs.iter().flatten().cloned().collect();
        let readback = Readback::new(self, &asked)?;
        let submission = self.scoped(GpuErrorKind::Launch, label, |gpu| {
            let descriptor = CommandEncoderDescriptor { label: Some(label) };
            let mut encoder = gpu.create_command_encoder(&descriptor);
            launches.record(&mut encoder, 0..launches.len());
            for (i, buffer) in outs.iter().flatten().enumerate() {
                readback.record(&mut encoder, i, buffer);
            }
            self.queue().submit([encoder.finish()])
        })?;
        let mut results = readback.read(self, submission)?.into_iter();
        Ok(outputs.iter().map(|o| o.as_ref().and_then(|_| results.next())).collect())
    }

    fn buffers(
        &self,
        label: &str,
        metas: &[Option<TensorMeta>],
    ) -> Result<Vec<Option<Buffer>>, GpuError> {
        let make = |meta: &TensorMeta| {
            // A type without a word layout is an operand that the program does not bind (an axis known to the plan):
            // binding one was refused before.
            self.storage(label, gpu_len(meta).unwrap_or(0))
        };
        metas.iter().map(|m| m.as_ref().map(make).transpose()).collect()
    }
}

fn meta(tensor: &Tensor) -> TensorMeta {
    TensorMeta { dtype: tensor.dtype(), shape: tensor.shape().to_vec() }
}
