//! What is wrong with a use of an operator.

/// An operator was used in a way it does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    message: String,
    out_of_memory: bool,
}

impl OpError {
    /// States what was found and what is taken.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), out_of_memory: false }
    }

    /// States what takes more memory than there is, or than a limit leaves.
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self { message: message.into(), out_of_memory: true }
    }

    /// Whether memory was missing.
    pub fn is_out_of_memory(&self) -> bool {
        self.out_of_memory
    }
}
