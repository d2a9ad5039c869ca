//! What the program says. Whoever reads it may have read enough and close the pipe, as `head` does; that is no error of either.

use crate::failure::{Exit, Failure};
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// A line of a result, on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line beside the result, on standard error.
macro_rules! remark {
    ($($text:tt)*) => { $crate::output::to_stderr(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {remark, say};

/// Writes to standard output. If nobody reads it any more the work goes on, so that files and the exit code are what they would
/// be; a result that is lost for another reason, a full disk say, is an error.
pub fn to_stdout(text: Arguments<'_>) {
    match std::io::stdout().lock().write_fmt(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let failure = Failure::new(Exit::File, error).context("writing to standard output");
            failure.print();
            std::process::exit(failure.exit as i32);
        }
        _ => {}
    }
}

/// Writes to standard error. What is done is done, whether somebody listens or not.
pub fn to_stderr(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}
