//! What an engine is made of, before anyone has looked at it.

use crate::{Block, DType, Dim, EngineFlags, Form, Literal, Tensor, ValueId, Weight};
use std::collections::BTreeMap;

/// A named input or output of an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// The value it binds.
    pub value: ValueId,
    /// Whether it is a tensor, a sequence of tensors, and may be absent.
    pub form: Form,
    /// Element type of its tensors.
    pub dtype: DType,
    /// Symbolic shape of its tensors (in a sequence a symbol may stand for another size in each); `None` if not even the rank is known before a run. An [`Engine`](crate::Engine)'s ports have
    /// numbers and bare symbols only: what was an expression is a symbol of its text.
    pub shape: Option<Vec<Dim>>,
}

/// A named constant of the model that became part of the program. A source may bring it
/// again; another value is another graph.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLiteral {
    /// Name in the model.
    pub name: String,
    /// Its contents at build.
    pub tensor: Tensor,
}

/// Everything an engine is made of. Turned into an engine by [`crate::Engine::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct EngineParts {
    /// What the engine is.
    pub flags: EngineFlags,
    /// The model's `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// Inputs in the model's order.
    pub inputs: Vec<Port>,
    /// Outputs in the model's order.
    pub outputs: Vec<Port>,
    /// Number of values; ids are below it.
    pub values: u32,
    /// Constants of the program.
    pub literals: Vec<Literal>,
    /// The weight table, sorted by name.
    pub weights: Vec<Weight>,
    /// Weights → prepared values (`prepare.outputs`); run at refit.
    pub prepare: Block,
    /// Inputs, weights, literals and prepared values → outputs; run per call. Its block outputs are
    /// the values of `outputs`, in that order.
    pub execute: Block,
    /// Named constants of the model that are part of the program, sorted by name.
    pub source_literals: Vec<SourceLiteral>,
    /// Names a source may bring although the engine does not use them, sorted.
    pub ignored: Vec<String>,
}
