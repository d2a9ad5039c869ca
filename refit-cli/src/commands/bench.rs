//! `refit bench`: times loading, refitting and running an engine.

use super::{open_engine, open_on, open_weights, remark_fit, remark_on_cpu};
use crate::args::{Bench, Weights};
use crate::failure::Failure;
use crate::output::{give, say};
use engine_ops::cpu::TensorMeta;
use engine_runtime::{LiveModule, Module, Profile, RunOptions, State, StepTime, Values};
use engine_verify::inputs::run_seeded;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs before the timed ones.
const WARM_UP: u32 = 3;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    iterations: u32,
    median_ms: f64,
    min_ms: f64,
    load_ms: f64,
    /// Null if no weights were given.
    refit_ms: Option<f64>,
    /// Empty unless a profile was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Line>,
}

/// The time of one step, and what it is.
#[derive(Serialize)]
struct Line {
    mean_ms: f64,
    min_ms: f64,
    op: &'static str,
    /// Types of the operands and the first result.
    types: String,
    path: String,
}

/// Times of steps in the order in which they first ran.
#[derive(Default)]
struct Steps {
    at: HashMap<(&'static str, String, String), usize>,
    /// The sum of all times and the shortest one.
    times: Vec<(Duration, Duration)>,
}

impl Steps {
    fn add(&mut self, step: &StepTime<'_>) {
        let text = |meta: Option<&TensorMeta>| meta.map_or("–".to_owned(), TensorMeta::to_string);
        let inputs: Vec<_> = step.inputs().map(text).collect();
        let outputs: Vec<_> = step.outputs().map(text).collect();
        let types = format!("{} → {}", inputs.join(" "), outputs.join(" "));
        let next = self.times.len();
        let at = *self.at.entry((step.op, types, step.path.to_owned())).or_insert(next);
        if at == next {
            self.times.push((Duration::ZERO, Duration::MAX));
        }
        let (sum, least) = &mut self.times[at];
        *sum += step.time;
        *least = (*least).min(step.time);
    }

    /// The times of so many runs, in order.
    fn lines(&self, runs: u32) -> Vec<Line> {
        let mut lines: Vec<_> = self.at.iter().collect();
        lines.sort_by_key(|(_, at)| **at);
        let line = |((op, types, path), at): (&(&'static str, String, String), &usize)| Line {
            mean_ms: self.times[*at].0.as_secs_f64() * 1e3 / f64::from(runs),
            min_ms: self.times[*at].1.as_secs_f64() * 1e3,
            op,
            types: types.clone(),
            path: path.clone(),
        };
        lines.into_iter().map(line).collect()
    }
}

pub fn run(args: Bench) -> Result<(), Failure> {
    let device = open_on(&args.device)?;
    let begun = Instant::now();
    let module = LiveModule::load(open_engine(&args.file)?, &device)?;
    let load_ms = milliseconds(begun);
    let Weights { sources, changes } = &args.weights;
    let refit_ms = match open_weights(sources, changes, &|| Ok(module.engine()))? {
        Some(source) => {
            let begun = Instant::now();
            let refitted = module.refit(&*source, changes.policy())?;
            let ms = milliseconds(begun);
            remark_fit(&refitted.fit);
            Some(ms)
        }
        None => None,
    };
    if let State::NeedsWeights(_) = module.state() {
        module.run(&Default::default())?;
    }
    let inputs = run_seeded(&module, &Values::new(), 1)?.inputs;
    for _ in 0..WARM_UP {
        module.run_with(&inputs, &RunOptions::default())?;
    }
    let steps = Arc::new(Mutex::new(Steps::default()));
    let profile = args.profile.then(|| {
        let steps = steps.clone();
        Profile::new(move |step| steps.lock().unwrap_or_else(PoisonError::into_inner).add(step))
    });
    let options = RunOptions { profile, ..RunOptions::default() };
    let mut times = Vec::new();
    for _ in 0..args.iterations {
        let begun = Instant::now();
        module.run_with(&inputs, &options)?;
        times.push(milliseconds(begun));
    }
    times.sort_by(f64::total_cmp);
    let report = Report {
        device: device.to_string(),
        iterations: args.iterations,
        median_ms: times[times.len() / 2],
        min_ms: times[0],
        load_ms,
        refit_ms,
        steps: steps.lock().unwrap_or_else(PoisonError::into_inner).lines(args.iterations),
    };
    remark_on_cpu(&module);
    give(&report, None, || print(&report, &inputs))
}

fn print(report: &Report, inputs: &Values) {
    for (name, value) in inputs {
        say!("input {name}: seeded random {value}");
    }
    say!("device  {}", report.device);
    say!(
        "run     median {:.3} ms, min {:.3} ms, {} runs",
        report.median_ms,
        report.min_ms,
        report.iterations
    );
    say!("load    {:.3} ms", report.load_ms);
    if let Some(refit_ms) = report.refit_ms {
        say!("refit   {refit_ms:.3} ms");
    }
    for Line { mean_ms, min_ms, op, types, path } in &report.steps {
        say!("step    mean {mean_ms:>8.3} ms, min {min_ms:>8.3} ms  {op:<16} {types}  {path}");
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
