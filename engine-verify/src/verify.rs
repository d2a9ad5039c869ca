//! An engine against the unoptimised graph of its model, and against the probes it carries.

use crate::comparison::nan_count;
use crate::inputs::{all_tensors, run_made, run_seeded};
use crate::recipe::Recipe;
use engine_builder::{BindMap, Binding, BuildError, BuildOptions, Precision, build, build_bound};
use engine_format::{
    Alias, DType, Digest, Engine, EngineFlags, FitError, FitPolicy, FormatError, MapSource, Probe,
    SourceError, Tensor, Weight, WeightClass, WeightSource,
};
use engine_onnx::Model;
use engine_ops::{Agreement, Mismatch, Tolerance, compare, to_f64s};
use engine_runtime::{
    Device, LiveModule, LoadError, Module, Outputs, RunError, RunOptions, Values,
};
use refit::OnnxSource;
use std::collections::{BTreeMap, BTreeSet};

/// |a − b| ≤ 1e-5 + 1e-4·|b|: what optimisation and another device may change of numbers about 1.
pub const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

/// Units in the last place of a rounded weight by which an output may be off, in proportion to the largest element. Roundings are
/// independent: those of one sum cancel for the most part, and those of some dozens of layers add up to a few units.
const ROUNDED_UNITS: f64 = 16.0;

/// What optimisation and another device may change of an output: [`TOLERANCE`], of whose absolute part there is less where all that is
/// expected is smaller than 1. An output of small numbers so proves as much as one of large numbers does. An engine whose `flags` say that it rounds
/// weights may be off by what that changes: 1/128 of the largest element and of each in `F16`, 1/16 in `BF16`.
pub fn tolerance(expected: &Tensor, flags: EngineFlags) -> Tolerance {
    let magnitudes = match expected.dtype() {
        DType::String => Vec::new(),
        _ => to_f64s(expected),
    };
    let largest = magnitudes.iter().filter(|x| x.is_finite()).fold(0.0f64, |a, x| a.max(x.abs()));
    // What is all zeros says nothing about its scale.
    let scale = if largest > 0.0 { largest.min(1.0) } else { 1.0 };
    let unit = match flags.precision() {
        EngineFlags::F16 => 1.0 / 2048.0,
        EngineFlags::BF16 => 1.0 / 256.0,
        _ => return Tolerance { atol: TOLERANCE.atol * scale, ..TOLERANCE },
    };
    let rtol = ROUNDED_UNITS * unit;
    Tolerance { atol: rtol * if largest > 0.0 { largest } else { 1.0 }, rtol }
}

/// How one output compares.
#[derive(Debug)]
pub struct Compared {
    /// The output.
    pub output: String,
    /// How far apart, or why not the same. Where both are no number they agree.
    pub result: Result<Agreement, Mismatch>,
    /// Elements that should be no number, of which nothing is proven.
    pub nan: usize,
    /// All elements.
    pub elements: usize,
}

impl Compared {
    fn new(output: String, found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Self {
        let result = compare(found, expected, tolerance);
        Self { output, result, nan: nan_count(expected), elements: expected.len() }
    }

    /// Whether it agrees and nothing is proven: there are elements, and none of them is a number.
    pub fn is_unproven(&self) -> bool {
        self.result.is_ok() && self.elements > 0 && self.nan == self.elements
    }
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The model does not build.
    #[error("building the reference: {0}")]
    Build(#[from] BuildError),
    /// The engine is bound to a checkpoint, and the model does not bind in the same way.
    #[error("binding the reference to the names that the engine's weights have: {0}")]
    Bind(#[source] BuildError),
    /// The weights do not fit the reference.
    #[error("filling the reference: {0}")]
    Fit(#[from] FitError),
    /// The reference does not load.
    #[error("loading the reference: {0}")]
    Load(#[from] LoadError),
    /// The engine does not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The engine cannot hold the probes.
    #[error("keeping the probes: {0}")]
    Keep(#[from] FormatError),
    /// An input is no tensor, and probes hold tensors.
    #[error("probes hold tensors, and an input of the model is a sequence or an optional value")]
    Structures,
    /// An output of the engine is not the reference's.
    #[error("output {output:?} is not that of the unoptimised graph: {mismatch}")]
    Differs {
        /// The output.
        output: String,
        /// How.
        mismatch: Mismatch,
    },
    /// The engine and the model have different outputs.
    #[error("the engine has the outputs {found:?}, the model {expected:?}")]
    Outputs {
        /// The engine's.
        found: Vec<String>,
        /// The model's.
        expected: Vec<String>,
    },
}

/// Weights that a module's engine was filled with.
#[derive(Clone, Copy)]
pub struct Refilled<'a> {
    /// Under the names that the engine takes.
    pub weights: &'a dyn WeightSource,
    /// The engine before: what an exporter calculated of its weights is found in the model that it was built from.
    pub before: &'a Engine,
}

/// Runs `module` and the unoptimised graph of `model` (on the CPU) over the same seeded inputs and compares every output. The weights of
/// `refilled` fill the reference; without them it has the model's own.
///
/// # Errors
/// Only if something does not run; outputs that differ are in the result.
pub fn verify(
    module: &dyn Module,
    model: &Model,
    refilled: Option<Refilled<'_>>,
    seed: u64,
) -> Result<Vec<Compared>, VerifyError> {
    let reference = model_module(model, &module.engine(), refilled)?;
    verify_on(module, &reference, &Values::new(), &Recipe::seeded(seed))
}

/// The unoptimised graph of `model` on the CPU, with its own weights or those of `refilled`, which fill `engine`: what an engine is
/// held against.
///
/// # Errors
/// If it does not build, fill or load.
pub fn model_module(
    model: &Model,
    engine: &Engine,
    refilled: Option<Refilled<'_>>,
) -> Result<LiveModule, VerifyError> {
    match refilled {
        Some(refilled) => filled_reference(model, engine, refilled),
        None => reference(model, &BuildOptions::default()),
    }
}

/// Runs `reference` on the inputs that are given and those that `recipe` makes up, then `module` on the same, and compares every
/// output.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(
    module: &dyn Module,
    reference: &dyn Module,
    given: &Values,
    recipe: &Recipe,
) -> Result<Vec<Compared>, VerifyError> {
    let run = run_made(reference, given, recipe)?;
    let found = module.run_with(&run.inputs, &RunOptions::default())?;
    compare_outputs(flat(found), flat(run.outputs), module.engine().flags())
}

/// The unoptimised graph on the CPU in `f32`, with the model's own weights.
fn reference(model: &Model, options: &BuildOptions) -> Result<LiveModule, VerifyError> {
    let engine = build(
        model,
        &BuildOptions { optimise: false, precision: Precision::F32, ..options.clone() },
    )?;
    Ok(LiveModule::load(engine, &Device::cpu())?)
}

/// The unoptimised graph on the CPU with the weights that fill `engine`.
fn filled_reference(
    model: &Model,
    engine: &Engine,
    Refilled { weights, before }: Refilled<'_>,
) -> Result<LiveModule, VerifyError> {
    let options = BuildOptions { optimise: false, ..BuildOptions::default() };
    let constants = || OnnxSource::new(model, "the model");
    let by_name = !is_bound(engine, &constants());
    let reference = match by_name && holds_weights(before, engine, &constants())? {
        true => build(model, &options)?,
        // The model is that of the weights before, or an export from the new ones, or has others under the names of either.
        false => bound_by_contents(model, before, &options)
            .or_else(|_| bound_by_contents(model, engine, &options))
            .or_else(|_| match by_name {
                true => Ok(build(model, &options)?),
                false => bound_again(model, constants(), engine, &options),
            })?,
    };
    // What a checkpoint does not have (pinned weights, constants of the program) is the model's in the engine too.
    let reference = reference.fill(weights, FitPolicy { partial: true, allow_extra: true })?;
    Ok(LiveModule::load(reference, &Device::cpu())?)
}

/// Whether the engine's weights are not the model's constants.
fn is_bound(engine: &Engine, constants: &OnnxSource) -> bool {
    let own = |weight: &Weight| constants.info(&weight.name) == Some(weight.info());
    engine.parts().weights.iter().any(|weight| !weight.aliases.is_empty() || !own(weight))
}

/// Whether every weight that the model has by name is what one of the engines holds, as far as they hold any. Else an exporter may have
/// given the name of a weight to what it calculated of it.
fn holds_weights(
    before: &Engine,
    engine: &Engine,
    constants: &OnnxSource,
) -> Result<bool, VerifyError> {
    for weight in before.parts().weights.iter().filter(|weight| weight.tensor().is_some()) {
        let held = constants.read(&weight.name).map_err(FitError::from)?;
        let after = engine.weight(&weight.name).and_then(Weight::tensor);
        if held.is_some() && held != weight.tensor() && held != after {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The model with its weights bound to those that `engine` holds.
fn bound_by_contents(
    model: &Model,
    engine: &Engine,
    options: &BuildOptions,
) -> Result<Engine, VerifyError> {
    let checkpoint = weights_of(engine);
    if !engine.missing().is_empty() {
        let names = engine.missing().join(", ");
        let why = format!("the engine does not hold the weights {names}");
        let origin = checkpoint.origin();
        return Err(FitError::from(SourceError { name: names, origin, why }).into());
    }
    let binding = Binding::to(&checkpoint);
    Ok(build_bound(model, options, &binding).map_err(VerifyError::Bind)?.0)
}

/// The weights that an engine holds, as a source.
fn weights_of(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter();
    let rows = rows.filter(|weight| weight.class == WeightClass::Weight);
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}

/// The model with its weights bound to the names that they have in `engine`, which it filled through aliases. A weight of which
/// the model has a part only is bound by the contents that it has in the engine.
fn bound_again(
    model: &Model,
    mut constants: OnnxSource,
    engine: &Engine,
    options: &BuildOptions,
) -> Result<Engine, VerifyError> {
    let aliases = engine.parts().weights.iter().flat_map(|weight| &weight.aliases);
    let aliases: BTreeSet<&str> = aliases.flat_map(Alias::names).collect();
    // A constant may have the name of a tensor of which it is a part.
    constants.retain(|name, info| {
        aliases.contains(name) || engine.weight(name).is_some_and(|weight| weight.info() == *info)
    });
    let original = engine.fill(&constants, FitPolicy { partial: true, allow_extra: true })?;
    let checkpoint = weights_of(&original);
    let binding = Binding { map: BindMap::of(engine), ..Binding::to(&checkpoint) };
    let (bound, ..) = build_bound(model, options, &binding).map_err(VerifyError::Bind)?;
    Ok(bound)
}

/// Tensors by name.
type Tensors = BTreeMap<String, Tensor>;

fn compare_outputs(
    found: Tensors,
    expected: Tensors,
    flags: EngineFlags,
) -> Result<Vec<Compared>, VerifyError> {
    if !found.keys().eq(expected.keys()) {
        let names = |tensors: &Tensors| tensors.keys().cloned().collect();
        return Err(VerifyError::Outputs { found: names(&found), expected: names(&expected) });
    }
    let compared = |(output, expected): (String, _)| {
        let found = &found[&output];
        Compared::new(output, found, &expected, tolerance(&expected, flags))
    };
    Ok(expected.into_iter().map(compared).collect())
}

/// Every tensor of the outputs; element 3 of a sequence is `NAME[3]`.
pub fn flat(outputs: Outputs) -> BTreeMap<String, Tensor> {
    let mut tensors = outputs.tensors;
    for (name, value) in outputs.structures {
        for (i, tensor) in value.tensors().iter().enumerate() {
            tensors.insert(format!("{name}[{i}]"), tensor.clone());
        }
    }
    tensors
}

/// `engine` with a probe for each of `seeds`: inputs made up from it and what the unoptimised graph of `model`, built with
/// `options`, makes of them on the CPU.
///
/// # Errors
/// If something does not run, and `Differs` if the engine itself does not agree with its probes.
pub fn with_probes(
    engine: Engine,
    model: &Model,
    options: &BuildOptions,
    seeds: impl IntoIterator<Item = u64>,
) -> Result<Engine, VerifyError> {
    let reference = reference(model, options)?;
    let version = engine.version().expect("an engine that was just built has its weights");
    let probe = |seed| {
        let run = run_seeded(&reference, &Values::new(), seed)?;
        let inputs = all_tensors(run.inputs).ok_or(VerifyError::Structures)?;
        let outputs = run.outputs.tensors;
        let Tolerance { atol, rtol } = outputs
            .values()
            .map(|expected| tolerance(expected, engine.flags()))
            .reduce(|a, b| if b.atol > a.atol { b } else { a })
            .unwrap_or(TOLERANCE);
        Ok(Probe { version, inputs, outputs, atol, rtol })
    };
    let probes = seeds.into_iter().map(probe).collect::<Result<Vec<_>, VerifyError>>()?;
    let engine = engine.with_probes(probes)?;
    let module = LiveModule::load(engine.clone(), &Device::cpu())?;
    for checked in check_probes(&module)? {
        let Checked::Compared(outputs) = checked else { continue };
        for Compared { output, result, .. } in outputs {
            result.map_err(|mismatch| VerifyError::Differs { output, mismatch })?;
        }
    }
    Ok(engine)
}

/// What a probe says of a module.
#[derive(Debug)]
pub enum Checked {
    /// Nothing: it is of these weights, the module has others.
    NotApplicable(Digest),
    /// How every output of the probe compares.
    Compared(Vec<Compared>),
}

/// Holds `module` against the probes of its engine, in their order.
///
/// # Errors
/// Only if it does not run; outputs that differ are in the result.
pub fn check_probes(module: &dyn Module) -> Result<Vec<Checked>, VerifyError> {
    let engine = module.engine();
    let check = |probe: &Probe| {
        let outputs = module.run(&probe.inputs)?;
        if outputs.version != probe.version {
            return Ok(Checked::NotApplicable(probe.version));
        }
        let tolerance = Tolerance { atol: probe.atol, rtol: probe.rtol };
        let compared = |(output, expected): (&String, _)| {
            let found = outputs.tensors.get(output);
            let found = found.ok_or_else(|| VerifyError::Outputs {
                found: outputs.tensors.keys().cloned().collect(),
                expected: vec![output.clone()],
            })?;
            Ok(Compared::new(output.clone(), found, expected, tolerance))
        };
        let compared = probe.outputs.iter().map(compared).collect::<Result<_, VerifyError>>()?;
        Ok(Checked::Compared(compared))
    };
    engine.probes().iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_outputs_are_held_as_large_ones_are() {
        let agrees = |found: &[f32], expected: &[f32]| {
            let tensor = |x: &[f32]| Tensor::from_slice(&[x.len()], x);
            let expected = tensor(expected);
            compare(&tensor(found), &expected, tolerance(&expected, EngineFlags::REFIT)).is_ok()
        };
        for scale in [1.0, 1e-3, 1e-6, 1e-30] {
            let expected = [scale, 0.0, -0.5 * scale];
            let off = |by: f32| expected.map(|x| x + by * scale);
            assert!(agrees(&off(5e-6), &expected), "rounding at {scale}");
            assert!(!agrees(&off(1e-2), &expected), "a fault at {scale}");
            assert!(!agrees(&[0.0; 3], &expected), "zeros at {scale}");
        }
        // Rounded weights may change more, in proportion to the largest element.
        for (flags, near, far) in [(EngineFlags::F16, 5e-3, 2e-2), (EngineFlags::BF16, 5e-2, 0.2)] {
            for scale in [1e3, 1.0, 1e-6] {
                let expected = Tensor::from_slice(&[2], &[scale, 0.0f32]);
                let within = |by: f32| {
                    let found = Tensor::from_slice(&[2], &[scale, by * scale]);
                    compare(&found, &expected, tolerance(&expected, flags)).is_ok()
                };
                assert!(within(near) && !within(far), "{flags} at {scale}");
            }
        }
        // Beside large numbers the absolute part does not grow, and where nothing says the scale it is that of 1.
        assert!(!agrees(&[1e6, 1e-3], &[1e6, 0.0]));
        assert!(agrees(&[1e-6], &[0.0]) && !agrees(&[1e-4], &[0.0]));
        assert!(agrees(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY]));
    }
}
