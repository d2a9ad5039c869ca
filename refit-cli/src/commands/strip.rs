//! `refit strip`: leaves the refittable weights out.

use super::WrittenReport;
use crate::args::Strip;
use crate::failure::Failure;
use crate::output::give;
use crate::progress::Progress;

pub fn run(args: Strip) -> Result<(), Failure> {
    let progress = Progress::new("stripping");
    let written = refit::strip_file(
        &args.file,
        &args.output,
        Some(&|done, total| progress.update(done, total)),
    )?;
    drop(progress);
    let report = WrittenReport::new(&args.output, &written);
    give(&report, None, || report.remark())
}
