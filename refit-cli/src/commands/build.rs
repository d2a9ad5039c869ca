//! `refit build`: ONNX → engine.

use super::{human, open_model};
use crate::args::{Build, RefitMode};
use crate::failure::{Exit, Failure};
use engine_builder::{BuildErrorKind, BuildOptions, build_with_report};
use engine_format::{SerializeFlags, WeightClass};

pub fn run(args: Build) -> Result<(), Failure> {
    if args.strip && args.refit == RefitMode::None {
        let message = "--strip with --refit none: a frozen engine cannot leave its weights out";
        return Err(Failure::with_help(
            Exit::Usage,
            message,
            "use --refit all or --refit identical",
        ));
    }
    let model = open_model(&args.model)?;
    let options = BuildOptions {
        refit: match args.refit {
            RefitMode::All => engine_builder::RefitMode::All,
            RefitMode::Identical => engine_builder::RefitMode::Identical,
            RefitMode::None => engine_builder::RefitMode::None,
        },
        refit_only: args.refit_only,
        keep_inputs: args.keep_input,
        shapes: args.shape.into_iter().collect(),
        optimise: !args.no_optimise,
    };
    let (engine, report) = build_with_report(&model, &options).map_err(|error| {
        let exit = if error.kind() == BuildErrorKind::Options { Exit::Usage } else { Exit::File };
        Failure::new(exit, error).context(format!("building {}", args.model.display()))
    })?;
    if args.explain {
        print!("{report}");
    }
    let wish = if args.strip { SerializeFlags::EXCLUDE_WEIGHTS } else { SerializeFlags::default() };
    let written = refit::write_engine(&engine, wish, &args.output, None)?;
    let parts = engine.parts();
    let (weights, parameters): (Vec<_>, Vec<_>) =
        parts.weights.iter().partition(|weight| weight.class == WeightClass::Weight);
    eprintln!(
        "{}: {}, {} weights ({}), {} parameters, {} nodes in prepare, {} in execute, {}",
        args.output.display(),
        written.flags,
        weights.len(),
        human(weights.iter().map(|w| w.byte_len() as u64).sum()),
        parameters.len(),
        parts.prepare.nodes.len(),
        parts.execute.nodes.len(),
        human(written.length),
    );
    Ok(())
}
