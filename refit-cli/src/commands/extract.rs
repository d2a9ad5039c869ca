//! `refit extract`: an engine's weights as a safetensors file.

use crate::args::Extract;
use crate::failure::Failure;
use crate::output::{give, remark};
use crate::progress::Progress;
use serde::Serialize;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    tensors: usize,
}

pub fn run(args: Extract) -> Result<(), Failure> {
    let progress = Progress::new("extracting");
    let tensors = refit::extract_file(
        &args.file,
        &args.output,
        Some(&|done, total| progress.update(done, total)),
    )?;
    drop(progress);
    let report = Report { file: args.output.display().to_string(), tensors };
    give(&report, None, || remark!("{}: {tensors} tensors", report.file))
}
