//! `cargo xtask bench`: measurements, one file per subject. What is compared is measured in turns within one run, so that
//! whatever else the machine does befalls both sides alike.

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

mod build;
mod first_output;
mod gpu;
pub mod memory;
mod models;
mod quiet;
mod ratios;
mod refit;
pub mod swap;
mod upload;

/// What is measured and how.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    subject: Subject,
    /// Measures the program as it was built, instead of building it for release first.
    #[arg(long, global = true)]
    as_built: bool,
}

/// What is measured.
#[derive(Subcommand)]
enum Subject {
    /// Runs of real models on the CPU, in turns with ONNX Runtime.
    Models(models::Arguments),
    /// Building an engine bound to a checkpoint, beside reading and digesting the model and the checkpoint.
    Build(build::Arguments),
    /// Refits: all weights, one layer, from a stripped file to the first output; sizes and memory; on a GPU beside the best upload.
    Refit(refit::Arguments),
    /// A module that serves while it is refitted.
    Swap(swap::Arguments),
    /// Nothing here: makes a folder that times products and models beside PyTorch on a machine with a GPU.
    Gpu(gpu::Arguments),
}

/// Between turns: threads of another runtime stop waiting for work in a loop.
const PAUSE: Duration = Duration::from_millis(30);

/// How this program was built.
const PROFILE: &str = if cfg!(debug_assertions) { "development" } else { "release" };

/// Measures the subject; first builds this program for release, unless told otherwise.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    // The folder for another machine needs no more than the program itself.
    if !arguments.as_built && !matches!(arguments.subject, Subject::Gpu(_)) {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--release", "--package", "xtask", "--"]);
        command.args(std::env::args_os().skip(1)).arg("--as-built");
        let status = command.current_dir(root).status().into_diagnostic()?;
        ensure!(status.success(), "the bench ended with {status}");
        return Ok(());
    }
    match &arguments.subject {
        Subject::Models(arguments) => models::run(arguments),
        Subject::Build(arguments) => build::run(root, arguments),
        Subject::Refit(arguments) => refit::run(root, arguments),
        Subject::Swap(arguments) => swap::run(root, arguments),
        Subject::Gpu(arguments) => gpu::run(root, arguments),
    }
}

/// Times of one thing, in order.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Does it and notes how long it took.
    fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.0.push(begun.elapsed());
        done
    }

    /// The time that a share of all stays below; zero if there are none.
    fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = (share * sorted.len() as f64) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
