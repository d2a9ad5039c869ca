//! `cargo xtask conformance`: the flag matrix, printed.

use crate::vulkan;
use ::conformance::matrix::{LEGEND, evaluate, subjects};
use miette::{IntoDiagnostic, Result, ensure, miette};
use std::path::Path;
use std::process::Command;

/// Evaluates the matrix; with `inner` unset it first looks for a GPU and starts itself anew where its variables are set.
pub fn run(root: &Path, inner: bool) -> Result<()> {
    if inner {
        return evaluate_all();
    }
    let mut command = Command::new(std::env::current_exe().into_diagnostic()?);
    command.args(["conformance", "--inner"]).current_dir(root);
    match vulkan::environment(&root.join("target")) {
        Ok(environment) => drop(command.envs(environment).env("REFIT_REQUIRE_GPU", "1")),
        Err(why) if std::env::var_os("CI").is_some() => return Err(why),
        Err(why) => {
            println!("SKIPPED: everything on a GPU, because there is no Vulkan adapter: {why:?}")
        }
    }
    let status = command.status().into_diagnostic()?;
    ensure!(status.success(), "conformance ended with {status}");
    Ok(())
}

fn evaluate_all() -> Result<()> {
    let devices = ::conformance::devices();
    println!("{LEGEND}\n");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for subject in subjects().map_err(|e| miette!("{e}"))? {
        let outcome = evaluate(&subject, &devices).map_err(|e| miette!("{}: {e}", subject.name))?;
        println!("{}", outcome.table);
        for failure in &outcome.failures {
            println!("FAILED: {failure}");
        }
        passed += outcome.passed;
        failed += outcome.failures.len();
        skipped += outcome.skipped;
    }
    for device in &devices {
        println!("ran on {device}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}
