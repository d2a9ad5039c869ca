//! `cargo xtask bench swap`: MiniLM on several threads without a pause, refitted all the while.

use super::{Times, milliseconds, ratio};
use ::conformance::graphs::with_other_weights;
use ::conformance::models::MODELS;
use ::conformance::oracle::Tensors;
use ::conformance::soak::{Soak, Soaked, Version, soak};
use clap::Args;
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, SerializeFlags};
use engine_onnx::Model;
use engine_runtime::{Device, DeviceSelector, LiveModule};
use miette::{IntoDiagnostic, Result, ensure, miette};
use refit::BoxedSource;
use std::path::Path;
use std::time::Duration;

/// How long and how hard.
#[derive(Args)]
pub struct Arguments {
    /// Seconds under refits, and as many without, in turns.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Threads that run.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Milliseconds from one refit to the next.
    #[arg(long, default_value_t = 200)]
    every: u64,
    /// auto, cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, default_value = "cpu")]
    device: DeviceSelector,
}

/// Turns of each kind.
const TURNS: u32 = 6;

/// A model that serves, and sets of weights that it is refitted from.
pub(crate) struct Serving {
    pub engine: Engine,
    pub inputs: Tensors,
    pub sources: Vec<BoxedSource>,
}

/// MiniLM with three sets of weights in files of `folder`, as a trainer would leave them.
pub(crate) fn serving(folder: &Path) -> Result<Serving> {
    let model = MODELS.iter().find(|model| model.name == "minilm-l3");
    let model = model.ok_or_else(|| miette!("MiniLM is among the models"))?;
    let inputs = (model.runs)().into_diagnostic()?.swap_remove(1);
    let mut onnx = std::fs::read(model.asset.path().into_diagnostic()?).into_diagnostic()?;
    let mut engine = None;
    let mut sources = Vec::new();
    for name in ["a", "b", "c"] {
        let file = |extension: &str| folder.join(name).with_extension(extension);
        let parsed = Model::parse(onnx.clone().into(), None).into_diagnostic()?;
        let built = build(&parsed, &BuildOptions::default()).into_diagnostic()?;
        refit::write_engine(&built, SerializeFlags::default(), &file("engine"), None)
            .into_diagnostic()?;
        refit::extract_file(&file("engine"), &file("safetensors"), None).into_diagnostic()?;
        sources.push(refit::open_source(&file("safetensors")).into_diagnostic()?);
        engine.get_or_insert(built);
        onnx = with_other_weights(&onnx, &|_| true);
    }
    let engine = engine.ok_or_else(|| miette!("three engines were built"))?;
    Ok(Serving { engine, inputs, sources })
}

/// Measures and prints; fails if an output is not exactly that of one version.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch).into_diagnostic()?;
    let folder = tempfile::tempdir_in(&scratch).into_diagnostic()?;
    let Serving { engine, inputs, sources } = serving(folder.path())?;
    let device = Device::open(&arguments.device).into_diagnostic()?;
    let module = LiveModule::load(engine, &device).into_diagnostic()?;
    let versions = sources.iter().map(|source| Version::of(&module, &**source, &inputs));
    let versions: Vec<_> = versions.collect::<Result<_, _>>().into_diagnostic()?;

    let lasts = Duration::from_secs(arguments.seconds) / TURNS;
    let quiet = Soak { threads: arguments.threads, every: None, lasts };
    let busy = Soak { every: Some(Duration::from_millis(arguments.every)), ..quiet };
    let [mut without, mut with] = [Soaked::default(), Soaked::default()];
    for _ in 0..TURNS {
        for (plan, total) in [(quiet, &mut without), (busy, &mut with)] {
            let turn = soak(&module, &inputs, &versions, plan);
            total.runs.extend(turn.runs);
            total.refits.extend(turn.refits);
            total.failures.extend(turn.failures);
        }
    }
    report(&device, arguments, without, with)
}

fn report(device: &Device, arguments: &Arguments, without: Soaked, with: Soaked) -> Result<()> {
    let failures = [without.failures, with.failures].concat();
    println!(
        "MiniLM on {device}, {} threads, a refit every {} ms for {} s",
        arguments.threads, arguments.every, arguments.seconds
    );
    let [without, with, refits] = [without.runs, with.runs, with.refits].map(Times);
    println!(
        "  runs     {} with refits, {} without; {} outputs or refits that failed",
        with.0.len(),
        without.0.len(),
        failures.len()
    );
    for (name, share) in [("median", 0.5), ("p99", 0.99)] {
        let (with, without) = (with.quantile(share), without.quantile(share));
        println!(
            "  {name:<8} {:.2} ms with refits: {:.2} times {:.2} ms without",
            milliseconds(with),
            ratio(with, without),
            milliseconds(without)
        );
    }
    println!("  refits   {}, median {:.2} ms", refits.0.len(), milliseconds(refits.median()));
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
