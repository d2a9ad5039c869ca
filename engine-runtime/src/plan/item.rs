//! What the planner knows of a value. Sequences and optional values exist only here: a plan's steps deal in tensors.

use crate::held::DeviceTensor;
use engine_format::{Attrs, DType, Tensor, ValueId};
use engine_ops::OpDef;
use engine_ops::cpu::TensorMeta;
use std::fmt;
use std::sync::Arc;

/// A tensor.
#[derive(Clone, Debug)]
pub(crate) struct Val {
    pub origin: Origin,
    pub meta: TensorMeta,
    pub value: Option<Tensor>,
}

/// Where a tensor comes from while planning. It turns into a [`super::Place`] when the segment is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Input(usize),
    Resident(ValueId),
    /// Known to the plan; the id of the literal, if it is one.
    Known(Option<ValueId>),
    /// Written by a step of this segment; counted before unneeded ones fall out.
    Buffer(usize),
    Carried(usize),
}

impl Val {
    pub fn new(origin: Origin, meta: TensorMeta) -> Self {
        Self { origin, meta, value: None }
    }

    pub fn known(literal: Option<ValueId>, tensor: Tensor) -> Self {
        let meta = crate::cpu::kernel::meta(&tensor);
        Self { origin: Origin::Known(literal), meta, value: Some(tensor) }
    }

    /// The same bytes under another shape of as many elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Self {
        let value = self.value.as_ref().and_then(|tensor| tensor.reshaped(&shape).ok());
        let meta = TensorMeta { dtype: self.meta.dtype, shape };
        debug_assert_eq!(meta.len(), self.meta.len());
        Self { origin: self.origin, meta, value }
    }
}

/// Any value.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A tensor.
    Tensor(Val),
    /// A sequence of tensors.
    Sequence(Sequence),
    /// An optional value that is absent. One that is there is that value.
    Absent,
}

/// A sequence of tensors of one element type.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    pub dtype: DType,
    pub elements: Vec<Val>,
}

impl Item {
    /// The tensors in it.
    pub fn vals(&self) -> &[Val] {
        match self {
            Item::Tensor(val) => std::slice::from_ref(val),
            Item::Sequence(sequence) => &sequence.elements,
            Item::Absent => &[],
        }
    }

    /// The tensors in it, to be renamed.
    pub fn vals_mut(&mut self) -> &mut [Val] {
        match self {
            Item::Tensor(val) => std::slice::from_mut(val),
            Item::Sequence(sequence) => &mut sequence.elements,
            Item::Absent => &mut [],
        }
    }

    /// How the tensors make up the value.
    pub fn layout(&self) -> Layout {
        match self {
            Item::Tensor(_) => Layout::Tensor,
            Item::Sequence(s) => Layout::Sequence(s.dtype, s.elements.len()),
            Item::Absent => Layout::Absent,
        }
    }
}

/// The type, as errors show it.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Tensor(val) => write!(f, "{}{:?}", val.meta.dtype, val.meta.shape),
            Item::Sequence(s) => {
                write!(f, "a sequence of {} {} tensors", s.elements.len(), s.dtype)
            }
            Item::Absent => f.write_str("an absent value"),
        }
    }
}

/// How a value is made up of tensors, which stand in flat lists: those on the host, and those on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Of one.
    Tensor,
    /// A sequence of so many, of this element type.
    Sequence(DType, usize),
    /// Of none.
    Absent,
    /// A tensor that stays on the device, from run to run, and stands in a list of its own.
    OnDevice,
}

impl Layout {
    /// Number of tensors in the flat list.
    pub fn tensors(self) -> usize {
        match self {
            Layout::Tensor => 1,
            Layout::Sequence(_, n) => n,
            Layout::Absent | Layout::OnDevice => 0,
        }
    }
}

/// What a plan is made for: tensors, and how values are made up of them. The tensors that a suspended plan goes on with are
/// made up into values by the plan itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunInputs<'a> {
    pub tensors: &'a [Tensor],
    /// Those that lie on the device. A plan knows their types alone; to its first segment they are carried values.
    pub held: &'a [DeviceTensor],
    pub layout: &'a [Layout],
}

/// An operator to be applied: a node of the program, or what a node of sequences comes down to.
pub(crate) struct Call<'a> {
    pub def: &'static OpDef,
    pub attrs: &'a Arc<Attrs>,
    /// The node's path, for errors.
    pub path: &'a Arc<str>,
    /// For each result whether anybody asked for it.
    pub asked: &'a [bool],
}
