//! `cargo xtask package`: the crates that are published, packed as they would be, and each built from what is in its package.

use crate::workspace;
use miette::{IntoDiagnostic, Result, WrapErr, ensure};
use std::path::Path;
use std::process::Command;

/// Packs and builds them; cargo stands in for the registry, so that crates find one another.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.arg("package");
    for name in workspace::published(root)? {
        command.args(["--package", &name]);
    }
    let status = command.args(arguments).current_dir(root).status();
    let status = status.into_diagnostic().wrap_err("starting cargo package")?;
    ensure!(status.success(), "cargo package ended with {status}");
    Ok(())
}
