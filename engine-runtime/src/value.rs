//! What goes into a run and comes out of it.

use crate::plan::item::Layout;
use engine_format::Tensor;

/// A value of a port.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor; also an optional tensor that is there.
    Tensor(Tensor),
    /// A sequence of tensors; also an optional sequence that is there.
    Sequence(Vec<Tensor>),
    /// An optional value that is absent.
    Absent,
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Value::Tensor(tensor)
    }
}

impl From<Vec<Tensor>> for Value {
    fn from(elements: Vec<Tensor>) -> Self {
        Value::Sequence(elements)
    }
}

impl Value {
    /// The tensors in it.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Value::Tensor(tensor) => std::slice::from_ref(tensor),
            Value::Sequence(elements) => elements,
            Value::Absent => &[],
        }
    }

    /// The values that `tensors` make up as `layout` says.
    pub(crate) fn assemble(tensors: Vec<Tensor>, layout: &[Layout]) -> Vec<Self> {
        let mut tensors = tensors.into_iter();
        let value = |layout: &Layout| match layout {
            Layout::Absent => Value::Absent,
            Layout::Tensor => Value::Tensor(tensors.next().expect("a layout counts its tensors")),
            Layout::Sequence(_, n) => Value::Sequence(tensors.by_ref().take(*n).collect()),
        };
        layout.iter().map(value).collect()
    }
}
