//! `cargo xtask tint`: every shader through the compiler of browsers, which refuses what naga lets pass (barriers in control flow that
//! is not uniform, for one).

use crate::workspace::checked;
use miette::{IntoDiagnostic, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Dawn for Node, which holds Tint.
const DAWN: &str = "webgpu@0.6.2";

/// Compiles the texts of all GPU programs that the tests of the table make: those of rows' own kernels, and those of candidates for
/// several made-up devices. Those with cooperative matrices are left out, which are wgpu's own.
pub fn run(root: &Path) -> Result<()> {
    let folder = root.join("target/tint").join(DAWN);
    let shaders = folder.join("shaders");
    if shaders.exists() {
        fs::remove_dir_all(&shaders).into_diagnostic()?;
    }
    fs::create_dir_all(&shaders).into_diagnostic()?;
    // The whole workspace's features, so that what its tests have built is used.
    let tests = ["test", "--workspace", "--test", "shaders", "every_program_is_valid"];
    checked(
        Command::new(env!("CARGO")).args(tests).current_dir(root).env("REFIT_SHADERS", &shaders),
    )?;
    let program = folder.join("tint.mjs");
    fs::copy(root.join("xtask/src/tint.mjs"), &program).into_diagnostic()?;
    if !folder.join("node_modules/webgpu").exists() {
        let npm = ["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix", "."];
        checked(Command::new("npm").args(npm).arg(DAWN).current_dir(&folder))?;
    }
    checked(Command::new("node").arg(program).arg(shaders))
}
