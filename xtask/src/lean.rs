//! `cargo xtask lean`: how large a program is that only loads, refits and runs engines on the CPU.

use miette::{IntoDiagnostic, Result, WrapErr, ensure};
use std::path::Path;
use std::process::Command;

/// Builds `engine-runtime/examples/lean.rs` without GPUs and prints its size.
pub fn run(root: &Path) -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--package", "engine-runtime", "--example", "lean"])
        .args(["--no-default-features", "--profile", "lean", "--target-dir", "target"])
        .current_dir(root)
        .status()
        .into_diagnostic()
        .wrap_err("starting cargo")?;
    ensure!(status.success(), "the lean program does not build");
    let name = format!("lean{}", std::env::consts::EXE_SUFFIX);
    let path = root.join("target/lean/examples").join(name);
    let size = std::fs::metadata(&path).into_diagnostic()?.len();
    println!("{}: {:.2} MB", path.display(), size as f64 / 1e6);
    Ok(())
}
