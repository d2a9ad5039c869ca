//! A release gate for an engine of one's own: with two sets of weights, every scenario of [`scenario`](crate::scenario) on every device, and
//! the outputs of both held against the unoptimised graph.

#[cfg(feature = "pages")]
mod pages;
mod report;

pub use report::{
    BINS, Baseline, BaselineDevice, Compared, Held, Limits, OnDevice, Report, Sizes, Slowdown,
    Times,
};

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
    /// Another runtime does not give its outputs.
    #[error("asking another runtime for its outputs: {0}")]
    Oracle(String),
}

/// Inputs that outputs are compared on.
#[derive(Clone, Debug)]
pub struct InputSet {
    /// What they are called in the report.
    pub name: String,
    /// Those that are given.
    pub given: Values,
    /// How the others are made up.
    pub recipe: Recipe,
}

/// What another runtime makes of inputs with one of the two sets of weights.
pub struct OracleOutputs {
    /// The runtime and its version.
    pub who: String,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, Tensor>,
}

/// Another runtime; `None` for weights that it does not have. An error is said in words.
pub type Oracle = dyn Fn(Which, &Values) -> Result<Option<OracleOutputs>, String>;

/// Called with the device, the checks that are done on it and those that there are.
pub type Follow = dyn Fn(&Device, usize, usize);

/// What outputs with one set of weights are held against.
struct Expected {
    which: Which,
    against: String,
    outputs: BTreeMap<String, Tensor>,
}

/// Inputs, and the outputs that are expected of them.
struct Expectation {
    name: String,
    inputs: Values,
    expected: Vec<Expected>,
}

/// What is the same on every device.
struct Everywhere<'a> {
    stack: &'a dyn Stack,
    /// The engine's files, with and without its weights.
    files: [(Bytes, EngineFlags); 2],
    /// One at least; modules are taken through the scenarios on the inputs of the first.
    expectations: Vec<Expectation>,
}

/// An engine with two sets of weights, and what it is held against.
pub struct Gate {
    /// Filled with either.
    engines: [Engine; 2],
    /// The unoptimised graph with either, on the CPU.
    references: [LiveModule; 2],
    inputs: Vec<InputSet>,
    limits: Limits,
    oracle: Option<Box<Oracle>>,
    follow: Option<Box<Follow>>,
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
        let made_up = InputSet {
            name: "made up".to_owned(),
            given: Values::new(),
            recipe: Recipe::seeded(1),
        };
        let (inputs, limits) = (vec![made_up], Limits::default());
        Ok(Self { engines, references, inputs, limits, oracle: None, follow: None })
    }

    /// With these inputs, unless there are none; outputs are compared on all of them, and modules taken through the scenarios on the first.
    #[must_use]
    pub fn with_inputs(self, inputs: Vec<InputSet>) -> Self {
        if inputs.is_empty() { self } else { Self { inputs, ..self } }
    }

    /// Holds outputs against those of another runtime too.
    #[must_use]
    pub fn with_oracle(self, oracle: Box<Oracle>) -> Self {
        Self { oracle: Some(oracle), ..self }
    }

    /// Says how far it is.
    #[must_use]
    pub fn with_progress(self, follow: Box<Follow>) -> Self {
        Self { follow: Some(follow), ..self }
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
        let mut made_up = Vec::new();
        let mut expectations = Vec::new();
        for set in &self.inputs {
            let (expectation, made) = self.expect(set)?;
            expectations.push(expectation);
            made_up.extend(made);
        }
        made_up.sort();
        made_up.dedup();
        let of = |expectation: &Expectation, which| {
            let found = expectation.expected.iter().find(|expected| expected.which == which);
            found.map(|expected| expected.outputs.clone())
        };
        let tells_apart = expectations.iter().any(|one| of(one, Which::A) != of(one, Which::B));
        let own = &self.engines[0];
        let file = |options| stack.serialize(own, options).map(Bytes::from);
        let full = file(SerializeFlags::INCLUDE_REFIT)?;
        let stripped = file(SerializeFlags::EXCLUDE_WEIGHTS)?;
        let sizes = Sizes { full: full.len() as u64, stripped: stripped.len() as u64 };
        let flags =
            [own.flags(), own.strip()?.flags()].map(|flags| flags - EngineFlags::COMPRESSED);
        let files = [(full, flags[0]), (stripped, flags[1])];
        let everywhere = Everywhere { stack, files, expectations };
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
        let Everywhere { stack, files, expectations } = everywhere;
        let inputs = &expectations[0].inputs;
        let other = weights_of(&self.engines[1]);
        let versions = Versions::new(&self.engines[0], &other, None, device, inputs)?;
        let outputs = self.compared(device, expectations, &versions)?;
        let trial = Trial { stack: *stack, device, inputs, versions: &versions };
        let mut scenarios = Vec::new();
        let total = files.len() * Path::ALL.len() * SCENARIOS.len();
        for (file, flags) in files {
            for path in Path::ALL {
                for scenario in &SCENARIOS {
                    let begun = Instant::now();
                    let result = trial.hold(scenario, file, *flags, path);
                    scenarios.push(Held::new(scenario, *flags, path, result, begun.elapsed()));
                    if let Some(follow) = &self.follow {
                        follow(device, scenarios.len(), total);
                    }
                }
            }
        }
        let times = self.times(device, inputs, &versions)?;
        Ok(OnDevice {
            device: device.to_string(),
            outputs,
            scenarios,
            times,
            slowdowns: Vec::new(),
        })
    }

    /// The inputs of a set with what is expected of them, and the names of those that are made up.
    fn expect(&self, set: &InputSet) -> Result<(Expectation, Vec<String>), GateError> {
        let made = run_made(&self.references[0], &set.given, &set.recipe);
        let SeededRun { inputs, made, .. } = made.map_err(VerifyError::from)?;
        let mut expected = Vec::new();
        for (which, reference) in [Which::A, Which::B].into_iter().zip(&self.references) {
            let outputs = reference.run_with(&inputs, &seeded()).map_err(VerifyError::from)?;
            let against = "the unoptimised graph".to_owned();
            expected.push(Expected { which, against, outputs: flat(outputs) });
        }
        for which in [Which::A, Which::B] {
            let Some(oracle) = &self.oracle else { continue };
            if let Some(found) = oracle(which, &inputs).map_err(GateError::Oracle)? {
                let OracleOutputs { who, outputs } = found;
                expected.push(Expected { which, against: who, outputs });
            }
        }
        Ok((Expectation { name: set.name.clone(), inputs, expected }, made))
    }

    /// Every output of fresh builds held against what is expected. On the first inputs they were run already.
    fn compared(
        &self,
        device: &Device,
        expectations: &[Expectation],
        versions: &Versions,
    ) -> Result<Vec<Compared>, GateError> {
        let mut compared = Vec::new();
        for (i, Expectation { name, inputs, expected }) in expectations.iter().enumerate() {
            for (which, engine) in [Which::A, Which::B].into_iter().zip(&self.engines) {
                let found = match i {
                    0 => versions.outputs(which).map(|outputs| flat(outputs.clone())),
                    _ => Some(fresh(engine, device, inputs)?),
                };
                let found = found.unwrap_or_default();
                for Expected { against, outputs, .. } in
                    expected.iter().filter(|one| one.which == which)
                {
                    compared.extend(outputs.iter().map(|(output, expected)| {
                        let one = Compared::new(
                            which,
                            output,
                            found.get(output),
                            expected,
                            self.limits,
                            engine.flags(),
                        );
                        Compared { inputs: name.clone(), against: against.clone(), ..one }
                    }));
                }
            }
        }
        Ok(compared)
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

/// The outputs of a module that is loaded for this run.
fn fresh(
    engine: &Engine,
    device: &Device,
    inputs: &Values,
) -> Result<BTreeMap<String, Tensor>, VerifyError> {
    let module = LiveModule::load(engine.clone(), device)?;
    Ok(flat(module.run_with(inputs, &seeded())?))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// All weights that an engine holds.
fn weights_of(engine: &Engine) -> MapSource {
    let rows = engine.parts().weights.iter();
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}
