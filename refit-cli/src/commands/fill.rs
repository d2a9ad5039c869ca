//! `refit fill`: puts weights into an engine file.

use super::verify::against_model;
use super::{open_engine, open_model, open_weights, report_written};
use crate::args::{Fill, RequiredWeights};
use crate::failure::{Context, Failure};
use crate::progress::Progress;
use engine_format::{EngineFlags, FitPolicy, SerializeFlags, WeightSource, Written};
use engine_runtime::{Device, LiveModule, Module};
use refit::FillOptions;
use std::path::Path;

pub fn run(args: Fill) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let written = match &args.onnx {
        Some(model) => verified(&args, &*source, model)?,
        None => {
            let options = FillOptions { freeze: args.freeze, allow_extra: args.allow_extra };
            let progress = Progress::new("filling");
            let follow = |done, total| progress.update(done, total);
            refit::fill_file(&args.file, &*source, &args.output, options, Some(&follow))?
        }
    };
    report_written(&args.output, &written);
    Ok(())
}

/// Fills in memory, holds the outputs against the model and writes the very weights that made them.
fn verified(args: &Fill, source: &dyn WeightSource, model: &Path) -> Result<Written, Failure> {
    let model = open_model(model)?;
    let policy = FitPolicy { partial: false, allow_extra: args.allow_extra };
    let engine = open_engine(&args.file)?.fill(source, policy);
    let engine = engine.doing(format!("filling {}", args.file.display()))?;
    let module = LiveModule::load(engine, &Device::open(&args.device)?)?;
    against_model(&module, &model, Some(source), &args.file)?;
    let engine = module.engine();
    let mut wish = SerializeFlags::empty();
    wish.set(SerializeFlags::INCLUDE_REFIT, !args.freeze);
    wish.set(SerializeFlags::COMPRESS, engine.flags().contains(EngineFlags::COMPRESSED));
    let progress = Progress::new("writing");
    let follow = |done, total| progress.update(done, total);
    Ok(refit::write_engine(&engine, wish, &args.output, Some(&follow))?)
}
