//! `refit strip`: leaves the refittable weights out.

use super::report_written;
use crate::args::Strip;
use crate::failure::Failure;
use crate::progress::Progress;

pub fn run(args: Strip) -> Result<(), Failure> {
    let progress = Progress::new("stripping");
    let written = refit::strip_file(
        &args.file,
        &args.output,
        Some(&|done, total| progress.update(done, total)),
    )?;
    report_written(&args.output, &written);
    Ok(())
}
