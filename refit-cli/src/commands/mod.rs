//! One file per command.

use crate::args::{Changes, Command, OnDevice, Weights};
use crate::failure::{Context, Failure};
use crate::output::remark;
use engine_format::{Attr, Block, Engine, Filled, FitReport, Spare, WeightSource, Written};
use engine_onnx::Model;
use engine_runtime::{Device, DeviceSelector, Module};
use refit::{BoxedSource, CastSource, EngineSource, Lora, LoraSource};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod bench;
mod build;
mod check;
mod compare;
mod convert;
mod devices;
mod diff;
mod fill;
mod gate;
mod graph;
mod inspect;
mod onnxruntime;
mod placement;
mod run;
mod strip;
mod verify;
mod version;

/// Runs a command.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Strip(args) => strip::run(args),
        Command::Fill(args) => fill::run(args),
        Command::Check(args) => check::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Run(args) => run::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Gate(args) => gate::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Devices => devices::run(),
        Command::Version => version::run(),
    }
}

/// Opens an engine file.
fn open_engine(path: &Path) -> Result<Engine, Failure> {
    Ok(refit::open_engine(path)?)
}

/// Opens an ONNX file.
fn open_model(path: &Path) -> Result<Model, Failure> {
    Ok(Model::open(path)?)
}

/// Opens the sources of one command as one; `None` if there are none.
fn open_sources(paths: &[PathBuf]) -> Result<Option<BoxedSource>, Failure> {
    match paths {
        [] => Ok(None),
        paths => Ok(Some(refit::open_sources(paths)?)),
    }
}

/// Opens the sources of one command with what is done to them on the way; `None` if there is nothing to open. Adapters without
/// sources are merged into the weights of `engine`, and conversions go to its types; it is opened only if it is needed.
fn open_weights(
    sources: &[PathBuf],
    changes: &Changes,
    engine: &dyn Fn() -> Result<Engine, Failure>,
) -> Result<Option<BoxedSource>, Failure> {
    let mut source = match open_sources(sources)? {
        Some(source) => source,
        None if changes.lora.is_empty() => return Ok(None),
        None => Box::new(EngineSource::new(engine()?, "the engine")),
    };
    if !changes.lora.is_empty() {
        let adapters = changes.lora.iter().map(|text| Lora::parse(text));
        source = Box::new(LoraSource::new(source, adapters.collect::<Result<_, _>>()?)?);
    }
    source.remarks().into_iter().for_each(|line| remark!("{line}"));
    if changes.cast {
        let cast = CastSource::new(source, &engine()?);
        let mut counts = BTreeMap::<String, usize>::new();
        for conversion in cast.conversions().values() {
            *counts.entry(conversion.to_string()).or_default() += 1;
        }
        for (conversion, count) in counts {
            remark!("{count} tensors converted from {conversion}");
        }
        source = Box::new(cast);
    }
    Ok(Some(source))
}

/// Opens an engine file and fills it from the sources, if there are any; says what they did not have and what was not used.
fn open_filled(path: &Path, weights: &Weights) -> Result<(Engine, Option<FitReport>), Failure> {
    let engine = open_engine(path)?;
    let Weights { sources, changes } = weights;
    let source = open_weights(sources, changes, &|| Ok(engine.clone()))?;
    filled(path, engine, source.as_deref().map(|s| s as &dyn WeightSource), changes)
}

/// The engine of a file, filled from a source if there is one; says what that did not have and what was not used.
fn filled(
    path: &Path,
    engine: Engine,
    source: Option<&dyn WeightSource>,
    changes: &Changes,
) -> Result<(Engine, Option<FitReport>), Failure> {
    let Some(source) = source else { return Ok((engine, None)) };
    let filled = engine.fill_into(source, changes.policy(), &Spare::default());
    let Filled { made, fit } = filled.doing(format!("filling {}", path.display()))?;
    remark_fit(&fit);
    Ok((made, Some(fit)))
}

/// Says what a source did not have and what of it was not used.
fn remark_fit(fit: &FitReport) {
    fit.remarks().into_iter().for_each(|line| remark!("{line}"));
}

/// Opens a device, with the threads that were asked for.
fn open_on(on: &OnDevice) -> Result<Device, Failure> {
    let device = open_device(&on.device)?;
    Ok(match on.threads {
        Some(threads) => device.with_threads(threads.into()),
        None => device,
    })
}

/// Opens a device. That `auto` passes over a GPU which does not open is a warning of the runtime.
fn open_device(selector: &DeviceSelector) -> Result<Device, Failure> {
    Ok(Device::open(selector)?)
}

/// Says which nodes of what a module ran are not on the GPU that was opened.
fn remark_on_cpu(module: &dyn Module) {
    let mut on_cpu = BTreeMap::<String, usize>::new();
    for line in module.placement().iter().filter(|line| line.obstacle.is_some()) {
        *on_cpu.entry(line.op.to_owned()).or_default() += 1;
    }
    if module.device().is_gpu() && !on_cpu.is_empty() {
        let counts = list(&on_cpu);
        remark!("on the CPU: {counts}; refit inspect FILE --device D says why");
    }
}

/// How often each operator stands in a block, nested blocks included.
fn operators(block: &Block) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut blocks = vec![block];
    while let Some(block) = blocks.pop() {
        for node in &block.nodes {
            *counts.entry(node.op.clone()).or_default() += 1;
            blocks.extend(node.attrs.values().filter_map(|attr| match attr {
                Attr::Block(inner) => Some(inner),
                _ => None,
            }));
        }
    }
    counts
}

/// `Add ×3, Conv ×1`.
fn list(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(op, n)| format!("{op} ×{n}")).collect::<Vec<_>>().join(", ")
}

/// A file that was written: the object that `--json` prints, alone or as a part of one.
#[derive(Serialize)]
struct WrittenReport {
    file: String,
    flags: Vec<String>,
    bytes: u64,
    /// Version of its weights; null if it has none.
    version: Option<String>,
}

impl WrittenReport {
    fn new(path: &Path, written: &Written) -> Self {
        Self {
            file: path.display().to_string(),
            flags: written.flags.flag_names(),
            bytes: written.length,
            version: written.version.map(|version| version.to_string()),
        }
    }

    /// Says it in a line.
    fn remark(&self) {
        let Self { file, flags, bytes, version } = self;
        let flags = if flags.is_empty() { "frozen".to_owned() } else { flags.join(", ") };
        let version = version.as_deref();
        let version =
            version.map_or("no weights".to_owned(), |version| format!("weights {version}"));
        remark!("{file}: {flags}, {}, {version}", human(*bytes));
    }
}

/// `1234567` as `1.23 MB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = bytes as f64 / 1000.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2} {}", UNITS[unit])
}
