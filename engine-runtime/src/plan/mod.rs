//! Plans: what a program does for concrete shapes, the same for every device.
//!
//! A program is the validated form of an engine's block. The planner walks it with concrete facts and
//! leaves a [`Segment`]: a straight list of steps over buffers whose sizes and lifetimes are known. Shape
//! arithmetic is done while planning, views become aliases, an `If` whose condition is known is replaced by its
//! branch, loops are unrolled, sequences are lists of tensors that only the planner knows. Where the contents of a value
//! computed at run time are needed, a segment ends there ([`End::Suspend`]) and another one, planned once those
//! contents are known, goes on.
//!
//! A plan never depends on the contents of weights.

use engine_format::{Attrs, Tensor, ValueId};
use engine_ops::OpDef;
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;

pub(crate) mod cache;
mod check;
mod flow;
mod frame;
pub(crate) mod item;
mod memory;
mod node;
pub(crate) mod program;
mod segment;
mod sequence;
pub(crate) mod walk;

pub use memory::{Slots, assign};

/// Where a value's bytes are while a segment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A tensor of [`crate::backend::Run::inputs`]: the module's inputs in port order, then the results of nodes that ran on the
    /// host between segments.
    Input(usize),
    /// A weight or a prepared value, resident on the device.
    Resident(ValueId),
    /// A constant of the plan ([`Segment::constants`]).
    Constant(usize),
    /// Written by a step of this segment ([`Segment::buffers`]).
    Buffer(usize),
    /// Written by an earlier segment of the same run, handed over in the order of its [`Segment::carry`], or left on the device by an earlier run
    /// and given to this one.
    Carried(usize),
}

/// A value that a step reads: where it is, its type, and its contents if the plan knows them.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Where its bytes are. A view has its origin's place.
    pub place: Place,
    /// Type and shape.
    pub meta: TensorMeta,
    /// Contents, where the plan knows them.
    pub value: Option<Tensor>,
}

/// A value that a step writes.
#[derive(Clone, Debug)]
pub struct Output {
    /// Index in [`Segment::buffers`].
    pub buffer: usize,
    /// Type and shape.
    pub meta: TensorMeta,
}

/// One kernel call.
#[derive(Clone, Debug)]
pub struct Step {
    /// The operator.
    pub def: &'static OpDef,
    /// Normalised attributes.
    pub attrs: Arc<Attrs>,
    /// Path of the node in the model.
    pub path: Arc<str>,
    /// Operands; `None` is an omitted one.
    pub inputs: Vec<Option<Operand>>,
    /// Results; `None` is one that nobody reads. The first is always there.
    pub outputs: Vec<Option<Output>>,
}

impl Step {
    /// Types of the operands, as kernels take them.
    pub fn input_metas(&self) -> Vec<Option<TensorMeta>> {
        self.inputs.iter().map(|i| i.as_ref().map(|i| i.meta.clone())).collect()
    }

    /// Types of the results, as kernels take them.
    pub fn output_metas(&self) -> Vec<Option<TensorMeta>> {
        self.outputs.iter().map(|o| o.as_ref().map(|o| o.meta.clone())).collect()
    }

    /// What the plan knows of the operands' contents.
    pub fn input_values(&self) -> Vec<Option<Tensor>> {
        self.inputs.iter().map(|i| i.as_ref().and_then(|i| i.value.clone())).collect()
    }
}

/// A buffer that one step writes, and how long it must live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Type and shape it is written with.
    pub meta: TensorMeta,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it; `first` if none does.
    pub last: usize,
    /// Read at the end of the segment too: by its [`Segment::host`] or [`Segment::carry`].
    pub kept: bool,
}

/// A constant of a plan.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The literal it is, if it is one: the same in every plan of the program.
    pub literal: Option<ValueId>,
    /// Its contents.
    pub tensor: Tensor,
}

/// A straight list of steps with known shapes.
#[derive(Debug)]
pub struct Segment {
    /// The steps in order; each sees what those before it wrote.
    pub steps: Vec<Step>,
    /// What the steps write.
    pub buffers: Vec<Buffer>,
    /// Constants that steps or the segment's results read.
    pub constants: Vec<Constant>,
    /// Values wanted on the host when the steps have run: the program's outputs, or what [`Self::end`] needs.
    pub host: Vec<Operand>,
    /// Values kept on the device: those that the next segment reads, or outputs that stay there.
    pub carry: Vec<Operand>,
    /// What comes after the steps.
    pub end: End,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// [`Segment::host`] holds the program's outputs.
    Done,
    /// The rest of the program is planned once [`Segment::host`] is known.
    Suspend,
}
