//! `refit build`: ONNX → engine.

use super::{WrittenReport, human, open_model, open_sources};
use crate::args::{Build, Float, Probes, RefitMode};
use crate::failure::{Class, Failure};
use crate::output::{give, manner, remark, to_stdout};
use crate::progress::Progress;
use engine_builder::{
    BindMap, Binding, BindingReport, BuildOptions, Note, Outcome, Precision, build_bound,
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
            Class::Usage,
            message,
            "use --refit all or --refit identical",
        ));
    }
    if args.probe.is_some() && args.strip && args.refit != RefitMode::Identical {
        let message =
            "--probe with --strip: outputs tell of weights, so a stripped engine holds no probes";
        return Err(Failure::with_help(
            Class::Usage,
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
        precision: match args.precision {
            Float::F32 => Precision::F32,
            Float::F16 => Precision::F16,
            Float::Bf16 => Precision::BF16,
        },
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
    let (engine, report, binding) = built.map_err(|error| {
        let doing = format!("building {}", args.model.display());
        let failure = Failure::from(&error).context(doing);
        match error.binding() {
            Some(binding) => failure.with_report(&Open { binding }),
            None => failure,
        }
    })?;
    if let Some(binding) = binding.as_ref().filter(|_| !manner().json) {
        remark!("{binding}");
    }
    for note in report.notes.iter().filter(|note| note.pass == "import") {
        remark!("{}: {}", note.node, note.text);
    }
    let engine = match args.probe {
        Some(Probes { count, seed }) => with_probes(engine, &model, &options, seed..seed + count)?,
        None => engine,
    };
    let progress = Progress::new("writing");
    let follow = |done, total| progress.update(done, total);
    let written = if args.strip {
        refit::write_engine(&engine, SerializeFlags::EXCLUDE_WEIGHTS, &args.output, Some(&follow))?
    } else if options.strip {
        let own = || -> BoxedSource {
            Box::new(OnnxSource::new(&model, args.model.display().to_string()))
        };
        let source = checkpoint.unwrap_or_else(own);
        let filling = FillOptions { allow_extra: true, ..FillOptions::default() };
        refit::fill_engine(&engine, &*source, &args.output, filling, Some(&follow))?.made
    } else {
        refit::write_engine(&engine, SerializeFlags::default(), &args.output, Some(&follow))?
    };
    drop(progress);
    let parts = engine.parts();
    let (weights, parameters): (Vec<_>, Vec<_>) =
        parts.weights.iter().partition(|weight| weight.class == WeightClass::Weight);
    let out = Report {
        written: WrittenReport::new(&args.output, &written),
        weights: weights.len(),
        parameters: parameters.len(),
        prepare: parts.prepare.nodes.len(),
        execute: parts.execute.nodes.len(),
        notes: args.explain.then(|| report.notes.iter().map(Explained::from).collect()),
        binding,
    };
    give(&out, None, || {
        if args.explain {
            to_stdout(format_args!("{report}"));
        }
        remark!(
            "{}: {}, {} weights ({}), {} parameters, {} nodes in prepare, {} in execute, {}",
            out.written.file,
            written.flags,
            out.weights,
            human(weights.iter().map(|w| w.byte_len() as u64).sum()),
            out.parameters,
            out.prepare,
            out.execute,
            human(written.length),
        );
    })
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    written: WrittenReport,
    weights: usize,
    parameters: usize,
    /// Nodes of the two programs.
    prepare: usize,
    execute: usize,
    /// What was bound to what; null without a checkpoint.
    binding: Option<BindingReport>,
    /// What the passes did and did not do; null unless `--explain` was said.
    notes: Option<Vec<Explained>>,
}

/// A note of a pass.
#[derive(Serialize)]
struct Explained {
    pass: &'static str,
    node: String,
    done: bool,
    text: String,
}

impl From<&Note> for Explained {
    fn from(note: &Note) -> Self {
        Self {
            pass: note.pass,
            node: note.node.clone(),
            done: note.outcome == Outcome::Done,
            text: note.text.clone(),
        }
    }
}

/// What it prints of a binding with open questions, beside the error.
#[derive(Serialize)]
struct Open<'a> {
    binding: &'a BindingReport,
}

/// Reads what initializers are in the checkpoint.
fn read_map(path: &Path) -> Result<BindMap, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Class::Io, format!("{}: {error}", path.display())))?;
    BindMap::parse(&text)
        .map_err(|error| Failure::from(&error).context(format!("reading {}", path.display())))
}
