//! Chores of this repository, one file per verb: `cargo xtask VERB`.

use clap::{Parser, Subcommand};
use miette::Result;
use std::path::Path;

mod test;
mod vulkan;

#[derive(Parser)]
#[command(name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs every test of the workspace; brings a software Vulkan adapter where there is none.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Lists the GPU adapters that this process sees; ends with 1 if there is none.
    #[command(hide = true)]
    Adapters,
}

fn main() -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository");
    match Arguments::parse().verb {
        Verb::Test { arguments } => test::run(root, &arguments),
        Verb::Adapters => adapters(),
    }
}
