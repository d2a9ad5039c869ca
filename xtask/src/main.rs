//! Chores of this repository, one file per verb: `cargo xtask VERB`.

use clap::{Parser, Subcommand};
use engine_runtime::{Device, DeviceInfo};
use miette::{Result, ensure};
use std::path::Path;

mod api;
mod bench;
mod codegen;
mod conformance;
mod demo;
mod fuzz;
mod lean;
mod package;
mod python;
mod release;
mod snapshots;
mod soak;
mod suite;
mod test;
mod tint;
mod vulkan;
mod workspace;
mod zoo;

#[derive(Parser)]
#[command(name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds, strips, fills and runs a real model, and shows each step.
    Demo {
        /// The variables of the GPU are set already.
        #[arg(long, hide = true)]
        inner: bool,
    },
    /// Runs every test of the workspace; brings a software Vulkan adapter where there is none.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Holds every engine flag, option of saving, module path and device against one another; or runs a suite of others on all of them.
    Conformance {
        /// The suite instead of the flag matrix.
        #[arg(long)]
        suite: Option<Suite>,
        /// Puts known faults into what the flag matrix holds, and fails if it does not see one.
        #[arg(long, conflicts_with_all = ["suite", "inner"])]
        canaries: bool,
        #[command(flatten)]
        arguments: suite::Arguments,
    },
    /// Measures runs beside ONNX Runtime's, refits, and a module that serves under refits.
    Bench(bench::Arguments),
    /// Makes the files that follow from the operator table anew.
    Codegen {
        /// Only says whether they are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Runs the fuzz targets: `--minutes N`, `--threads N`, `--out FOLDER`, names of targets; `--list` shows these.
    Fuzz {
        /// Passed on to the driver.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Builds the Python module and runs its tests; asks for a Python with pip, REFIT_PYTHON or python3.
    Python {
        /// Builds, installs and tests the wheel instead of a package with the library of the test build.
        #[arg(long)]
        release: bool,
        /// Passed on to pytest.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compiles every shader by Tint, the compiler of browsers; asks for Node.js with npm, and for no GPU.
    Tint,
    /// Refits a module under load for minutes or hours, and loads and drops modules, and holds outputs to versions and memory to what it was.
    Soak(soak::Arguments),
    /// Checks that a line of the changelog comes with changed snapshots.
    Snapshots {
        /// The revision that changes are counted from; by default the parent of the present one.
        #[arg(long, value_name = "REVISION", default_value = "HEAD^")]
        since: String,
    },
    /// Holds the public interface of every published crate against the one that is kept; asks for cargo-public-api and a nightly toolchain.
    Api {
        /// Keeps what is found instead.
        #[arg(long)]
        bless: bool,
    },
    /// Packs every crate that is published and builds it from its package.
    Package {
        /// Passed on to `cargo package`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Does every check that a release must pass, goes on after one that fails, and says what blocks.
    Release(release::Arguments),
    /// Builds a program that only loads, refits and runs engines on the CPU, and prints its size.
    Lean,
    /// Lists the GPU adapters that this process sees; ends with 1 if there is none.
    #[command(hide = true)]
    Adapters,
}

/// The suites there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// The tests of the ONNX standard, against two-way expectations.
    Onnx,
    /// Architectures of PyTorch through its four ways to export, bound to their checkpoints, with a proof by mutation; asks for a Python
    /// with PyTorch, REFIT_TORCH_PYTHON.
    Zoo,
}

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository");
    match Arguments::parse().verb {
        Verb::Demo { inner } => demo::run(root, inner),
        Verb::Test { arguments } => test::run(root, &arguments),
        Verb::Conformance { canaries: true, .. } => conformance::canaries(),
        Verb::Conformance { suite: None, arguments, .. } => conformance::run(root, arguments.inner),
        Verb::Conformance { suite: Some(Suite::Onnx), arguments, .. } => {
            suite::run(root, &arguments)
        }
        Verb::Conformance { suite: Some(Suite::Zoo), arguments, .. } => zoo::run(root, &arguments),
        Verb::Bench(arguments) => bench::run(root, &arguments),
        Verb::Codegen { check } => codegen::run(root, check),
        Verb::Fuzz { arguments } => fuzz::run(root, &arguments),
        Verb::Python { release, arguments } => python::run(root, release, &arguments),
        Verb::Tint => tint::run(root),
        Verb::Soak(arguments) => soak::run(root, &arguments),
        Verb::Snapshots { since } => snapshots::run(root, &since),
        Verb::Api { bless } => api::run(root, bless),
        Verb::Package { arguments } => package::run(root, &arguments),
        Verb::Release(arguments) => release::run(root, &arguments),
        Verb::Lean => lean::run(root),
        Verb::Adapters => adapters(),
    }
}

fn adapters() -> Result<()> {
    let found = Device::list()
        .into_iter()
        .filter(|device| *device != DeviceInfo::Cpu)
        .inspect(|gpu| println!("{gpu}"));
    ensure!(found.count() > 0, "no GPU adapter is seen");
    Ok(())
}
