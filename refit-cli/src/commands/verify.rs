//! `refit verify`: an engine against the unoptimised graph of its model, or against the probes it carries.

use super::{filled, open_engine, open_model, open_on, open_weights};
use crate::args::{Verify, Weights};
use crate::failure::{Class, Failure};
use crate::inputs::{Prepared, prepare};
use crate::output::{give, say};
use engine_format::{Port, WeightSource};
use engine_onnx::Model;
use engine_runtime::{LiveModule, Module, State};
use engine_verify::verify::{
    self, Checked, Refilled, VerifyError, check_probes, model_module, verify_on,
};
use serde::Serialize;
use std::path::Path;

/// Runs with seeds one after the other that are compared.
const RUNS: u64 = 3;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    /// `model` or `probes`.
    against: &'static str,
    compared: Vec<Compared>,
}

/// One output, held against what it should be.
#[derive(Serialize)]
pub(super) struct Compared {
    /// The inputs: `seed 1`, `probe 0`.
    of: String,
    /// The output; null for a probe of other weights.
    output: Option<String>,
    /// Null if there is nothing to compare, or nothing but NaN.
    agrees: Option<bool>,
    /// Largest absolute difference of an output that agrees.
    max_abs: Option<f64>,
    /// Largest relative one, among elements above the absolute tolerance.
    max_rel: Option<f64>,
    /// All of it, in words.
    message: String,
}

pub fn run(args: Verify) -> Result<(), Failure> {
    let Weights { sources, changes } = &args.weights;
    let engine = open_engine(&args.file)?;
    let source = open_weights(sources, changes, &|| Ok(engine.clone()))?;
    let source = source.as_deref().map(|s| s as &dyn WeightSource);
    let (engine, before) = (filled(&args.file, engine.clone(), source, changes)?.0, engine);
    let module = LiveModule::load(engine, &open_on(&args.device)?)?;
    let inputs = prepare(module.inputs(), &args.inputs)?;
    let (against, whose, compared) = match &args.onnx {
        Some(model) => {
            let refilled = source.map(|weights| Refilled { weights, before: &before });
            ("model", "the model's", against_model(&module, &open_model(model)?, refilled, inputs)?)
        }
        None if !args.inputs.input.is_empty() || !args.inputs.shape.is_empty() => {
            let what = "probes have inputs of their own";
            return Err(Failure::with_help(Class::Usage, what, "give the model too: --onnx MODEL"));
        }
        None => ("probes", "its probes", against_probes(&module, &args.file)?),
    };
    let failure = failure(&compared, &args.file, whose);
    let report = Report { device: module.device().to_string(), against, compared };
    give(&report, failure, || print(&report.compared))
}

/// How the outputs of `module` compare with those of the unoptimised graph of `model`.
pub(super) fn against_model(
    module: &dyn Module,
    model: &Model,
    refilled: Option<Refilled<'_>>,
    Prepared { given, mut recipe }: Prepared,
) -> Result<Vec<Compared>, Failure> {
    let reference = model_module(model, &module.engine(), refilled)?;
    // Where nothing is random one run says it all.
    let is_random = |port: &Port| !given.contains_key(&port.name);
    let runs = if module.inputs().iter().any(is_random) { RUNS } else { 1 };
    let mut compared = Vec::new();
    for _ in 0..runs {
        let outputs = verify_on(module, &reference, &given, &recipe)?;
        let of = match runs {
            1 => "inputs".to_owned(),
            _ => format!("seed {}", recipe.seed),
        };
        compared.extend(outputs.into_iter().map(|output| one(of.clone(), output)));
        recipe.seed = recipe.seed.wrapping_add(1);
    }
    Ok(compared)
}

fn against_probes(module: &dyn Module, file: &Path) -> Result<Vec<Compared>, Failure> {
    if module.engine().probes().is_empty() {
        let what = format!("{} carries no probes to be held against", file.display());
        let help = "give the model (--onnx MODEL), or build the engine with --probe N; stripping drops probes";
        return Err(Failure::with_help(Class::Usage, what, help));
    }
    let mut compared = Vec::new();
    for (index, checked) in check_probes(module)?.into_iter().enumerate() {
        let of = format!("probe {index}");
        match checked {
            Checked::Compared(outputs) => {
                compared.extend(outputs.into_iter().map(|output| one(of.clone(), output)));
            }
            Checked::NotApplicable(version) => {
                let now = match module.state() {
                    State::Ready(version) => version.to_string(),
                    State::NeedsWeights(_) => "none".to_owned(),
                };
                let message =
                    format!("not applicable, it is of weights {version}, these are {now}");
                let (max_abs, max_rel) = (None, None);
                compared.push(Compared {
                    of,
                    output: None,
                    agrees: None,
                    max_abs,
                    max_rel,
                    message,
                });
            }
        }
    }
    Ok(compared)
}

fn one(of: String, compared: verify::Compared) -> Compared {
    let is_unproven = compared.is_unproven();
    let verify::Compared { output, result, nan, elements } = compared;
    let (max_abs, max_rel) = result.as_ref().map(|far| (far.max_abs, far.max_rel)).ok().unzip();
    let (agrees, message) = match result {
        Ok(_) if is_unproven => {
            (None, format!("UNPROVEN: all {elements} elements are NaN in both"))
        }
        Ok(agreement) if nan > 0 => {
            let but = format!("but {nan} of {elements} elements are NaN in both, and unproven");
            (Some(true), format!("agrees, {agreement}, {but}"))
        }
        Ok(agreement) => (Some(true), format!("agrees, {agreement}")),
        Err(mismatch) => (Some(false), format!("DIFFERENT: {mismatch}")),
    };
    Compared { of, output: Some(output), agrees, max_abs, max_rel, message }
}

/// The failure that there is if outputs differ from those of `reference`, or if nothing is proven of one.
pub(super) fn failure(compared: &[Compared], file: &Path, reference: &str) -> Option<Failure> {
    let count = |agrees: Option<bool>| {
        compared.iter().filter(|one| one.output.is_some() && one.agrees == agrees).count()
    };
    let (differing, unproven) = (count(Some(false)), count(None));
    let file = file.display();
    if differing > 0 {
        let what = format!("{differing} outputs of {file} differ from {reference}");
        return Some(Failure::new(Class::Different, what));
    }
    let what = format!(
        "{unproven} outputs of {file} are unproven: they have no number, nor have {reference}"
    );
    let help =
        "give inputs of which it makes numbers, a mask of ones for example: --input NAME=ones";
    (unproven > 0).then(|| Failure::with_help(Class::Different, what, help))
}

/// Prints each comparison in a line.
pub(super) fn print(compared: &[Compared]) {
    for Compared { of, output, message, .. } in compared {
        match output {
            Some(output) => say!("{of}, {output}: {message}"),
            None => say!("{of}: {message}"),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Run(error) => error.into(),
            VerifyError::Fit(error) => error.into(),
            VerifyError::Load(error) => error.into(),
            VerifyError::Outputs { .. } | VerifyError::Differs { .. } => {
                Self::new(Class::Different, error)
            }
            VerifyError::Build(ref built) => Self::from(built).message(error),
            error => Self::new(Class::InvalidFile, error),
        }
    }
}
