//! `cargo xtask bench gpu`: a folder to take to a machine with a GPU, on which it times refit beside PyTorch.

use clap::Args;
use miette::{IntoDiagnostic, Result, WrapErr, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the folder is made.
#[derive(Args)]
pub struct Arguments {
    /// The folder; it may be there already.
    #[arg(long, value_name = "FOLDER", default_value = "target/bench-gpu")]
    out: PathBuf,
}

/// What runs on the other machine.
const SCRIPT: &str = include_str!("gpu.py");

/// Builds the program for release and puts it into the folder, with the script and the commit that it was built from.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let folder = root.join(&arguments.out);
    fs::create_dir_all(&folder).into_diagnostic()?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "refit-cli"]).current_dir(root);
    let status = cargo.status().into_diagnostic()?;
    ensure!(status.success(), "building the program ended with {status}");
    let built = root.join("target/release/refit");
    fs::copy(&built, folder.join("refit"))
        .into_diagnostic()
        .wrap_err_with(|| format!("copying {}", built.display()))?;
    let mut git = Command::new("git");
    let commit = git.args(["describe", "--always", "--dirty"]).current_dir(root).output();
    fs::write(folder.join("commit"), commit.into_diagnostic()?.stdout).into_diagnostic()?;
    let script = folder.join("gpu.py");
    fs::write(&script, SCRIPT).into_diagnostic()?;
    println!(
        "{} is ready; on the machine with the GPU run python3 gpu.py there, and keep report.md in docs/benchmarks",
        folder.display()
    );
    Ok(())
}
