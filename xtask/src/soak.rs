//! `cargo xtask soak`: what only shows after hours. A module that is refitted while it serves gives outputs of exactly one version each time,
//! and memory that modules took is given back.

use crate::bench::memory::own_bytes;
use crate::bench::swap::{Serving, serving};
use ::conformance::graphs::{SKETCHES, with_other_weights};
use ::conformance::soak::{Soak, Version, soak};
use engine_builder::{BuildOptions, build};
use engine_format::{Bytes, FitPolicy, SerializeFlags};
use engine_onnx::Model;
use engine_runtime::{Device, DeviceSelector, LiveModule, Module, PackedModule};
use miette::{IntoDiagnostic, Result, ensure, miette};
use refit::OnnxSource;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long and how often.
#[derive(clap::Args)]
pub struct Arguments {
    /// Minutes under refits, of either module path in turns.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Loads, refits and drops of every small model, on either module path.
    #[arg(long, default_value_t = 10_000)]
    loads: usize,
    /// Threads that run.
    #[arg(long, default_value_t = 3)]
    threads: usize,
    /// Milliseconds from one refit to the next.
    #[arg(long, default_value_t = 50)]
    every: u64,
    /// auto, cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, default_value = "cpu")]
    device: DeviceSelector,
}

/// In so many parts memory is looked at; the first is the one in which it may grow.
const PARTS: u32 = 10;
/// What memory may grow by afterwards, of what it was: an allocator keeps some of what is given back.
const GROWTH: f64 = 0.1;
/// What it may grow by however little it was.
const SLACK: u64 = 8 << 20;

/// Serves, then loads and drops; fails at the first part in which something is wrong.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let device = Device::open(&arguments.device).into_diagnostic()?;
    serve(root, &device, arguments)?;
    load_and_drop(&device, arguments.loads)
}

fn serve(root: &Path, device: &Device, arguments: &Arguments) -> Result<()> {
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch).into_diagnostic()?;
    let folder = tempfile::tempdir_in(&scratch).into_diagnostic()?;
    let Serving { engine, inputs, sources } = serving(folder.path())?;
    let file = Bytes::from(engine.serialize(SerializeFlags::default()).into_diagnostic()?);
    let live = LiveModule::load(engine, device).into_diagnostic()?;
    let packed = PackedModule::load(file, device).into_diagnostic()?;
    let lasts = Duration::from_secs_f64(arguments.minutes * 60.0) / (2 * PARTS);
    let every = Some(Duration::from_millis(arguments.every));
    let plan = Soak { threads: arguments.threads, every, lasts };
    let (mut runs, mut refits, mut memory) = (0, 0, Memory::default());
    for part in 1..=PARTS {
        for module in [&live as &dyn Module, &packed] {
            let versions = sources.iter().map(|source| Version::of(module, &**source, &inputs));
            let versions: Vec<_> = versions.collect::<Result<_, _>>().into_diagnostic()?;
            let soaked = soak(module, &inputs, &versions, plan);
            ensure!(soaked.failures.is_empty(), "part {part}: {}", soaked.failures.join("\n"));
            runs += soaked.runs.len();
            refits += soaked.refits.len();
        }
        memory.look(&format!("serving, part {part} of {PARTS}"))?;
    }
    println!(
        "{runs} runs under {refits} refits on {device}: every output is of exactly one version"
    );
    Ok(())
}

fn load_and_drop(device: &Device, loads: usize) -> Result<()> {
    let mut models = Vec::new();
    for sketch in &SKETCHES {
        let onnx = (sketch.onnx)();
        let other = with_other_weights(&onnx, &|_| true);
        let parse = |onnx: Vec<u8>| Model::parse(onnx.into(), None).into_diagnostic();
        let engine = build(&parse(onnx)?, &BuildOptions::default()).into_diagnostic()?;
        let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).into_diagnostic()?;
        models.push((engine, Bytes::from(stripped), OnnxSource::new(&parse(other)?, "memory")));
    }
    let (begun, mut memory) = (Instant::now(), Memory::default());
    let each = loads.div_ceil(PARTS as usize * models.len());
    for part in 1..=PARTS {
        for (engine, stripped, source) in &models {
            for _ in 0..each {
                let live = LiveModule::load(engine.clone(), device).into_diagnostic()?;
                let packed = PackedModule::load(stripped.clone(), device).into_diagnostic()?;
                for module in [&live as &dyn Module, &packed] {
                    module.refit(source, FitPolicy::default()).into_diagnostic()?;
                }
            }
        }
        memory.look(&format!("loads, part {part} of {PARTS}"))?;
    }
    let done = each * PARTS as usize * models.len();
    println!(
        "{done} loads, refits and drops on each module path in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Memory of this process as it was after the first part.
#[derive(Default)]
struct Memory {
    first: Option<u64>,
}

impl Memory {
    /// Prints what it is now, and fails if it has grown.
    fn look(&mut self, place: &str) -> Result<()> {
        let now = own_bytes()
            .ok_or_else(|| miette!("this system does not say what memory a process takes"))?;
        let first = *self.first.get_or_insert(now);
        println!("{place}: {:.1} MB", now as f64 / 1e6);
        let limit = limit(first);
        ensure!(
            now <= limit,
            "{place}: {now} bytes of memory, expected at most {limit}: {first} after the first part and a tenth"
        );
        Ok(())
    }
}

/// What memory may be that was so much after the first part.
fn limit(first: u64) -> u64 {
    first + SLACK.max((first as f64 * GROWTH) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_seen() {
        assert!(limit(100 << 20) < (100 << 20) + (11 << 20));
        assert_eq!(limit(0), SLACK);
        let mut memory = Memory { first: Some(0) };
        if own_bytes().is_some() {
            let held = vec![1u8; 4 * SLACK as usize];
            assert!(memory.look("a test").is_err());
            drop(held);
        }
    }
}
