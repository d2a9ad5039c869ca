//! What a value of a port is made of.

use serde::{Deserialize, Serialize};

/// Whether a value is one tensor or several, and whether it may be absent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A tensor.
    #[default]
    Tensor,
    /// A sequence of tensors of one element type, of any length.
    Sequence,
    /// A tensor that may be absent.
    OptionalTensor,
    /// A sequence that may be absent.
    OptionalSequence,
}

impl Form {
    /// Whether it is a sequence, if it is there.
    pub fn is_sequence(self) -> bool {
        matches!(self, Form::Sequence | Form::OptionalSequence)
    }

    /// Whether it may be absent.
    pub fn is_optional(self) -> bool {
        matches!(self, Form::OptionalTensor | Form::OptionalSequence)
    }

    /// The form of a value that is there.
    #[must_use]
    pub fn required(self) -> Self {
        if self.is_sequence() { Form::Sequence } else { Form::Tensor }
    }

    /// The form of the same value if it may be absent.
    #[must_use]
    pub fn optional(self) -> Self {
        if self.is_sequence() { Form::OptionalSequence } else { Form::OptionalTensor }
    }

    /// A type in words, given that of the tensors: `optional(sequence(f32[3]))`.
    pub fn describe(self, tensor: &str) -> String {
        match self {
            Form::Tensor => tensor.to_owned(),
            Form::Sequence => format!("sequence({tensor})"),
            Form::OptionalTensor => format!("optional({tensor})"),
            Form::OptionalSequence => format!("optional(sequence({tensor}))"),
        }
    }
}
