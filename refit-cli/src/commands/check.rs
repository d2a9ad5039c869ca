//! `refit check`: would these weights fit?

use super::{open_engine, open_weights, print_json};
use crate::args::{Check, RequiredWeights};
use crate::failure::Failure;
use crate::output::to_stdout;
use refit::FitSummary;

pub fn run(args: Check) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let fit = refit::check_file(&args.file, &*source, false)?;
    if args.json {
        print_json(&FitSummary::from(&fit))?;
    } else {
        to_stdout(format_args!("{fit}"));
    }
    if fit.is_fit() {
        return Ok(());
    }
    Err(engine_format::FitError::Unfit(fit).into())
}
