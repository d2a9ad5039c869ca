//! `refit build`: ONNX → engine.

use super::{human, open_model, open_sources, print_json};
use crate::args::{Build, Probes, RefitMode};
use crate::failure::{Exit, Failure};
use crate::output::{remark, to_stdout};
use engine_builder::{
    BindMap, Binding, BindingReport, BuildError, BuildErrorKind, BuildOptions, build_bound,
    build_with_report,
};
use engine_format::{SerializeFlags, WeightClass, WeightSource};
use engine_verify::verify::with_probes;
use refit::{BoxedSource, FillOptions, OnnxSource};
use serde::Serialize;
use std::path::Path;

pub fn run(args: Build) -> Result<(), Failure> {
    if args.strip && args.refit == RefitMode::None {
        let message = "--strip with --refit none: a frozen engine cannot leave its weights out";
        return Err(Failure::with_help(
            Exit::Usage,
            message,
            "use --refit all or --refit identical",
        ));
    }
    if args.probe.is_some() && args.strip && args.refit != RefitMode::Identical {
        let message =
            "--probe with --strip: outputs tell of weights, so a stripped engine holds no probes";
        return Err(Failure::with_help(
            Exit::Usage,
            message,
            "leave --strip away, or use --refit identical",
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
        // Weights go from their files to the engine's, piece by piece, unless the engine itself is run or frozen.
        strip: args.refit != RefitMode::None && args.probe.is_none(),
        optimise: !args.no_optimise,
    };
    let checkpoint = match args.weights.as_slice() {
        [] => None,
        paths => Some(refit::map_sources(paths)?),
    };
    let built = match &checkpoint {
        None => build_with_report(&model, &options).map(|(engine, report)| (engine, report, None)),
        Some(checkpoint) => {
            checkpoint.remarks().into_iter().for_each(|line| remark!("{line}"));
            let map = args.bind.as_deref().map(read_map).transpose()?.unwrap_or_default();
            let other = args.other.as_deref().map(OnnxSource::open).transpose()?;
            let other_weights = open_sources(&args.other_weights)?;
            let binding = Binding {
                checkpoint: &**checkpoint,
                map,
                pin_unbound: args.pin_unbound,
                other: other.as_ref().map(|other| other as &dyn WeightSource),
                other_weights: other_weights.as_deref().map(|weights| weights as &dyn WeightSource),
            };
            build_bound(&model, &options, &binding)
                .map(|(engine, report, binding)| (engine, report, Some(binding)))
        }
    };
    if let Some(binding) = built.as_ref().err().and_then(BuildError::binding).filter(|_| args.json)
    {
        print_json(&Open { binding })?;
    }
    let (engine, report, binding) = built
        .map_err(|error| failure(&error).context(format!("building {}", args.model.display())))?;
    if let Some(binding) = binding.as_ref().filter(|_| !args.json) {
        remark!("{binding}");
    }
    for note in report.notes.iter().filter(|note| note.pass == "import") {
        remark!("{}: {}", note.node, note.text);
    }
    if args.explain {
        to_stdout(format_args!("{report}"));
    }
    let engine = match args.probe {
        Some(Probes { count, seed }) => with_probes(engine, &model, &options, seed..seed + count)?,
        None => engine,
    };
    let written = if args.strip {
        refit::write_engine(&engine, SerializeFlags::EXCLUDE_WEIGHTS, &args.output, None)?
    } else if options.strip {
        let own = || -> BoxedSource {
            Box::new(OnnxSource::new(&model, args.model.display().to_string()))
        };
        let source = checkpoint.unwrap_or_else(own);
        let filling = FillOptions { allow_extra: true, ..FillOptions::default() };
        refit::fill_engine(&engine, &*source, &args.output, filling, None)?.made
    } else {
        refit::write_engine(&engine, SerializeFlags::default(), &args.output, None)?
    };
    let parts = engine.parts();
    if args.json {
        return print_json(&Report {
            file: args.output.display().to_string(),
            flags: written.flags.to_string(),
            length: written.length,
            weights: parts.weights.len(),
            binding,
        });
    }
    let (weights, parameters): (Vec<_>, Vec<_>) =
        parts.weights.iter().partition(|weight| weight.class == WeightClass::Weight);
    remark!(
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

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    file: String,
    flags: String,
    /// Bytes of the file.
    length: u64,
    /// Weights and parameters.
    weights: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<BindingReport>,
}

/// What `--json` says of a binding with open questions, beside the error.
#[derive(Serialize)]
struct Open<'a> {
    binding: &'a BindingReport,
}

/// Reads what initializers are in the checkpoint.
fn read_map(path: &Path) -> Result<BindMap, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::File, format!("{}: {error}", path.display())))?;
    BindMap::parse(&text)
        .map_err(|error| failure(&error).context(format!("reading {}", path.display())))
}

fn failure(error: &BuildError) -> Failure {
    match error.kind() {
        BuildErrorKind::Options => Failure::new(Exit::Usage, error),
        BuildErrorKind::Unbound => Failure::with_help(Exit::Weights, error, UNBOUND),
        _ => Failure::new(Exit::File, error),
    }
}

const UNBOUND: &str = "export the model in another way, prove what is no weight with a second export from other weights (--other), \
                       or say what is what in a map (--bind MAP); without --weights the engine takes weights under the model's \
                       names";
