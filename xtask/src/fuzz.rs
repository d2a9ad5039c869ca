//! `cargo xtask fuzz`: the driver of `engine-fuzz` on every core, built as tests are: optimised, with all checks.

use miette::{Context, IntoDiagnostic, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Builds the driver and runs it with these arguments.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--package", "engine-fuzz", "--"])
        .args(arguments)
        .current_dir(root)
        .status()
        .into_diagnostic()
        .wrap_err("starting the driver")?;
    ensure!(status.success(), "the driver ended with {status}");
    Ok(())
}
