//! A row's CPU kernel, made ready for known shapes.

use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep};
use crate::form::Form;
use crate::widened::Widened;
use crate::{OpDef, OpError};
use std::fmt;

/// A row's kernel made ready for known shapes.
pub struct Ready {
    scratch: usize,
    kernel: Kernel,
}

enum Kernel {
    Plain(fn(&mut CpuCtx<'_>) -> Result<(), OpError>),
    Planned(Box<dyn CpuStep>),
}

impl Ready {
    /// Bytes of scratch that a run takes.
    pub fn scratch(&self) -> usize {
        self.scratch
    }

    /// The form in which the kernel would read operand `i`, should it be a constant.
    pub fn form(&self, i: usize) -> Option<Form> {
        match &self.kernel {
            Kernel::Plain(_) => None,
            Kernel::Planned(step) => step.form(i),
        }
    }

    /// Writes the results.
    pub fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        match &self.kernel {
            Kernel::Plain(run) => run(ctx),
            Kernel::Planned(step) => step.run(ctx),
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a kernel with {} bytes of scratch", self.scratch)
    }
}

impl OpDef {
    /// The CPU kernel for these shapes. One that has nothing to write ([`CpuShapes::nothing_to_write`]) is not to be called,
    /// and takes no scratch.
    ///
    /// # Errors
    /// If the row has no kernel for results of known shape, or does not take the shapes.
    pub fn ready(&self, shapes: &CpuShapes<'_>) -> Result<Ready, OpError> {
        let idle = shapes.nothing_to_write();
        match self.cpu {
            Cpu::Kernel { run, scratch } => {
                let scratch = if idle { 0 } else { scratch(shapes) };
                Ok(Ready { scratch, kernel: Kernel::Plain(run) })
            }
            Cpu::Planned(_) if idle => Ok(Ready { scratch: 0, kernel: Kernel::Plain(|_| Ok(())) }),
            Cpu::Planned(choose) => {
                let step = match self.halves(shapes.inputs) {
                    Some(i) => Box::new(Widened::new(i, shapes, choose)?),
                    None => choose(shapes)?,
                };
                Ok(Ready { scratch: step.scratch(), kernel: Kernel::Planned(step) })
            }
            Cpu::None | Cpu::Dynamic(_) => {
                Err(OpError::new(format!("{self:?} has no CPU kernel for results of known shape")))
            }
        }
    }
}
