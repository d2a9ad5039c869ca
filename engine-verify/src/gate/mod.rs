//! A release gate for an engine of one's own: with two sets of weights, every scenario of [`scenario`](crate::scenario) on every device, and
//! the outputs of both held against the unoptimised graph.

#[cfg(feature = "pages")]
mod pages;
mod report;

pub use report::{Compared, Held, Limits, OnDevice, Report, Sizes, Times};

use crate::Recipe;
use crate::inputs::{SeededRun, run_made};
use crate::scenario::{Path, SCENARIOS, Stack, ThisStack, Trial, Versions, Which, seeded};
use crate::verify::{Refilled, VerifyError, flat, model_module};
use engine_format::{
    Bytes, Engine, EngineFlags, FitError, FitPolicy, FormatError, MapSource, SerializeFlags,
    Tensor, WeightSource,
};
use engine_onnx::Model;
use engine_runtime::{Device, LiveModule, Module, RefitError, Values};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Timed runs and refits, after one that is not.
const TIMED: usize = 10;

/// Why an engine could not be held to anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The engine takes no other weights.
    #[error(
        "a gate refits an engine with other weights, and this one takes none: {0}; hold it against its model with `verify`"
    )]
    TakesNoOthers(EngineFlags),
    /// Both sets of weights are the same.
    #[error(
        "both sets of weights are the same for this engine: a refit from one to the other would change nothing"
    )]
    Same,
    /// A set of weights does not fit.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// A file is not written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A refit that is timed fails.
    #[error(transparent)]
    Refit(#[from] RefitError),
    /// The reference does not build, or something does not load or run.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What is the same on every device.
struct Everywhere<'a> {
    stack: &'a dyn Stack,
    /// The engine's files, with and without its weights.
    files: [(Bytes, EngineFlags); 2],
    inputs: Values,
    /// Outputs of the unoptimised graph with either set of weights.
    expected: [BTreeMap<String, Tensor>; 2],
}

/// An engine with two sets of weights, and what it is held against.
pub struct Gate {
    /// Filled with either.
    engines: [Engine; 2],
    /// The unoptimised graph with either, on the CPU.
    references: [LiveModule; 2],
    given: Values,
    recipe: Recipe,
    limits: Limits,
}

impl Gate {
    /// An engine, full or stripped, with the model that it was built from and two sets of weights that fit it. Inputs are made up, and outputs
    /// may differ from the model's as [`verify`](crate::verify::verify) lets them.
    ///
    /// # Errors
    /// Weights that do not fit or are the same, an engine that takes no others, a model that does not build.
    pub fn new(
        engine: &Engine,
        model: &Model,
        weights: [&dyn WeightSource; 2],
        fit: FitPolicy,
    ) -> Result<Self, GateError> {
        let flags = engine.flags();
        if flags.is_frozen() || flags.contains(EngineFlags::REFIT_IDENTICAL) {
            return Err(GateError::TakesNoOthers(flags));
        }
        let [own, other] = weights.map(|weights| engine.fill(weights, fit));
        let engines = [own?, other?];
        if engines[0].version() == engines[1].version() {
            return Err(GateError::Same);
        }
        let reference = |i: usize| {
            let refilled = Refilled { weights: weights[i], before: engine };
            model_module(model, &engines[i], Some(refilled))
        };
        let references = [reference(0)?, reference(1)?];
        let (given, recipe, limits) = (Values::new(), Recipe::seeded(1), Limits::default());
        Ok(Self { engines, references, given, recipe, limits })
    }

    /// With these inputs; those that are not given are made up.
    #[must_use]
    pub fn with_inputs(self, given: Values, recipe: Recipe) -> Self {
        Self { given, recipe, ..self }
    }

    /// With these limits for what outputs may differ.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Holds the engine to everything on every device.
    ///
    /// # Errors
    /// Only if something does not run at all; what does not hold is in the report.
    pub fn hold(&self, devices: &[Device]) -> Result<Report, GateError> {
        self.hold_through(devices, &ThisStack)
    }

    /// The same through a stack that may have a fault.
    ///
    /// # Errors
    /// As [`Gate::hold`].
    pub fn hold_through(&self, devices: &[Device], stack: &dyn Stack) -> Result<Report, GateError> {
        let made = run_made(&self.references[0], &self.given, &self.recipe);
        let SeededRun { inputs, made: made_up, .. } = made.map_err(VerifyError::from)?;
        let expected = |i: usize| -> Result<_, VerifyError> {
            Ok(flat(self.references[i].run_with(&inputs, &seeded())?))
        };
        let expected = [expected(0)?, expected(1)?];
        let tells_apart = expected[0] != expected[1];
        let own = &self.engines[0];
        let file = |wish| stack.serialize(own, wish).map(Bytes::from);
        let full = file(SerializeFlags::INCLUDE_REFIT)?;
        let stripped = file(SerializeFlags::EXCLUDE_WEIGHTS)?;
        let sizes = Sizes { full: full.len() as u64, stripped: stripped.len() as u64 };
        let flags =
            [own.flags(), own.strip()?.flags()].map(|flags| flags - EngineFlags::COMPRESSED);
        let files = [(full, flags[0]), (stripped, flags[1])];
        let everywhere = Everywhere { stack, files, inputs, expected };
        let on_device = |device| self.on_device(device, &everywhere);
        Ok(Report {
            flags: own.flags().iter_names().map(|(name, _)| name.to_owned()).collect(),
            weights: own.parts().weights.len(),
            versions: self.engines.iter().filter_map(|e| Some(e.version()?.to_string())).collect(),
            made_up,
            tells_apart,
            limits: self.limits,
            sizes,
            devices: devices.iter().map(on_device).collect::<Result<_, _>>()?,
        })
    }

    fn on_device(
        &self,
        device: &Device,
        everywhere: &Everywhere<'_>,
    ) -> Result<OnDevice, GateError> {
        let Everywhere { stack, files, inputs, expected } = everywhere;
        let other = weights_of(&self.engines[1]);
        let versions = Versions::new(&self.engines[0], &other, None, device, inputs)?;
        let mut outputs = Vec::new();
        for (which, expected) in [Which::A, Which::B].into_iter().zip(expected) {
            let found = versions.outputs(which).map(|outputs| flat(outputs.clone()));
            let found = found.unwrap_or_default();
            outputs.extend(expected.iter().map(|(output, expected)| {
                Compared::new(which, output, found.get(output), expected, self.limits)
            }));
        }
        let trial = Trial { stack: *stack, device, inputs, versions: &versions };
        let mut scenarios = Vec::new();
        for (file, flags) in files {
            for path in Path::ALL {
                scenarios.extend(SCENARIOS.iter().map(|scenario| {
                    let begun = Instant::now();
                    let result = trial.hold(scenario, file, *flags, path);
                    Held::new(scenario, *flags, path, result, begun.elapsed())
                }));
            }
        }
        let times = self.times(device, inputs, &versions)?;
        Ok(OnDevice { device: device.to_string(), outputs, scenarios, times })
    }

    /// Times of a module that is loaded, refitted from one set to the other and run.
    fn times(
        &self,
        device: &Device,
        inputs: &Values,
        versions: &Versions,
    ) -> Result<Times, GateError> {
        let begun = Instant::now();
        let module =
            LiveModule::load(self.engines[0].clone(), device).map_err(VerifyError::from)?;
        let load_ms = milliseconds(begun.elapsed());
        let mut times = Times { load_ms, ..Times::default() };
        let run = || module.run_with(inputs, &seeded()).map_err(VerifyError::from);
        run()?;
        for turn in 0..TIMED {
            let which = if turn % 2 == 0 { Which::B } else { Which::A };
            let begun = Instant::now();
            module.refit(versions.weights(which), FitPolicy::default())?;
            times.refit_ms.push(milliseconds(begun.elapsed()));
        }
        // After a refit a run may still do without the forms of the new weights.
        run()?;
        for _ in 0..TIMED {
            let begun = Instant::now();
            run()?;
            times.run_ms.push(milliseconds(begun.elapsed()));
        }
        Ok(times)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// All weights that an engine holds.
fn weights_of(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter();
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}
