//! `refit extract`: an engine's weights as a safetensors file.

use crate::args::Extract;
use crate::failure::Failure;
use crate::output::remark;
use crate::progress::Progress;

pub fn run(args: Extract) -> Result<(), Failure> {
    let progress = Progress::new("extracting");
    let count = refit::extract_file(
        &args.file,
        &args.output,
        Some(&|done, total| progress.update(done, total)),
    )?;
    drop(progress);
    remark!("{}: {count} tensors", args.output.display());
    Ok(())
}
