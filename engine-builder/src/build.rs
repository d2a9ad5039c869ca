//! The one thing this crate does.

use crate::binding::{self, Binding, BindingReport, Bound};
use crate::error::BuildError;
use crate::options::{BuildOptions, RefitMode};
use crate::report::BuildReport;
use crate::{assemble, classify, import, passes};
use engine_format::Engine;
use engine_onnx::Model;
use glob::Pattern;

/// Compiles a model.
///
/// The engine's bytes are its own: the model's files are not needed, and may change, once this returns. Two builds of
/// models that differ only in the values of weights give engines that differ only in those values.
pub fn build(model: &Model, options: &BuildOptions) -> Result<Engine, BuildError> {
    build_with_report(model, options).map(|(engine, _)| engine)
}

/// As [`build`], and says what every pass did and what it nearly did, and as pass `import` which results have another form than in the
/// model.
pub fn build_with_report(
    model: &Model,
    options: &BuildOptions,
) -> Result<(Engine, BuildReport), BuildError> {
    compile(model, options, None).map(|(engine, report, _)| (engine, report))
}

/// As [`build_with_report`], with weights that bear the names of a checkpoint and start from its tensors. The model still fills the
/// engine, under its own names, but for weights of which the exporter calculated something: these come from a checkpoint.
///
/// # Errors
/// Those of [`build`]; `Unbound` with the whole [`BindingReport`] as its message if the checkpoint could not refit the engine or
/// it is not clear how; `Checkpoint` if it cannot be read; `Options` for a map that is wrong.
pub fn build_bound(
    model: &Model,
    options: &BuildOptions,
    binding: &Binding<'_>,
) -> Result<(Engine, BuildReport, BindingReport), BuildError> {
    compile(model, options, Some(binding))
}

fn compile(
    model: &Model,
    options: &BuildOptions,
    binding: Option<&Binding<'_>>,
) -> Result<(Engine, BuildReport, BindingReport), BuildError> {
    let patterns = patterns(options)?;
    if options.strip && options.refit == RefitMode::None {
        return Err(BuildError::options("a frozen engine cannot leave its weights out".to_owned()));
    }
    let mut imported = import::import(model, options)?;
    let mut classified = classify::classify(&mut imported)?;
    let (mut graph, mut notes, origins) = (imported.graph, imported.notes, imported.origins);
    let bound = match binding {
        Some(binding) => binding::bind(&mut graph, &mut classified.sources, &origins, binding)?,
        None => Bound::default(),
    };
    if cfg!(debug_assertions) {
        let verified = graph.verify();
        verified.map_err(|error| BuildError::internal(format!("after import: {error}")))?;
    }
    if options.optimise {
        passes::optimise(&mut graph, options.refit != RefitMode::All, &mut notes)?;
    }
    if let Some(to) = options.precision.rounds_to() {
        passes::round(&mut graph, to, options.optimise, &mut notes)?;
    }
    if binding.is_none() {
        classified.trust_names(&graph.pinned);
    }
    let sources = &classified.sources;
    let engine = assemble::assemble(model, graph, sources, &bound, options, &patterns)?;
    Ok((engine, notes.finish(), bound.report))
}

fn patterns(options: &BuildOptions) -> Result<Vec<Pattern>, BuildError> {
    if !options.refit_only.is_empty() && options.refit != RefitMode::All {
        return Err(BuildError::options(format!(
            "refit mode {:?} was asked for together with patterns of weights that may change; they go with All only",
            options.refit
        )));
    }
    let parse = |text: &String| {
        Pattern::new(text)
            .map_err(|error| BuildError::options(format!("pattern {text:?}: {error}")))
    };
    options.refit_only.iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
