//! What cargo says of this workspace, and commands that are run in it.

use miette::{Context, IntoDiagnostic, Result, ensure, miette};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Names of the crates that are published, in the order of their names.
pub fn published(root: &Path) -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .into_diagnostic()
        .wrap_err("starting cargo metadata")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata ended with {}: {why}", output.status);
    let metadata: Value = serde_json::from_slice(&output.stdout).into_diagnostic()?;
    let packages = metadata["packages"].as_array();
    let packages = packages.ok_or_else(|| miette!("cargo metadata lists no packages"))?;
    // No list of registries is all of them, an empty one is none.
    let published = packages.iter().filter(|package| package["publish"].is_null());
    let mut names: Vec<String> =
        published.filter_map(|package| package["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// Runs a command; it is to end well.
pub fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().into_diagnostic();
    let status = status.wrap_err_with(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
