//! `refit bench`: times loading, refitting and running an engine.

use super::{open_device, open_engine, open_weights, print_json, remark_fit};
use crate::args::{Bench, Weights};
use crate::failure::Failure;
use crate::output::say;
use conformance::inputs::run_seeded;
use engine_runtime::{LiveModule, Module, RunOptions, State, Values};
use serde::Serialize;
use std::time::Instant;

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
}

pub fn run(args: Bench) -> Result<(), Failure> {
    let device = open_device(&args.device.device)?;
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
    let mut times = Vec::new();
    for _ in 0..args.iterations {
        let begun = Instant::now();
        module.run_with(&inputs, &RunOptions::default())?;
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
    };
    if args.json {
        return print_json(&report);
    }
    for (name, value) in &inputs {
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
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
