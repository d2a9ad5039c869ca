//! `refit fill`: puts weights into an engine file.

use super::verify::against_model;
use super::{
    open_device, open_engine, open_model, open_weights, print_json, remark_fit, report_written,
};
use crate::args::{Fill, RequiredWeights};
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use engine_format::{EngineFlags, Filled, SerializeFlags, Spare, WeightSource, Written};
use engine_runtime::{LiveModule, Module};
use engine_verify::verify::Refilled;
use refit::{FillOptions, FitSummary};
use serde::Serialize;
use std::path::Path;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    flags: Vec<String>,
    bytes: u64,
    version: Option<String>,
    fit: FitSummary,
}

pub fn run(args: Fill) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let Filled { made, fit } = match &args.onnx {
        Some(model) => verified(&args, &*source, model)?,
        None => {
            let options = FillOptions { freeze: args.freeze, allow_extra: changes.allow_extra };
            let progress = Progress::new("filling");
            let follow = |done, total| progress.update(done, total);
            refit::fill_file(&args.file, &*source, &args.output, options, Some(&follow))?
        }
    };
    if args.json {
        return print_json(&Report {
            flags: made.flags.flag_names(),
            bytes: made.length,
            version: made.version.map(|version| version.to_string()),
            fit: FitSummary::from(&fit),
        });
    }
    remark_fit(&fit);
    report_written(&args.output, &made);
    Ok(())
}

/// Fills in memory, holds the outputs against the model and writes the very weights that made them.
fn verified(
    args: &Fill,
    source: &dyn WeightSource,
    model: &Path,
) -> Result<Filled<Written>, Failure> {
    let model = open_model(model)?;
    let policy = args.weights.changes.policy();
    let before = open_engine(&args.file)?;
    let filled = before.fill_into(source, policy, &Spare::default());
    let Filled { made, fit } = filled.doing(format!("filling {}", args.file.display()))?;
    let module = LiveModule::load(made, &open_device(&args.device)?)?;
    let refilled = Refilled { weights: source, before: &before };
    against_model(&module, &model, Some(refilled), &args.file)?;
    let engine = module.engine();
    let mut wish = SerializeFlags::empty();
    wish.set(SerializeFlags::INCLUDE_REFIT, !args.freeze);
    wish.set(SerializeFlags::COMPRESS, engine.flags().contains(EngineFlags::COMPRESSED));
    let progress = Progress::new("writing");
    let follow = |done, total| progress.update(done, total);
    let made = refit::write_engine(&engine, wish, &args.output, Some(&follow))?;
    Ok(Filled { made, fit })
}
