//! The engine: validated parts.

use crate::{
    Block, DType, Dim, EngineFlags, FormatError, Literal, Tensor, ValueId, Weight, WeightData,
};
use std::collections::BTreeMap;

/// A named input or output of an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// The value it binds.
    pub value: ValueId,
    /// Element type.
    pub dtype: DType,
    /// Symbolic shape; `None` if not even the rank is known before a run.
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

/// Everything an engine is made of. Turned into an [`Engine`] by [`Engine::new`].
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
    /// Inputs, weights, literals and prepared values → outputs; run per call.
    pub execute: Block,
    /// Named constants of the model that are part of the program, sorted by name.
    pub source_literals: Vec<SourceLiteral>,
    /// Names a source may bring although the engine does not use them, sorted.
    pub ignored: Vec<String>,
}

/// A validated engine. Cheap to clone; immutable.
#[derive(Clone, Debug)]
pub struct Engine {
    parts: std::sync::Arc<EngineParts>,
}

impl Engine {
    /// Validates `parts`: ids below `values` and defined once before their use, names unique and
    /// sorted, weights' lengths and digests, flags against the weights present.
    pub fn new(parts: EngineParts) -> Result<Self, FormatError> {
        crate::validate::check(&parts)?;
        Ok(Self { parts: std::sync::Arc::new(parts) })
    }

    /// The parts, read-only.
    pub fn parts(&self) -> &EngineParts {
        &self.parts
    }

    /// What the engine is.
    pub fn flags(&self) -> EngineFlags {
        self.parts.flags
    }

    /// Names of the weights whose bytes are not here, sorted; empty for a full engine.
    pub fn missing(&self) -> Vec<String> {
        let missing = |w: &&Weight| w.data == WeightData::Missing;
        self.parts.weights.iter().filter(missing).map(|w| w.name.clone()).collect()
    }

    /// Whether every weight's bytes are here.
    pub fn is_full(&self) -> bool {
        !self.parts.flags.contains(EngineFlags::EXCLUDE_WEIGHTS)
    }
}
