//! `refit bench --decode`: steps of a decoder, of which each takes what the one before left on the device.

use super::{Measured, Steps, Times, locked};
use crate::args::Bench;
use crate::failure::{Class, Failure};
use crate::inputs::Prepared;
use engine_runtime::{
    Decoder, LiveModule, Module, Profile, Recurrence, RunError, RunOptions, Values,
};
use engine_verify::Recipe;
use engine_verify::inputs::{Freedom, made};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Caches that nothing decides have so many positions at first.
const CACHE: Freedom = Freedom { size: 8, integers: 10 };

/// What a step reads beside its caches is of one position.
const STEP: Freedom = Freedom { size: 1, integers: 10 };

/// Times `count` steps after those that warm up.
pub fn measure(
    module: &LiveModule,
    prepared: &Prepared,
    args: &Bench,
    count: u32,
    steps: &Arc<Mutex<Steps>>,
) -> Result<Measured, Failure> {
    let ports = module.inputs();
    let recurrences = recurrences(module, args)?;
    let carried: Vec<String> = recurrences.iter().map(|r| r.input.clone()).collect();
    let caches = made(ports, &prepared.given, &prepared.recipe, CACHE)?;
    let caches = caches.into_iter().filter(|(name, _)| carried.contains(name));
    let mut state = prepared.given.clone();
    state.extend(caches);
    let given: Vec<String> = state.keys().cloned().collect();
    let recipe = without(&prepared.recipe, &given);
    let follow = || {
        let steps = steps.clone();
        Profile::new(move |step| locked(&steps).add(0, step))
    };
    let mut decoder = Decoder::new(module, recurrences.clone(), state, RunOptions::default())?;
    let mut inputs = Values::new();
    let mut step = |decoder: &mut Decoder<'_>| -> Result<(Instant, Duration), RunError> {
        inputs = made(ports, decoder.state(), &recipe, STEP)?;
        let start = Instant::now();
        decoder.step(inputs.clone())?;
        Ok((start, start.elapsed()))
    };
    let (_, first) = step(&mut decoder)?;
    for _ in 1..args.warmup.max(1) {
        step(&mut decoder)?;
    }
    let watched = args.profile || args.trace.is_some();
    if watched {
        decoder.options().profile = Some(follow());
    }
    let begun = Instant::now();
    let mut runs = Vec::new();
    let mut wall = Duration::ZERO;
    for _ in 0..count {
        let (start, time) = step(&mut decoder)?;
        if watched {
            locked(steps).add_run(0, start + time, time);
        }
        wall += time;
        runs.push((start - begun, time));
    }
    let made = inputs.keys().cloned().collect();
    inputs.extend(decoder.state().clone());
    Ok(Measured { first, times: Times::new(runs, wall), inputs, made, recurrences })
}

/// What is carried, as the command line says or as names tell.
fn recurrences(module: &LiveModule, args: &Bench) -> Result<Vec<Recurrence>, Failure> {
    if !args.carry.is_empty() {
        return Ok(args.carry.clone());
    }
    let found = Recurrence::by_names(module.inputs(), module.outputs());
    if found.is_empty() {
        let names = |ports: &[engine_format::Port]| -> String {
            ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (inputs, outputs) = (names(module.inputs()), names(module.outputs()));
        let what = format!(
            "no output is called as one that is the input of the next step: outputs {outputs}; inputs {inputs}"
        );
        let help = "--carry OUTPUT=INPUT names one".to_owned();
        return Err(Failure::with_help(Class::Usage, what, help));
    }
    Ok(found)
}

/// The recipe of the inputs that are not among `given`.
fn without(recipe: &Recipe, given: &[String]) -> Recipe {
    let mut recipe = recipe.clone();
    recipe.shapes.retain(|name, _| !given.contains(name));
    recipe.fills.retain(|name, _| !given.contains(name));
    recipe
}
