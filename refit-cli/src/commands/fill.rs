//! `refit fill`: puts weights into an engine file.

use super::verify::{Compared, against_model, failure, print};
use super::{WrittenReport, open_device, open_engine, open_model, open_weights, remark_fit};
use crate::args::{Fill, RequiredWeights};
use crate::failure::{Context, Failure};
use crate::inputs::Prepared;
use crate::output::give;
use crate::progress::Progress;
use engine_format::{EngineFlags, Filled, SerializeFlags, Spare, WeightSource, Written};
use engine_runtime::{LiveModule, Module, Values};
use engine_verify::Recipe;
use engine_verify::verify::Refilled;
use refit::{FillOptions, FitSummary};
use serde::Serialize;
use std::path::Path;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    written: WrittenReport,
    fit: FitSummary,
    /// How the outputs compare with the model's; empty unless that was asked for.
    compared: Vec<Compared>,
}

/// What it prints of outputs that differ, beside the error.
#[derive(Serialize)]
struct Differing<'a> {
    compared: &'a [Compared],
}

pub fn run(args: Fill) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let (Filled { made, fit }, compared) = match &args.onnx {
        Some(model) => verified(&args, &*source, model)?,
        None => {
            let options = FillOptions { freeze: args.freeze, allow_extra: changes.allow_extra };
            let progress = Progress::new("filling");
            let follow = |done, total| progress.update(done, total);
            let filled =
                refit::fill_file(&args.file, &*source, &args.output, options, Some(&follow))?;
            (filled, Vec::new())
        }
    };
    let written = WrittenReport::new(&args.output, &made);
    let report = Report { written, fit: FitSummary::from(&fit), compared };
    give(&report, None, || {
        print(&report.compared);
        remark_fit(&fit);
        report.written.remark();
    })
}

/// Fills in memory, holds the outputs against the model and writes the very weights that made them.
fn verified(
    args: &Fill,
    source: &dyn WeightSource,
    model: &Path,
) -> Result<(Filled<Written>, Vec<Compared>), Failure> {
    let model = open_model(model)?;
    let policy = args.weights.changes.policy();
    let before = open_engine(&args.file)?;
    let filled = before.fill_into(source, policy, &Spare::default());
    let Filled { made, fit } = filled.doing(format!("filling {}", args.file.display()))?;
    let module = LiveModule::load(made, &open_device(&args.device)?)?;
    let refilled = Refilled { weights: source, before: &before };
    let inputs = Prepared { given: Values::new(), recipe: Recipe::seeded(1) };
    let compared = against_model(&module, &model, Some(refilled), inputs)?;
    if let Some(failure) = failure(&compared, &args.file, "the model's") {
        give(&Differing { compared: &compared }, Some(failure), || print(&compared))?;
    }
    let engine = module.engine();
    let mut options = SerializeFlags::empty();
    options.set(SerializeFlags::INCLUDE_REFIT, !args.freeze);
    options.set(SerializeFlags::COMPRESS, engine.flags().contains(EngineFlags::COMPRESSED));
    let progress = Progress::new("writing");
    let follow = |done, total| progress.update(done, total);
    let made = refit::write_engine(&engine, options, &args.output, Some(&follow))?;
    Ok((Filled { made, fit }, compared))
}
