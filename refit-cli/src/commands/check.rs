//! `refit check`: would these weights fit?

use super::{open_engine, open_weights};
use crate::args::{Check, RequiredWeights};
use crate::failure::Failure;
use crate::output::{give, say};
use engine_format::FitError;
use refit::FitSummary;

pub fn run(args: Check) -> Result<(), Failure> {
    let RequiredWeights { sources, changes } = &args.weights;
    let source = open_weights(sources, changes, &|| open_engine(&args.file))?;
    let source = source.expect("the command line asks for at least one source");
    let fit = refit::check_file(&args.file, &*source, changes.allow_extra)?;
    let failure = (!fit.is_fit()).then(|| FitError::Unfit(fit.clone()).into());
    give(&FitSummary::from(&fit), failure, || {
        fit.misfits.iter().for_each(|misfit| say!("{misfit}"));
        fit.remarks().into_iter().for_each(|line| say!("{line}"));
        if fit.is_fit() {
            say!("fits: {} tensors are taken", fit.taken.len());
        }
    })
}
