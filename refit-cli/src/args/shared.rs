//! What several verbs take.

use super::parse::{Given, parse_given, parse_shape};
use clap::Args;
use engine_format::FitPolicy;
use engine_runtime::DeviceSelector;
use std::path::PathBuf;

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

/// What goes in. Inputs that are not given are filled with seeded random values.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Inputs")]
pub struct Inputs {
    /// An input's values: `zeros`, `ones`, `rand`, `randn`, `const:3`, a .npy file, a .npz or .safetensors file with a tensor of that
    /// name or with one alone, or a picture (.png, .jpg, …); for a sequence once for each element. FILE alone, a .npz or .safetensors
    /// file, gives every input that it has a tensor for.
    #[arg(long, value_name = "NAME=VALUES|FILE", value_parser = parse_given)]
    pub input: Vec<Given>,
    /// The shape of an input that is made up; the others follow where they share symbols.
    #[arg(long, value_name = "NAME=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Where random inputs begin.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Is taken from pictures, whose floats are in 0…1: a number, or one for each channel.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f32>,
    /// Pictures are divided by it then.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    pub std: Vec<f32>,
}
