//! Kernels of `f32` over an operand that comes in halves.

use crate::OpError;
use crate::cpu::{CpuCtx, CpuShapes, CpuStep, TensorMut, TensorRef};
use crate::form::Form;
use engine_format::{AlignedBuf, DType};

/// Chooses a step for shapes.
type Choose = fn(&CpuShapes<'_>) -> Result<Box<dyn CpuStep>, OpError>;

/// A step over operands of `f32`, one of which comes in halves: it reads their form in `f32`, or makes it for one run.
pub(crate) struct Widened {
    step: Box<dyn CpuStep>,
    operand: usize,
    form: Form,
}

/// Operands of a row that takes halves, those of its stages included.
const MOST: usize = 8;

impl Widened {
    /// The step that `choose` gives for operand `operand` in `f32`.
    pub(crate) fn new(
        operand: usize,
        shapes: &CpuShapes<'_>,
        choose: Choose,
    ) -> Result<Self, OpError> {
        let mut inputs = shapes.inputs.to_vec();
        let Some(meta) = &mut inputs[operand] else {
            return Err(OpError::new("an operand is missing"));
        };
        meta.dtype = DType::F32;
        let wide = Form::Wide(meta.len());
        let step = choose(&CpuShapes { inputs: &inputs, ..*shapes })?;
        let form = step.form(operand).unwrap_or(wide);
        Ok(Self { step, operand, form })
    }
}

impl CpuStep for Widened {
    fn scratch(&self) -> usize {
        self.step.scratch()
    }

    fn form(&self, i: usize) -> Option<Form> {
        if i == self.operand { Some(self.form) } else { self.step.form(i) }
    }

    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let halves = ctx.input(self.operand);
        let memory;
        let form = match ctx.forms.get(self.operand).copied().flatten() {
            Some(form) => form,
            None => {
                let bytes = self.form.len().saturating_mul(size_of::<f32>());
                let mut made = AlignedBuf::try_zeroed(bytes)
                    .map_err(|why| OpError::out_of_memory(why.to_string()))?;
                self.form.make(halves.dtype, halves.bytes, bytemuck::cast_slice_mut(&mut made));
                memory = made;
                bytemuck::cast_slice(&memory)
            }
        };
        let (mut inputs, mut forms) = ([None; MOST], [None; MOST]);
        let count = ctx.inputs.len();
        if count > MOST {
            return Err(OpError::new(format!("{count} operands, expected {MOST} at most")));
        }
        inputs[..count].copy_from_slice(ctx.inputs);
        let given = ctx.forms.len().min(MOST);
        forms[..given].copy_from_slice(&ctx.forms[..given]);
        if let Form::Wide(_) = self.form {
            let bytes = bytemuck::cast_slice(form);
            inputs[self.operand] = Some(TensorRef { dtype: DType::F32, bytes, ..halves });
        } else {
            forms[self.operand] = Some(form);
        }
        let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
        let out = TensorMut { dtype: out.dtype, shape: out.shape, bytes: out.bytes };
        self.step.run(&mut CpuCtx {
            attrs: ctx.attrs,
            inputs: &inputs[..count],
            outputs: &mut [Some(out)],
            scratch: ctx.scratch,
            forms: &forms,
            draws: ctx.draws,
        })
    }
}
