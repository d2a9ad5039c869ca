//! `refit fill`: puts weights into an engine file.

use super::report_written;
use crate::args::Fill;
use crate::failure::Failure;
use crate::progress::Progress;
use refit::FillOptions;

pub fn run(args: Fill) -> Result<(), Failure> {
    let source = refit::open_sources(&args.weights.sources)?;
    let options = FillOptions { freeze: args.freeze, allow_extra: args.allow_extra };
    let progress = Progress::new("filling");
    let follow = |done, total| progress.update(done, total);
    let written = refit::fill_file(&args.file, &*source, &args.output, options, Some(&follow))?;
    drop(progress);
    report_written(&args.output, &written);
    Ok(())
}
