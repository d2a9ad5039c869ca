//! What the program says. Whoever reads it may have read enough and close the pipe, as `head` does; that is no error of either.
//!
//! Standard output has the result: text, or one JSON object. Standard error has the rest: remarks, warnings, errors, progress.

use crate::args::{Color, Manner};
use crate::failure::{Class, Failure};
use serde::Serialize;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A line of a result, on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line beside the result, on standard error, unless `--quiet` was said.
macro_rules! remark {
    ($($text:tt)*) => {
        if !$crate::output::manner().quiet {
            $crate::output::to_stderr(format_args!("{}\n", format_args!($($text)*)));
        }
    };
}

/// A line on standard error that nobody can turn off: what went wrong.
macro_rules! alarm {
    ($($text:tt)*) => { $crate::output::to_stderr(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {alarm, remark, say};

static MANNER: OnceLock<Manner> = OnceLock::new();

/// How the program speaks.
pub fn manner() -> Manner {
    MANNER.get().copied().unwrap_or_default()
}

/// The variable that says what is logged.
const LOG: &str = "REFIT_LOG";

/// The crates of this stack, as filters of what is logged name them.
const OWN: [&str; 7] = [
    "engine_builder",
    "engine_format",
    "engine_onnx",
    "engine_ops",
    "engine_runtime",
    "engine_verify",
    "refit",
];

/// Sets how the program speaks, once, and has what the libraries log said: warnings always, what they decide with `-v`.
///
/// # Errors
/// `Usage`, if what the environment asks to log is no filter.
pub fn configure(manner: Manner) -> Result<(), Failure> {
    let _ = MANNER.set(manner);
    crate::failure::keep_lines_whole(colors(manner.color));
    let filter = match std::env::var(LOG) {
        Ok(text) if !text.is_empty() => Targets::from_str(&text).map_err(|error| {
            Failure::new(Class::Usage, format!("{LOG}={text:?} is no filter: {error}"))
        })?,
        _ => levels(manner.verbose),
    };
    let colored = colors(manner.color).unwrap_or_else(|| {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        std::io::stderr().is_terminal() && !plain
    });
    // There is a subscriber already only if this was called before.
    let _ = log(filter, colored, std::io::stderr).try_init();
    Ok(())
}

/// What is logged by default: warnings, from `-v` on also what the crates of this stack decide.
fn levels(verbose: u8) -> Targets {
    let (own, others) = match verbose {
        0 => (LevelFilter::WARN, LevelFilter::WARN),
        1 => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new().with_default(others).with_targets(OWN.map(|name| (name, own)))
}

/// What writes it, one line each.
fn log<W>(filter: Targets, colored: bool, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(out).with_ansi(colored).without_time();
    tracing_subscriber::registry().with(lines).with(filter)
}

/// Whether there are colours, if that was said.
fn colors(color: Color) -> Option<bool> {
    match color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    }
}

/// Ends a verb: with one JSON object under `--json`, else with what `text` says. Where the result is a failure too, both are given.
pub fn give(
    report: &impl Serialize,
    failure: Option<Failure>,
    text: impl FnOnce(),
) -> Result<(), Failure> {
    match (manner().json, failure) {
        (true, None) => print_json(report),
        (true, Some(failure)) => Err(failure.with_report(report)),
        (false, failure) => {
            text();
            failure.map_or(Ok(()), Err)
        }
    }
}

/// Says how a command failed, in words, and under `--json` as an object too.
pub fn give_up(failure: &Failure, json: bool) {
    if json {
        print_object(failure);
    }
    failure.print();
}

/// Prints an error as an object, with the result in it that failed, if there is one.
pub fn print_object(failure: &Failure) {
    // An object that is one already can be printed.
    let _ = print_json(&failure.object());
}

/// Prints one JSON object.
fn print_json(object: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(object);
    say!("{}", text.map_err(|error| Failure::new(Class::Internal, error))?);
    Ok(())
}

/// Writes to standard output. If nobody reads it any more the work goes on, so that files and the exit code are what they would
/// be; a result that is lost for another reason, a full disk say, is an error.
pub fn to_stdout(text: Arguments<'_>) {
    match std::io::stdout().lock().write_fmt(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let failure = Failure::new(Class::Io, error).context("writing to standard output");
            failure.print();
            std::process::exit(failure.exit_code().into());
        }
        _ => {}
    }
}

/// Writes to standard error. What is done is done, whether somebody listens or not.
pub fn to_stderr(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(verbose: u8) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing::subscriber::with_default(
            log(levels(verbose), false, move || writer.clone()),
            || {
                tracing::warn!(target: "engine_runtime::device", "the CPU is used");
                tracing::debug!(target: "engine_runtime::device", "opened a GPU");
                tracing::trace!(target: "engine_runtime::device", "an own detail");
                tracing::warn!(target: "wgpu_hal", "a foreign warning");
                tracing::debug!(target: "wgpu_hal", "a foreign detail");
            },
        );
        let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn warnings_are_always_said_and_decisions_when_asked_for() {
        let said = |verbose| {
            let text = logged(verbose);
            ["CPU is used", "opened a GPU", "own detail", "foreign warning", "foreign detail"]
                .map(|part| text.contains(part))
        };
        assert_eq!(said(0), [true, false, false, true, false]);
        assert_eq!(said(1), [true, true, false, true, false]);
        assert_eq!(said(2), [true; 5]);
        assert!(logged(0).contains("WARN engine_runtime::device: the CPU is used"));
    }
}
