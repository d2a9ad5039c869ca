//! What each verb takes.

use super::parse::{
    Probes, Reference, parse_probes, parse_recurrence, parse_reference, parse_seconds, parse_shape,
    parse_tolerance,
};
use super::{Changes, Inputs, OnDevice, RequiredWeights, Weights};
use clap::{Args, ValueEnum};
use engine_format::DType;
use engine_runtime::{DeviceSelector, Recurrence};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct Build {
    /// The ONNX model.
    pub model: PathBuf,
    /// The engine file to write.
    #[arg(short, long, value_name = "OUT")]
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
    /// Leave the refittable weights out.
    #[arg(long)]
    pub strip: bool,
    /// Run the graph as it was imported: what optimised engines are compared with.
    #[arg(long)]
    pub no_optimise: bool,
    /// To what products, convolutions and embeddings round their weights, now and at each refit; sums stay f32.
    #[arg(long, value_enum, default_value_t = Float::F32)]
    pub precision: Float,
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

/// A float type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Float {
    F32,
    F16,
    Bf16,
}

impl From<Float> for DType {
    fn from(float: Float) -> Self {
        match float {
            Float::F32 => Self::F32,
            Float::F16 => Self::F16,
            Float::Bf16 => Self::BF16,
        }
    }
}

#[derive(Debug, Args)]
pub struct Convert {
    /// Files with weights, of any kind that --weights takes elsewhere; several are read as one.
    #[arg(required = true, value_name = "SRC")]
    pub sources: Vec<PathBuf>,
    /// The .safetensors or .npz file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Convert tensors of f32, f16 and bf16 to this type, rounded to nearest even.
    #[arg(long, value_enum)]
    pub cast: Option<Float>,
    /// A LoRA adapter to merge, in this order; SCALE takes the place of what adapter_config.json beside it says.
    #[arg(long, value_name = "ADAPTER[:SCALE]")]
    pub lora: Vec<String>,
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
}

#[derive(Debug, Args)]
pub struct Strip {
    /// The engine file.
    pub file: PathBuf,
    /// The stripped file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct Fill {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: RequiredWeights,
    /// The filled file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Make the result frozen: it cannot be refitted again.
    #[arg(long)]
    pub freeze: bool,
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
}

#[derive(Debug, Args)]
pub struct Run {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: Weights,
    #[command(flatten)]
    pub inputs: Inputs,
    /// Folder that gets each output as NAME.npy, or a .safetensors or .npz file that gets all of them.
    #[arg(long, value_name = "DIR|FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub device: OnDevice,
    /// The module path.
    #[arg(long, value_enum, default_value_t = Path::Live)]
    pub path: Path,
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
    pub inputs: Inputs,
    #[command(flatten)]
    pub device: OnDevice,
}

#[derive(Debug, Args)]
pub struct Gate {
    /// The engine file, full or stripped.
    pub file: PathBuf,
    /// The model it was built from: what its outputs are held against, unoptimised.
    #[arg(long, value_name = "MODEL")]
    pub onnx: PathBuf,
    /// A set of weights, twice: it is refitted from the first to the second, back, and in every other way. A file as `fill` takes it.
    #[arg(long, value_name = "SRC", required = true)]
    pub weights: Vec<PathBuf>,
    #[command(flatten)]
    pub changes: Changes,
    #[command(flatten)]
    pub inputs: Inputs,
    /// A device to hold it on, once for each: auto, cpu, gpu, gpu:N, or part of an adapter's name.
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: Vec<DeviceSelector>,
    /// The largest absolute difference of an output from the model's, in place of the tolerance that `verify` has.
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub max_diff: Option<f64>,
    /// The least cosine of the angle between an output and the model's, as vectors.
    #[arg(long, value_name = "X")]
    pub cosine: Option<f64>,
    /// A .npz or .safetensors file with inputs by name, once for each that outputs are compared on. Modules are taken through
    /// everything on the first.
    #[arg(long = "inputs", value_name = "FILE")]
    pub input_files: Vec<PathBuf>,
    /// Another runtime to hold the model's outputs against, for each set of weights that is a model: ONNX Runtime, in the Python that
    /// REFIT_PYTHON names, or python3.
    #[arg(long, value_enum, conflicts_with = "lora")]
    pub oracle: Option<Oracle>,
    /// A report.json of before, from the same machine: what refits and runs took then.
    #[arg(long, value_name = "REPORT", requires = "max_slowdown")]
    pub baseline: Option<PathBuf>,
    /// How many times as long they may take now, by their medians.
    #[arg(long, value_name = "X", requires = "baseline", value_parser = parse_tolerance)]
    pub max_slowdown: Option<f64>,
    /// Folder that gets report.json, junit.xml and index.html.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}

/// Another runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Oracle {
    /// ONNX Runtime.
    Ort,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// One engine file.
    pub a: PathBuf,
    /// The other.
    pub b: PathBuf,
}

#[derive(Debug, Args)]
pub struct Compare {
    /// The engine file.
    pub file: PathBuf,
    /// What its outputs should be: those of the unoptimised graph of a model (onnx:MODEL), of ONNX Runtime (ort:MODEL, in the Python
    /// that REFIT_PYTHON names, or python3), of another engine, or the tensors of a .npz or .safetensors file.
    #[arg(long, value_name = "onnx:MODEL|ort:MODEL|ENGINE|TENSORS", value_parser = parse_reference)]
    pub with: Reference,
    #[command(flatten)]
    pub weights: Weights,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub device: OnDevice,
    /// Where the other engine runs.
    #[arg(long, value_name = "D", default_value = "cpu")]
    pub with_device: DeviceSelector,
    /// The largest difference that is allowed, whatever the value; 0 for the same bits.
    #[arg(long, value_name = "X", conflicts_with_all = ["atol", "rtol"], value_parser = parse_tolerance)]
    pub max_diff: Option<f64>,
    /// The difference that is allowed, whatever the value; 1e-5 by default.
    #[arg(long, value_name = "X", value_parser = parse_tolerance)]
    pub atol: Option<f64>,
    /// The difference that is allowed beyond it, as a part of the expected value; 1e-4 by default.
    #[arg(long, value_name = "X", value_parser = parse_tolerance)]
    pub rtol: Option<f64>,
}

impl Compare {
    /// A device that it looks for: of the two the one that is not the CPU.
    pub fn looked_for(&self) -> &DeviceSelector {
        match &self.device.device {
            DeviceSelector::Cpu => &self.with_device,
            device => device,
        }
    }
}

#[derive(Debug, Args)]
pub struct Graph {
    /// The engine file.
    pub file: PathBuf,
    /// The file to write: .svg, .html, .dot (Graphviz), or .netron or .json (nothing folded; Netron opens it as .netron).
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Marks the nodes that weights of these names reach.
    #[arg(long, value_name = "GLOB")]
    pub weight: Vec<String>,
    /// Draws no more than what is near to nodes, weights, inputs or outputs of this name.
    #[arg(long, value_name = "GLOB")]
    pub around: Option<String>,
    /// How many steps from node to node are near.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "around")]
    pub depth: usize,
    /// Marks the nodes that are others in this engine, or read weights that differ.
    #[arg(long, value_name = "OTHER")]
    pub diff: Option<PathBuf>,
    /// Draws blocks that repeat as often as they are there.
    #[arg(long)]
    pub unfolded: bool,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// The engine file.
    pub file: PathBuf,
    #[command(flatten)]
    pub weights: Weights,
    #[command(flatten)]
    pub inputs: Inputs,
    #[command(flatten)]
    pub device: OnDevice,
    /// Runs before the timed ones, at least the first, which plans.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub warmup: u32,
    /// Timed runs, 20 by default; with --duration at least so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: Option<u32>,
    /// Goes on for so many seconds.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = parse_seconds)]
    pub duration: Option<Duration>,
    /// Times so many steps of a decoder: each run takes what the one before left on the device in its outputs of --carry. Inputs that are
    /// made up have one position; --shape decides how long the caches are at first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["iterations", "duration", "parallel"])]
    pub decode: Option<u32>,
    /// An output that is an input of the next step. Without one they are told by names: present.0.key goes to past_key_values.0.key or
    /// past.0.key, state_out to state_in.
    #[arg(long, value_name = "OUTPUT=INPUT", requires = "decode", value_parser = parse_recurrence)]
    pub carry: Vec<Recurrence>,
    /// Threads that run the engine at once, on the same threads of the CPU (--threads).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: u16,
    /// The time of each step too: mean and minimum of the timed runs. On a GPU these take longer then.
    #[arg(long)]
    pub profile: bool,
    /// Writes when each step ran to this file, as Chrome's trace viewer and Perfetto read it.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Writes when each timed run began and how long it took to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub save_times: Option<PathBuf>,
}
