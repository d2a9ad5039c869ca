//! `refit check`: would these weights fit?

use super::print_json;
use crate::args::Check;
use crate::failure::Failure;
use refit::FitSummary;

pub fn run(args: Check) -> Result<(), Failure> {
    let source = refit::open_sources(&args.weights.sources)?;
    let fit = refit::check_file(&args.file, &*source, false)?;
    if args.json {
        print_json(&FitSummary::from(&fit))?;
    } else {
        print!("{fit}");
    }
    if fit.is_fit() {
        return Ok(());
    }
    Err(engine_format::FitError::Unfit(fit).into())
}
