//! The program `refit`: compiles ONNX models to engines whose weights can be stripped out and refitted.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use std::process::ExitCode;

mod args;
mod commands;
#[cfg(target_os = "linux")]
mod display;
mod failure;
mod output;
mod progress;
mod results;

fn main() -> ExitCode {
    failure::keep_lines_whole();
    let cli = args::Cli::parse();
    #[cfg(target_os = "linux")]
    display::without(cli.command.device());
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit as u8)
        }
    }
}
