//! An engine against the unoptimised graph of its model.

use crate::compare::{Agreement, Mismatch, compare};
use crate::inputs::run_seeded;
use crate::oracle::Tensors;
use engine_builder::{BuildError, BuildOptions, build};
use engine_format::{FitError, FitPolicy, WeightSource};
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_runtime::{
    Device, LiveModule, LoadError, Module, Outputs, RunError, RunOptions, Values,
};

/// |a − b| ≤ 1e-5 + 1e-4·|b|: what optimisation and another device may change.
pub const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

/// How one output compares.
#[derive(Debug)]
pub struct Compared {
    /// The output.
    pub output: String,
    /// How far apart, or why not the same.
    pub result: Result<Agreement, Mismatch>,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The model does not build.
    #[error("building the reference: {0}")]
    Build(#[from] BuildError),
    /// The weights do not fit the reference.
    #[error("filling the reference: {0}")]
    Fit(#[from] FitError),
    /// The reference does not load.
    #[error("loading the reference: {0}")]
    Load(#[from] LoadError),
    /// The engine does not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The engine and the model have different outputs.
    #[error("the engine has the outputs {found:?}, the model {expected:?}")]
    Outputs {
        /// The engine's.
        found: Vec<String>,
        /// The model's.
        expected: Vec<String>,
    },
}

/// Runs `module` and the unoptimised graph of `model` (on the CPU) over the same seeded inputs and compares every output. `weights`
/// fill the reference; without them it has the model's own.
///
/// # Errors
/// Only if something does not run; outputs that differ are in the result.
pub fn verify(
    module: &dyn Module,
    model: &Model,
    weights: Option<&dyn WeightSource>,
    seed: u64,
) -> Result<Vec<Compared>, VerifyError> {
    let options = BuildOptions { optimise: false, ..BuildOptions::default() };
    let mut reference = build(model, &options)?;
    if let Some(weights) = weights {
        reference =
            reference.fill(weights, FitPolicy { allow_extra: true, ..FitPolicy::default() })?;
    }
    let reference = LiveModule::load(reference, &Device::cpu())?;
    let run = run_seeded(&reference, &Values::new(), seed)?;
    let expected = flat(run.outputs);
    let found = flat(module.run_with(&run.inputs, &RunOptions::default())?);
    if !found.keys().eq(expected.keys()) {
        let names = |tensors: &Tensors| tensors.keys().cloned().collect();
        return Err(VerifyError::Outputs { found: names(&found), expected: names(&expected) });
    }
    let compared = |(output, expected): (String, _)| Compared {
        result: compare(&found[&output], &expected, TOLERANCE),
        output,
    };
    Ok(expected.into_iter().map(compared).collect())
}

/// Every tensor of the outputs; element 3 of a sequence is `NAME[3]`.
fn flat(outputs: Outputs) -> Tensors {
    let mut tensors = outputs.tensors;
    for (name, value) in outputs.structures {
        for (i, tensor) in value.tensors().iter().enumerate() {
            tensors.insert(format!("{name}[{i}]"), tensor.clone());
        }
    }
    tensors
}
