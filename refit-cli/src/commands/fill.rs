//! `refit fill`: puts weights into an engine file.

use super::{open_engine, open_weights, report_written};
use crate::args::{Fill, RequiredWeights};
use crate::failure::Failure;
use crate::progress::Progress;
use refit::FillOptions;

pub fn run(args: Fill) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let options = FillOptions { freeze: args.freeze, allow_extra: args.allow_extra };
    let progress = Progress::new("filling");
    let follow = |done, total| progress.update(done, total);
    let written = refit::fill_file(&args.file, &*source, &args.output, options, Some(&follow))?;
    drop(progress);
    report_written(&args.output, &written);
    Ok(())
}
