//! `cargo xtask test`: every test of the workspace, with an adapter for those that need a GPU.

use crate::vulkan;
use miette::{IntoDiagnostic, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Runs the tests. Without any adapter the GPU tests are skipped by name, and `CI` makes that a failure.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace"]).args(arguments);
    match vulkan::environment(&root.join("target")) {
        Ok(environment) => {
            command.envs(environment).env("REFIT_REQUIRE_GPU", "1");
        }
        Err(why) if std::env::var_os("CI").is_some() => return Err(why),
        Err(why) => println!("SKIPPED: all GPU tests, because there is no Vulkan adapter: {why:?}"),
    }
    let status = command.current_dir(root).status().into_diagnostic()?;
    ensure!(status.success(), "cargo test ended with {status}");
    Ok(())
}
