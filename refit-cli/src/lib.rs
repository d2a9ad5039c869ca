//! The program `refit`: compiles ONNX models to engines whose weights can be stripped out and refitted.
//!
//! [`main`] is the program, [`command`] its interface as data, from which help, completions and the README's table are made.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use args::Cli;
use clap::error::ErrorKind;
use clap::{ColorChoice, FromArgMatches};
use failure::{Class, Failure};
use std::ffi::OsString;
use std::process::ExitCode;

mod args;
mod commands;
#[cfg(target_os = "linux")]
mod display;
mod failure;
mod generate;
mod inputs;
mod output;
mod progress;
mod results;

pub use args::command;
pub use generate::usage;

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let matches = command().color(colors(&given)).try_get_matches_from(&given);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &given),
    };
    let work = match (cli.command, cli.generate) {
        (Some(command), None) => Work::Command(Box::new(command)),
        (Some(_), Some(_)) => {
            let what = "--generate goes with no verb";
            return refuse(&command().error(ErrorKind::ArgumentConflict, what), &given);
        }
        (None, Some(what)) => Work::Generate(what),
        (None, None) => {
            let error = command().error(ErrorKind::MissingSubcommand, "no verb is given");
            return refuse(&error, &given);
        }
    };
    #[cfg(target_os = "linux")]
    if let Work::Command(command) = &work {
        display::without(command.device());
    }
    let json = cli.manner.json;
    let done = output::configure(cli.manner).and_then(|()| match work {
        Work::Command(command) => commands::run(*command),
        Work::Generate(what) => generate::generate(what),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::give_up(&failure, json);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What is to be done.
enum Work {
    Command(Box<args::Command>),
    Generate(args::Generate),
}

/// What `--color` says, for what is said before arguments are understood.
fn colors(given: &[OsString]) -> ColorChoice {
    let after = |flag: &OsString| given.iter().skip_while(|arg| *arg != flag).nth(1);
    let joined = given.iter().filter_map(|arg| arg.to_str()?.strip_prefix("--color="));
    let apart = after(&"--color".into()).and_then(|when| when.to_str());
    match joined.chain(apart).next() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// Says why arguments are not understood, or what was asked of the interface itself: help and version.
fn refuse(error: &clap::Error, given: &[OsString]) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // Whoever does not listen any more is not told.
    let _ = error.print();
    if asked {
        return ExitCode::SUCCESS;
    }
    if given.iter().any(|arg| arg == "--json") {
        let message = error.render().to_string();
        let message = message.trim().trim_start_matches("error: ");
        output::print_object(&Failure::new(Class::Usage, message));
    }
    ExitCode::from(Class::Usage.exit_code())
}
