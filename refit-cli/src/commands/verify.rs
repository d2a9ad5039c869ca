//! `refit verify`: an engine against the unoptimised graph of its model, or against the probes it carries.

use super::{filled, open_engine, open_model, open_on, open_weights};
use crate::args::{Verify, Weights};
use crate::failure::{Exit, Failure};
use crate::output::say;
use engine_format::WeightSource;
use engine_onnx::Model;
use engine_runtime::{LiveModule, Module, State};
use engine_verify::verify::{Checked, Compared, Refilled, VerifyError, check_probes, verify};
use std::path::Path;

/// Seeds of the inputs that are compared.
const SEEDS: [u64; 3] = [1, 2, 3];

pub fn run(args: Verify) -> Result<(), Failure> {
    let Weights { sources, changes } = &args.weights;
    let engine = open_engine(&args.file)?;
    let source = open_weights(sources, changes, &|| Ok(engine.clone()))?;
    let source = source.as_deref().map(|s| s as &dyn WeightSource);
    let (engine, before) = (filled(&args.file, engine.clone(), source, changes)?.0, engine);
    let module = LiveModule::load(engine, &open_on(&args.device)?)?;
    match &args.onnx {
        Some(model) => {
            let refilled = source.map(|weights| Refilled { weights, before: &before });
            against_model(&module, &open_model(model)?, refilled, &args.file)
        }
        None => against_probes(&module, &args.file),
    }
}

/// Prints how the outputs of `module`, loaded from `file`, compare with those of the unoptimised graph of `model`.
///
/// # Errors
/// `Different` if one does not agree.
pub(super) fn against_model(
    module: &dyn Module,
    model: &Model,
    refilled: Option<Refilled<'_>>,
    file: &Path,
) -> Result<(), Failure> {
    let mut different = 0;
    for seed in SEEDS {
        different += report(&format!("seed {seed}"), verify(module, model, refilled, seed)?);
    }
    if different > 0 {
        let what = format!("{different} outputs of {} differ from the model's", file.display());
        return Err(Failure::new(Exit::Different, what));
    }
    Ok(())
}

fn against_probes(module: &dyn Module, file: &Path) -> Result<(), Failure> {
    if module.engine().probes().is_empty() {
        let what = format!("{} carries no probes to be held against", file.display());
        let help = "give the model (--onnx MODEL), or build the engine with --probe N; stripping drops probes";
        return Err(Failure::with_help(Exit::Usage, what, help));
    }
    let mut different = 0;
    for (index, checked) in check_probes(module)?.into_iter().enumerate() {
        match checked {
            Checked::Compared(outputs) => different += report(&format!("probe {index}"), outputs),
            Checked::NotApplicable(version) => {
                let now = match module.state() {
                    State::Ready(version) => version.to_string(),
                    State::NeedsWeights(_) => "none".to_owned(),
                };
                say!("probe {index}: not applicable, it is of weights {version}, these are {now}");
            }
        }
    }
    if different > 0 {
        let what = format!("{different} outputs of {} differ from its probes", file.display());
        return Err(Failure::new(Exit::Different, what));
    }
    Ok(())
}

/// Prints each comparison and gives back how many do not agree.
fn report(what: &str, outputs: Vec<Compared>) -> usize {
    let mut different = 0;
    for Compared { output, result } in outputs {
        match result {
            Ok(agreement) => say!("{what}, {output}: agrees, {agreement}"),
            Err(mismatch) => {
                different += 1;
                say!("{what}, {output}: DIFFERENT: {mismatch}");
            }
        }
    }
    different
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Run(error) => error.into(),
            VerifyError::Fit(error) => error.into(),
            VerifyError::Load(error) => error.into(),
            VerifyError::Outputs { .. } | VerifyError::Differs { .. } => {
                Self::new(Exit::Different, error)
            }
            error => Self::new(Exit::File, error),
        }
    }
}
