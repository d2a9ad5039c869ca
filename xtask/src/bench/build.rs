//! `cargo xtask bench build`: what building an engine bound to a checkpoint costs, held against reading and digesting every tensor of the
//! model and of the checkpoint once, on the same threads.

use super::refit::read_and_digest;
use super::{Times, memory, milliseconds, ratio};
use clap::Args;
use engine_builder::{Binding, BuildOptions, build_bound};
use engine_format::SerializeFlags;
use engine_onnx::Model;
use miette::{IntoDiagnostic, Result};
use rayon::ThreadPoolBuilder;
use refit::{BoxedSource, FillOptions, OnnxSource};
use std::path::{Path, PathBuf};

/// What to measure with.
#[derive(Args)]
pub struct Arguments {
    /// An ONNX model.
    #[arg(long)]
    model: PathBuf,
    /// Its checkpoint.
    #[arg(long, required = true)]
    weights: Vec<PathBuf>,
    /// Threads.
    #[arg(long)]
    threads: Option<usize>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Measures and prints.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch).into_diagnostic()?;
    let folder = tempfile::tempdir_in(&scratch).into_diagnostic()?;
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = arguments.threads.unwrap_or_else(available);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().into_diagnostic()?;
    let (mut read, mut stripped, mut full) = (Times::default(), Times::default(), Times::default());
    let mut most: Option<u64> = None;
    for round in 0..=arguments.rounds {
        if round == 1 {
            // The first round brings the files into memory.
            (read, stripped, full) = Default::default();
        }
        read.take(|| read_both(arguments, &pool))?;
        for (times, with_weights) in [(&mut stripped, false), (&mut full, true)] {
            let file = folder.path().join("built.engine");
            let (built, peak) = memory::peak(|| {
                times.take(|| pool.install(|| build(arguments, &file, with_weights)))
            });
            built?;
            most = most.max(peak);
        }
    }
    println!(
        "{}: {threads} threads, medians of {} rounds, {} build",
        arguments.model.display(),
        arguments.rounds,
        super::PROFILE
    );
    println!("  reading and digesting     {:>10.0} ms", milliseconds(read.median()));
    for (what, times) in [("stripped engine", &stripped), ("engine with weights", &full)] {
        println!(
            "  {what:<25} {:>10.0} ms: {:.2} times that",
            milliseconds(times.median()),
            ratio(times.median(), read.median())
        );
    }
    match most {
        Some(bytes) => println!("  memory that no file backs {:>10.0} MB", bytes as f64 / 1e6),
        None => println!("  memory that no file backs    unknown"),
    }
    Ok(())
}

fn read_both(arguments: &Arguments, pool: &rayon::ThreadPool) -> Result<()> {
    read_and_digest(&OnnxSource::open(&arguments.model).into_diagnostic()?, pool)?;
    read_and_digest(&*refit::map_sources(&arguments.weights).into_diagnostic()?, pool)
}

/// What `refit build --weights` does.
fn build(arguments: &Arguments, file: &Path, with_weights: bool) -> Result<()> {
    let model = Model::open(&arguments.model).into_diagnostic()?;
    let checkpoint: BoxedSource = refit::map_sources(&arguments.weights).into_diagnostic()?;
    let options = BuildOptions { strip: true, ..BuildOptions::default() };
    let (engine, ..) =
        build_bound(&model, &options, &Binding::to(&*checkpoint)).into_diagnostic()?;
    match with_weights {
        true => {
            let options = FillOptions { allow_extra: true, ..FillOptions::default() };
            refit::fill_engine(&engine, &*checkpoint, file, options, None).into_diagnostic()?;
        }
        false => {
            refit::write_engine(&engine, SerializeFlags::EXCLUDE_WEIGHTS, file, None)
                .into_diagnostic()?;
        }
    }
    Ok(())
}
