//! The command line. Scripts depend on it.

mod parse;
mod shared;
mod verbs;

pub use parse::{Given, Probes, Reference};
pub use shared::{Changes, Inputs, OnDevice, RequiredWeights, Weights};
pub use verbs::{
    Bench, Build, Check, Compare, Convert, Diff, Fill, Float, Gate, Graph, Inspect, Oracle, Path,
    RefitMode, Run, Strip, Verify,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use engine_runtime::DeviceSelector;

/// Compiles ONNX models to engines whose weights can be stripped out and refitted.
#[derive(Debug, Parser)]
#[command(name = "refit", version, about, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub manner: Manner,
    /// Prints what shells and `man` read of this program.
    #[arg(long, value_enum, value_name = "WHAT", exclusive = true)]
    pub generate: Option<Generate>,
}

/// What is made of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// The manual page, for `man -l`.
    Man,
    /// Completions, to be sourced by bash.
    CompleteBash,
    /// Completions, as `_refit` in a folder of zsh's `fpath`.
    CompleteZsh,
    /// Completions, to be sourced by fish.
    CompleteFish,
}

/// How the program speaks, whatever it does.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct Manner {
    /// One JSON object on standard output instead of text, after an error too; docs/JSON.md says what is in it.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say what is decided on the way; twice, in more detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say nothing beside the result but warnings and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours in messages.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// No progress bars.
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// In a pipe too.
    Always,
    /// Nowhere.
    Never,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  compared, and different
  2  wrong usage, or inputs that the engine does not take
  3  unreadable or invalid file, or a model that cannot be compiled
  4  weights missing or unfit
  5  no such device, or it failed or has no memory left

Environment:
  REFIT_THREADS=N         threads of runs on the CPU
  REFIT_SOFTWARE_GPU=1    software adapters such as lavapipe count as GPUs
  REFIT_GPU_BASELINE=1    ask a GPU for no more than every WebGPU implementation has
  REFIT_GPU_CANDIDATES=K  the kernel K where a GPU has a choice, or \"last\"
  REFIT_LOG=FILTER        what is logged, as in \"engine_runtime=debug\", in place of -v
  NO_COLOR=1              no colours";

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
    /// Writes the weights of an engine, or of any other file that has some, to a safetensors or NumPy file.
    #[command(visible_alias = "extract")]
    Convert(Convert),
    /// Runs an engine once.
    Run(Run),
    /// Holds an engine against the unoptimised graph of its model, or against its own probes.
    Verify(Verify),
    /// Holds an engine to every promise of refit with two sets of weights, before it is released.
    Gate(Gate),
    /// Compares two engines: weights, graph, flags.
    Diff(Diff),
    /// Holds an engine's outputs against those of its model, of ONNX Runtime, of another engine, or in a file.
    Compare(Compare),
    /// Times loading, refitting and running an engine.
    Bench(Bench),
    /// Draws an engine's programs: `prepare` beside `execute`, weights where they are read, blocks that repeat once.
    Graph(Graph),
    /// Lists the devices there are, and says which one `auto` takes.
    Devices,
    /// Says what this program is: for bug reports.
    Version,
}

impl Command {
    /// The device it opens or looks for, if it does.
    pub fn device(&self) -> Option<&DeviceSelector> {
        match self {
            Self::Inspect(args) => args.device.as_ref(),
            Self::Fill(args) => args.verify.then_some(&args.device),
            Self::Run(args) => Some(&args.device.device),
            Self::Verify(args) => Some(&args.device.device),
            Self::Compare(args) => Some(args.looked_for()),
            Self::Bench(args) => Some(&args.device.device),
            Self::Gate(args) => args.device.first(),
            Self::Devices => Some(&DeviceSelector::Auto),
            Self::Build(_)
            | Self::Strip(_)
            | Self::Check(_)
            | Self::Convert(_)
            | Self::Diff(_)
            | Self::Graph(_)
            | Self::Version => None,
        }
    }
}

/// The program's interface.
pub fn command() -> clap::Command {
    Cli::command()
        .after_help(AFTER_HELP)
        .mut_subcommands(|verb| verb.after_help("Exit codes and variables: refit --help"))
}
