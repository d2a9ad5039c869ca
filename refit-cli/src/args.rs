//! The command line. Scripts depend on it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine_format::FitPolicy;
use engine_runtime::DeviceSelector;
use std::path::PathBuf;

/// Compiles ONNX models to engines whose weights can be stripped out and refitted.
#[derive(Debug, Parser)]
#[command(name = "refit", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 compared and different, 2 usage, 3 unreadable or invalid file, \
                          4 weights missing or unfit, 5 no such device.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compiles an ONNX model to an engine.
    Build(Build),
    /// Shows what an engine file holds.
    Inspect(Inspect),
    /// Leaves the refittable weights out of an engine.
    Strip(Strip),
    /// Puts weights into an engine, stripped or full.
    Fill(Fill),
    /// Says whether weights would fit an engine; writes nothing.
    Check(Check),
    /// Writes an engine's weights to a safetensors file.
    Extract(Extract),
    /// Runs an engine once.
    Run(Run),
    /// Holds an engine against the unoptimised graph of its model, or against its own probes.
    Verify(Verify),
    /// Compares two engines: weights, graph, flags.
    Diff(Diff),
    /// Times loading, refitting and running an engine.
    Bench(Bench),
}

impl Command {
    /// The device it opens, if it opens one.
    pub fn device(&self) -> Option<&DeviceSelector> {
        match self {
            Self::Inspect(args) => args.device.as_ref(),
            Self::Fill(args) => args.verify.then_some(&args.device),
            Self::Run(args) => Some(&args.device.device),
            Self::Verify(args) => Some(&args.device.device),
            Self::Bench(args) => Some(&args.device.device),
            Self::Build(_) | Self::Strip(_) | Self::Check(_) | Self::Extract(_) | Self::Diff(_) => {
                None
            }
        }
    }
}

#[derive(Debug, Args)]
pub struct Build {
    /// The ONNX model.
    pub model: PathBuf,
    /// The engine file to write.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Which weights may be replaced later, and by what.
    #[arg(long, value_enum, default_value_t = RefitMode::All)]
    pub refit: RefitMode,
    /// Only weights whose names match may be replaced; the others are frozen.
    #[arg(long, value_name = "GLOB", conflicts_with = "refit")]
    pub refit_only: Vec<String>,
    /// The checkpoint that the model was exported from: the engine's weights get its names and layout.
    #[arg(long, value_name = "SRC", num_args = 1..)]
    pub weights: Vec<PathBuf>,
    /// What initializers are in the checkpoint, where it is not clear: TOML, `"onnx::MatMul_7" = "fc.weight"`.
    #[arg(long, value_name = "MAP", requires = "weights")]
    pub bind: Option<PathBuf>,
    /// Take `Constant` nodes of the model for constants of the program, even where something of the checkpoint is left over.
    #[arg(long, requires = "weights")]
    pub pin_unbound: bool,
    /// A second export of the same model, from other weights: what is equal in both is no weight.
    #[arg(long, value_name = "MODEL", requires = "weights")]
    pub other: Option<PathBuf>,
    /// The checkpoint of the second export.
    #[arg(long, value_name = "SRC", num_args = 1.., requires = "other")]
    pub other_weights: Vec<PathBuf>,
    /// Say as JSON on standard output what was built and what was bound to what.
    #[arg(long, conflicts_with = "explain")]
    pub json: bool,
    /// Leave the refittable weights out.
    #[arg(long)]
    pub strip: bool,
    /// Run the graph as it was imported: what optimised engines are compared with.
    #[arg(long)]
    pub no_optimise: bool,
    /// Say on standard output what every pass did to the graph, and what it nearly did and why not.
    #[arg(long, conflicts_with = "no_optimise")]
    pub explain: bool,
    /// Keep N probes in the engine: made-up inputs with the outputs of the unoptimised graph, for `verify`.
    #[arg(long, value_name = "N[:SEED]", value_parser = parse_probes)]
    pub probe: Option<Probes>,
    /// Keep an initializer that is also listed as a graph input an input.
    #[arg(long, value_name = "NAME")]
    pub keep_input: Vec<String>,
    /// Fix an input's shape.
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
}

/// How many probes to keep, and the seed of the first one's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    pub count: u64,
    pub seed: u64,
}

/// Which weights may be replaced later, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RefitMode {
    /// Every weight, by any values of its type and shape.
    All,
    /// Every weight, by the very values it was built with.
    Identical,
    /// None: the engine is frozen.
    None,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// The engine file.
    pub file: PathBuf,
    /// Say of every weight what it takes, where it is and which nodes it reaches, and nothing else.
    #[arg(long, conflicts_with = "device")]
    pub weights: bool,
    /// Also say which nodes run where on this device, and why: cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, value_name = "D")]
    pub device: Option<DeviceSelector>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Strip {
    /// The engine file.
    pub file: PathBuf,
    /// The stripped file to write.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// Where weights come from.
#[derive(Debug, Args)]
pub struct Weights {
    /// A .safetensors, .npz, .pt, .pth, .bin, .gguf or .onnx file, a sharded *.index.json, or another engine; of a PyTorch checkpoint
    /// with several dictionaries of weights FILE:KEY.
    #[arg(long = "weights", value_name = "SRC", num_args = 1..)]
    pub sources: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
}

/// What is done to weights on their way.
#[derive(Debug, Default, Args)]
pub struct Changes {
    /// A LoRA adapter to merge, in this order; SCALE takes the place of what adapter_config.json beside it says.
    #[arg(long, value_name = "ADAPTER[:SCALE]")]
    pub lora: Vec<String>,
    /// Convert between f32, f16 and bf16 where the engine has another of them.
    #[arg(long)]
    pub cast: bool,
    /// Accept tensors that the engine does not know.
    #[arg(long)]
    pub allow_extra: bool,
}

impl Changes {
    /// How a fill treats what does not fit.
    pub fn policy(&self) -> FitPolicy {
        FitPolicy { partial: false, allow_extra: self.allow_extra }
    }
}

/// Where weights come from, where they must be given.
#[derive(Debug, Args)]
pub struct RequiredWeights {
    /// A .safetensors, .npz, .pt, .pth, .bin, .gguf or .onnx file, a sharded *.index.json, or another engine; of a PyTorch checkpoint
    /// with several dictionaries of weights FILE:KEY.
    #[arg(long = "weights", value_name = "SRC", num_args = 1.., required = true)]
    pub sources: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
}

#[derive(Debug, Args)]
pub struct Fill {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: RequiredWeights,
    /// The filled file to write.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Make the result frozen: it cannot be refitted again.
    #[arg(long)]
    pub freeze: bool,
    /// One JSON object with what was taken and what was kept.
    #[arg(long)]
    pub json: bool,
    /// Hold every output against the unoptimised graph of the model before anything is written.
    #[arg(long, requires = "onnx")]
    pub verify: bool,
    /// The model the engine was built from, for --verify.
    #[arg(long, value_name = "MODEL", requires = "verify")]
    pub onnx: Option<PathBuf>,
    /// Where --verify runs the engine: auto, cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, value_name = "D", default_value = "auto", requires = "verify")]
    pub device: DeviceSelector,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: RequiredWeights,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Extract {
    /// The engine file.
    pub file: PathBuf,
    /// The safetensors file to write.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// Which device.
#[derive(Debug, Args)]
pub struct OnDevice {
    /// auto, cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: DeviceSelector,
    /// Threads of runs on the CPU, the variable REFIT_THREADS or one for each processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: Weights,
    /// An input's values, for a sequence once for each element: a .npy file, or a .npz or .safetensors file with a tensor of that
    /// name or with one alone. Inputs that are not given are filled with seeded random values.
    #[arg(long, value_name = "NAME=FILE", value_parser = parse_input)]
    pub input: Vec<(String, PathBuf)>,
    /// Folder that gets each output as NAME.npy, or a .safetensors or .npz file that gets all of them.
    #[arg(long, value_name = "DIR|FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub device: OnDevice,
    /// The module path.
    #[arg(long, value_enum, default_value_t = Path::Live)]
    pub path: Path,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// A module path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    /// An engine in memory.
    Live,
    /// The serialized bytes.
    Packed,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The engine file.
    pub file: PathBuf,
    /// The model it was built from; without it the engine is held against its own probes.
    #[arg(long, value_name = "MODEL")]
    pub onnx: Option<PathBuf>,
    #[command(flatten)]
    pub weights: Weights,
    #[command(flatten)]
    pub device: OnDevice,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// One engine file.
    pub a: PathBuf,
    /// The other.
    pub b: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: Weights,
    #[command(flatten)]
    pub device: OnDevice,
    /// Timed runs, after warm-up.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
    /// The time of each step too, on the CPU: mean and minimum of the timed runs.
    #[arg(long)]
    pub profile: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, dims) = text.rsplit_once('=').ok_or("expected NAME=1x3x224x224")?;
    let dims: Result<Vec<usize>, _> =
        dims.split('x').filter(|d| !d.is_empty()).map(str::parse).collect();
    Ok((name.to_owned(), dims.map_err(|e| format!("a dimension is not a number: {e}"))?))
}

/// Probes an engine may be asked for.
const MAX_PROBES: u64 = 1000;

fn parse_probes(text: &str) -> Result<Probes, String> {
    let (count, seed) = text.split_once(':').unwrap_or((text, "1"));
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let (count, seed) = (number(count)?, number(seed)?);
    if !(1..=MAX_PROBES).contains(&count) || seed.checked_add(count).is_none() {
        return Err(format!("expected 1 to {MAX_PROBES} probes and a seed, as in 3 or 3:42"));
    }
    Ok(Probes { count, seed })
}

fn parse_input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), file.into()))
}
