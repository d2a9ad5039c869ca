//! `refit compare`: an engine's outputs against those of another runtime, another engine, or a file.

mod table;

use super::{filled, onnxruntime, open_device, open_engine, open_model, open_on, open_weights};
use crate::args::{Compare, Reference, Weights};
use crate::failure::{Class, Failure};
use crate::inputs::prepare;
use crate::output::{give, remark};
use engine_format::{Engine, Tensor, WeightSource};
use engine_ops::Tolerance;
use engine_runtime::{LiveModule, Module, Outputs, RunOptions, Values};
use engine_verify::inputs::run_made;
use engine_verify::verify::{Refilled, TOLERANCE, flat, model_module};
use engine_verify::{Comparison, Worst};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    /// What the engine is held against.
    with: String,
    atol: f64,
    rtol: f64,
    /// The inputs' types.
    inputs: BTreeMap<String, String>,
    outputs: Vec<Compared>,
    only_in_engine: Vec<String>,
    only_in_other: Vec<String>,
}

/// One output, held against the other's.
#[derive(Serialize)]
struct Compared {
    output: String,
    agrees: bool,
    found: String,
    expected: String,
    /// Elements beyond the tolerance; null if types or shapes differ.
    differing: Option<usize>,
    nan_found: usize,
    nan_expected: usize,
    /// Null where there are no numbers to be compared, or infinite.
    max_abs: Option<f64>,
    max_rel: Option<f64>,
    cosine: Option<f64>,
    /// The element with the largest difference.
    worst: Option<WorstReport>,
}

#[derive(Serialize)]
struct WorstReport {
    index: Vec<usize>,
    found: f64,
    expected: f64,
}

/// What an engine is held against.
struct Other {
    /// Who it is, in words.
    who: String,
    tensors: Tensors,
    /// Whether it has all outputs there should be.
    is_whole: bool,
}

pub fn run(args: Compare) -> Result<(), Failure> {
    let tolerance = match args.max_diff {
        Some(most) => Tolerance { atol: most, rtol: 0.0 },
        None => Tolerance {
            atol: args.atol.unwrap_or(TOLERANCE.atol),
            rtol: args.rtol.unwrap_or(TOLERANCE.rtol),
        },
    };
    let Weights { sources, changes } = &args.weights;
    let before = open_engine(&args.file)?;
    let source = open_weights(sources, changes, &|| Ok(before.clone()))?;
    let source = source.as_deref().map(|source| source as &dyn WeightSource);
    let engine = filled(&args.file, before.clone(), source, changes)?.0;
    let module = LiveModule::load(engine, &open_on(&args.device)?)?;
    let prepared = prepare(module.inputs(), &args.inputs)?;
    let run = run_made(&module, &prepared.given, &prepared.recipe)?;
    let found = flat(run.outputs);
    let other = match &args.with {
        Reference::Onnx(model) => {
            let refilled = source.map(|weights| Refilled { weights, before: &before });
            let reference = model_module(&open_model(model)?, &module.engine(), refilled)?;
            let who = format!("the unoptimised graph of {} on the CPU", model.display());
            Other { who, tensors: outputs_of(&reference, &run.inputs)?, is_whole: true }
        }
        Reference::Onnxruntime(model) => {
            let onnxruntime::Made { who, tensors } = onnxruntime::run(model, &run.inputs)?;
            Other { who, tensors, is_whole: true }
        }
        Reference::Tensors(file) => of_file(file, &found)?,
        Reference::Engine(file) => {
            let engine = open_engine(file)?;
            let source = source.filter(|_| !engine.is_full());
            let engine: Engine = filled(file, engine, source, changes)?.0;
            let device = open_device(&args.with_device)?;
            let reference = LiveModule::load(engine, &device)?;
            let who = format!("{} on {device}", file.display());
            Other { who, tensors: outputs_of(&reference, &run.inputs)?, is_whole: true }
        }
    };
    let report = report(&module, &run.inputs, &found, &other, tolerance);
    if report.outputs.is_empty() {
        let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>().join(", ");
        let (ours, theirs) = (names(&found), names(&other.tensors));
        let what = format!("no output is in both: the engine has {ours}, {} {theirs}", other.who);
        return Err(Failure::new(Class::Usage, what));
    }
    let wrong = report.outputs.iter().filter(|one| !one.agrees).count();
    let missing = match other.is_whole {
        true => report.only_in_engine.len() + report.only_in_other.len(),
        false => 0,
    };
    let failure = (wrong + missing > 0).then(|| {
        let what =
            format!("{} of {} outputs differ", wrong + missing, report.outputs.len() + missing);
        Failure::new(Class::Different, what)
    });
    if !other.is_whole && !report.only_in_engine.is_empty() {
        remark!("not compared: {}", report.only_in_engine.join(", "));
    }
    give(&report, failure, || table::print(&args.file, &report, &run.made))
}

fn outputs_of(module: &dyn Module, inputs: &Values) -> Result<Tensors, Failure> {
    let outputs: Outputs = module.run_with(inputs, &RunOptions::default())?;
    Ok(flat(outputs))
}

/// The tensors of a file that are called as outputs are.
fn of_file(file: &Path, found: &Tensors) -> Result<Other, Failure> {
    let source = refit::open_source(file)?;
    let mut tensors = Tensors::new();
    let (outputs, others): (Vec<String>, Vec<String>) =
        source.names().into_iter().partition(|name| found.contains_key(name));
    if !others.is_empty() {
        remark!("{}: no outputs: {}", file.display(), others.join(", "));
    }
    for name in outputs {
        let read = source.read(&name).map_err(|error| Failure::new(Class::InvalidFile, error))?;
        tensors.extend(read.map(|tensor| (name, tensor)));
    }
    Ok(Other { who: file.display().to_string(), tensors, is_whole: false })
}

fn report(
    module: &dyn Module,
    inputs: &Values,
    found: &Tensors,
    other: &Other,
    tolerance: Tolerance,
) -> Report {
    let only = |a: &Tensors, b: &Tensors| -> Vec<String> {
        a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
    };
    let both =
        found.iter().filter_map(|(name, tensor)| Some((name, tensor, other.tensors.get(name)?)));
    let compared = both.map(|(output, found, expected)| {
        compared(output, Comparison::new(found, expected, tolerance))
    });
    Report {
        device: module.device().to_string(),
        with: other.who.clone(),
        atol: tolerance.atol,
        rtol: tolerance.rtol,
        inputs: inputs.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        outputs: compared.collect(),
        only_in_engine: only(found, &other.tensors),
        only_in_other: only(&other.tensors, found),
    }
}

fn compared(output: &str, one: Comparison) -> Compared {
    let [found, expected] = one.types;
    let [nan_found, nan_expected] = one.nan;
    let numbers = one.numbers;
    Compared {
        output: output.to_owned(),
        agrees: one.agrees,
        found,
        expected,
        differing: one.differing,
        nan_found,
        nan_expected,
        max_abs: numbers.as_ref().map(|numbers| numbers.max_abs),
        max_rel: numbers.as_ref().map(|numbers| numbers.max_rel),
        cosine: numbers.as_ref().and_then(|numbers| numbers.cosine),
        worst: numbers.and_then(|numbers| numbers.worst).map(|worst| {
            let Worst { index, found, expected } = worst;
            WorstReport { index, found, expected }
        }),
    }
}
