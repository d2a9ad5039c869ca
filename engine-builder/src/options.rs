//! What a caller may choose about a build.

use engine_format::{DType, EngineFlags};
use std::collections::BTreeMap;

/// Which weights may be given new values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RefitMode {
    /// Any values of the same type and shape.
    #[default]
    All,
    /// Only the values at build, checked by digest.
    Identical,
    /// None: the engine is frozen.
    None,
}

/// To what products and convolutions round their weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all: they are `f32` as in the model.
    #[default]
    F32,
    /// To `f16`.
    F16,
    /// To `bf16`.
    BF16,
}

impl Precision {
    /// What is rounded to, if anything.
    pub(crate) fn rounds_to(self) -> Option<DType> {
        match self {
            Self::F32 => None,
            Self::F16 => Some(DType::F16),
            Self::BF16 => Some(DType::BF16),
        }
    }

    /// The flag of engines with it; none for `f32`.
    pub fn flag(self) -> EngineFlags {
        match self {
            Self::F32 => EngineFlags::empty(),
            Self::F16 => EngineFlags::F16,
            Self::BF16 => EngineFlags::BF16,
        }
    }
}

/// Choices of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    /// Which weights may be given new values.
    pub refit: RefitMode,
    /// Patterns (`*`, `?`, `[…]`) of weight names. If there are any, only weights that match one may change and the others
    /// are frozen. Goes with [`RefitMode::All`] only.
    pub refit_only: Vec<String>,
    /// Graph inputs that stay inputs although the model has an initializer of that name.
    pub keep_inputs: Vec<String>,
    /// Shapes that inputs always have. A symbol that becomes a number is that number everywhere.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Whether the bytes of refittable weights stay out of the engine, which is as a stripped one then: nothing of theirs is copied, and a
    /// fill from the model or the checkpoint gives what a build without this gives.
    pub strip: bool,
    /// Whether to run the passes. Without them the engine runs the graph as it was imported, which is what
    /// optimised engines are compared with.
    pub optimise: bool,
    /// To what the weights of products, convolutions and embeddings are rounded whenever they change: the sources stay those of the
    /// model. Sums, biases, norms and all values between nodes are `f32` in every precision.
    pub precision: Precision,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            refit: RefitMode::All,
            refit_only: Vec::new(),
            keep_inputs: Vec::new(),
            shapes: BTreeMap::new(),
            strip: false,
            optimise: true,
            precision: Precision::F32,
        }
    }
}
