//! `cargo xtask conformance`: the flag matrix, printed, and the canaries that it must see.

use crate::vulkan;
use ::conformance::canaries::CANARIES;
use ::conformance::matrix::{LEGEND, SCENARIO_LEGEND, evaluate, scenarios, sketches, subjects};
use engine_runtime::Device;
use engine_verify::scenario::ThisStack;
use miette::{IntoDiagnostic, Result, ensure, miette};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

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
    let (devices, begun) = (::conformance::devices(), Instant::now());
    println!("{LEGEND}\n");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for subject in subjects().map_err(|e| miette!("{e}"))? {
        let outcome = evaluate(&subject, &devices, &ThisStack);
        let outcome = outcome.map_err(|e| miette!("{}: {e}", subject.name))?;
        println!("{}", outcome.table);
        for failure in &outcome.failures {
            println!("FAILED: {failure}");
        }
        passed += outcome.passed;
        failed += outcome.failures.len();
        skipped += outcome.skipped;
    }
    println!("{SCENARIO_LEGEND}\n\n{}", scenarios());
    for device in &devices {
        println!("ran on {device}");
    }
    let seconds = begun.elapsed().as_secs();
    println!("{passed} passed, {failed} failed, {skipped} skipped in {seconds} s");
    ensure!(failed == 0, "{failed} checks failed");
    Ok(())
}

/// Puts one fault after the other into what the matrix holds, on the CPU, and says which scenarios saw it.
pub fn canaries() -> Result<()> {
    let subjects = sketches().map_err(|e| miette!("{e}"))?;
    let mut survived = Vec::new();
    for canary in &CANARIES {
        let caught = canary.caught(&subjects, &[Device::cpu()]);
        match caught.map_err(|e| miette!("{}: {e}", canary.name))? {
            Some(caught) => {
                println!("{}: {}", canary.name, canary.fault);
                println!("    caught in {caught}\n    first {}", caught.first);
            }
            None => {
                println!("SURVIVED: {}: {}", canary.name, canary.fault);
                survived.push(canary.name);
            }
        }
    }
    println!("{} of {} canaries caught", CANARIES.len() - survived.len(), CANARIES.len());
    ensure!(survived.is_empty(), "the matrix does not see: {}", survived.join(", "));
    Ok(())
}
