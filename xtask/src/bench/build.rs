//! `cargo xtask bench build`: what building an engine bound to a checkpoint costs, held against reading and digesting every tensor of the
//! model and of the checkpoint once, on the same threads; for an engine with its weights, writing a file of its size as well.

use super::refit::read_and_digest;
use super::{Times, memory, milliseconds, ratio};
use clap::Args;
use engine_builder::{Binding, BuildOptions, build_bound};
use engine_format::SerializeFlags;
use engine_onnx::Model;
use miette::{IntoDiagnostic, Result};
use rayon::ThreadPoolBuilder;
use refit::{BoxedSource, FillOptions, OnnxSource};
use std::fs::File;
use std::io::Write as _;
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
    let (mut read, mut write) = (Times::default(), Times::default());
    let (mut stripped, mut full) = (Times::default(), Times::default());
    let mut most: Option<u64> = None;
    for round in 0..=arguments.rounds {
        if round == 1 {
            // The first round brings the files into memory.
            (read, write, stripped, full) = Default::default();
        }
        read.take(|| read_both(arguments, &pool))?;
        let file = folder.path().join("built.engine");
        for (times, with_weights) in [(&mut stripped, false), (&mut full, true)] {
            let (built, peak) = memory::peak(|| {
                times.take(|| pool.install(|| build(arguments, &file, with_weights)))
            });
            built?;
            most = most.max(peak);
            let length = std::fs::metadata(&file).into_diagnostic()?.len();
            // Giving up the place of a large file takes time, which is nobody's here.
            std::fs::remove_file(&file).into_diagnostic()?;
            if with_weights {
                write.take(|| write_and_sync(&file, length)).into_diagnostic()?;
                std::fs::remove_file(&file).into_diagnostic()?;
            }
        }
    }
    println!(
        "{}: {threads} threads, medians of {} rounds, {} build",
        arguments.model.display(),
        arguments.rounds,
        super::PROFILE
    );
    println!("  reading and digesting     {:>10.0} ms", milliseconds(read.median()));
    println!("  writing the engine's bytes {:>9.0} ms", milliseconds(write.median()));
    for (what, times, base) in [
        ("stripped engine", &stripped, read.median()),
        ("engine with weights", &full, read.median() + write.median()),
    ] {
        let (time, ratio) = (milliseconds(times.median()), ratio(times.median(), base));
        let of = if base == read.median() { "reading" } else { "reading and writing" };
        println!("  {what:<25} {time:>10.0} ms: {ratio:.2} times {of}");
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

/// A file of so many bytes, on the disk.
fn write_and_sync(path: &Path, length: u64) -> std::io::Result<()> {
    let piece = vec![1; 256 << 10];
    let mut file = File::create(path)?;
    for at in (0..length).step_by(piece.len()) {
        file.write_all(&piece[..piece.len().min((length - at) as usize)])?;
    }
    file.sync_all()
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
