//! `refit bench`: times loading, refitting and running an engine.

mod decode;
mod steps;
mod times;

use super::{open_engine, open_on, open_weights, remark_fit, remark_on_cpu};
use crate::args::{Bench, Weights};
use crate::failure::Failure;
use crate::inputs::{Prepared, prepare};
use crate::output::{give, remark, say};
use engine_runtime::{
    LiveModule, Module, Profile, Recurrence, RunError, RunOptions, State, Values,
};
use engine_verify::inputs::{SeededRun, run_made};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use steps::{Line, Steps};
use times::{Times, milliseconds};

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    /// Threads that run the module at once.
    parallel: u16,
    /// Timed runs.
    iterations: usize,
    /// The time of a run that half of the runs do not exceed, and so on.
    median_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    min_ms: f64,
    mean_ms: f64,
    max_ms: f64,
    /// Runs in a second, of all threads together.
    throughput: f64,
    load_ms: f64,
    /// The first run, which plans for the shapes.
    first_ms: f64,
    /// Null if no weights were given.
    refit_ms: Option<f64>,
    /// Output and input of what each run took of the one before; empty without `--decode`.
    carried: Vec<[String; 2]>,
    /// Empty unless a profile was asked for.
    steps: Vec<Line>,
}

pub fn run(args: Bench) -> Result<(), Failure> {
    let device = open_on(&args.device)?;
    let begun = Instant::now();
    let module = LiveModule::load(open_engine(&args.file)?, &device)?;
    let load_ms = milliseconds(begun.elapsed());
    let Weights { sources, changes } = &args.weights;
    let refit_ms = match open_weights(sources, changes, &|| Ok(module.engine()))? {
        Some(source) => {
            let begun = Instant::now();
            let refitted = module.refit(&*source, changes.policy())?;
            let ms = milliseconds(begun.elapsed());
            remark_fit(&refitted.fit);
            Some(ms)
        }
        None => None,
    };
    if let State::NeedsWeights(_) = module.state() {
        module.run(&Default::default())?;
    }
    let prepared = prepare(module.inputs(), &args.inputs)?;
    let steps = Arc::new(Mutex::new(Steps::new(args.trace.is_some(), args.decode.is_some())));
    let measured = match args.decode {
        Some(count) => decode::measure(&module, &prepared, &args, count, &steps)?,
        None => measure(&module, &prepared, &args, &steps)?,
    };
    let times = &measured.times;
    let steps = locked(&steps);
    let lines = if args.profile { steps.lines() } else { Vec::new() };
    if (args.profile || args.trace.is_some()) && module.device().is_gpu() {
        match module.device().has_clock() {
            true => remark!(
                "a run on a GPU takes longer while its steps are timed: each kernel is a pass of its own"
            ),
            false => remark!("this GPU has no timestamps: only steps on the CPU are timed"),
        }
    }
    if let Some(path) = &args.trace {
        write(path, &steps.trace(&device.to_string()))?;
    }
    if let Some(path) = &args.save_times {
        write(path, &times.object(&device.to_string()))?;
    }
    let report = Report {
        device: device.to_string(),
        parallel: args.parallel,
        iterations: times.count(),
        median_ms: times.percentile(50),
        p90_ms: times.percentile(90),
        p99_ms: times.percentile(99),
        min_ms: times.percentile(0),
        mean_ms: times.mean(),
        max_ms: times.percentile(100),
        throughput: times.throughput(),
        load_ms,
        first_ms: milliseconds(measured.first),
        refit_ms,
        carried: measured.recurrences.iter().map(|r| [r.output.clone(), r.input.clone()]).collect(),
        steps: lines,
    };
    remark_on_cpu(&module);
    give(&report, None, || print(&report, &measured))
}

/// What came of the runs.
struct Measured {
    /// Of the first run, which plans.
    first: Duration,
    times: Times,
    /// Of the last run, and which of them were made up.
    inputs: Values,
    made: Vec<String>,
    /// What each run took of the one before.
    recurrences: Vec<Recurrence>,
}

/// Runs over the same inputs.
fn measure(
    module: &LiveModule,
    prepared: &Prepared,
    args: &Bench,
    steps: &Arc<Mutex<Steps>>,
) -> Result<Measured, Failure> {
    let SeededRun { inputs, made, time: first, .. } =
        run_made(module, &prepared.given, &prepared.recipe)?;
    for _ in 1..args.warmup.max(1) {
        module.run_with(&inputs, &RunOptions::default())?;
    }
    let times = timed(module, &inputs, args, steps)?;
    Ok(Measured { first, times, inputs, made, recurrences: Vec::new() })
}

/// Runs the module in as many threads as were asked for, until there were enough runs and enough time has passed.
fn timed(
    module: &LiveModule,
    inputs: &Values,
    args: &Bench,
    steps: &Arc<Mutex<Steps>>,
) -> Result<Times, Failure> {
    let least = args.iterations.unwrap_or(if args.duration.is_some() { 1 } else { 20 });
    let lasts = args.duration.unwrap_or_default();
    let begun = Instant::now();
    let follow = |thread: usize| {
        let steps = steps.clone();
        Profile::new(move |step| locked(&steps).add(thread, step))
    };
    let watched = args.profile || args.trace.is_some();
    let done = AtomicU32::new(0);
    let worker = |thread: usize| -> Result<Vec<(Duration, Duration)>, RunError> {
        let profile = watched.then(|| follow(thread));
        let options = RunOptions { profile, ..RunOptions::default() };
        let mut times = Vec::new();
        // Each run is claimed before it begins, so that threads together make no more than were asked for.
        while done.fetch_add(1, Ordering::Relaxed) < least || begun.elapsed() < lasts {
            let start = Instant::now();
            module.run_with(inputs, &options)?;
            let end = Instant::now();
            let time = end - start;
            if watched {
                locked(steps).add_run(thread, end, time);
            }
            times.push((start - begun, time));
        }
        Ok(times)
    };
    let threads = usize::from(args.parallel);
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|n| {
                scope.spawn({
                    let worker = &worker;
                    move || worker(n)
                })
            })
            .collect();
        let mut results = vec![worker(0)];
        results.extend(others.into_iter().map(|thread| match thread.join() {
            Ok(times) => times,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        results
    });
    let wall = begun.elapsed();
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    Ok(Times::new(times, wall))
}

fn locked(steps: &Mutex<Steps>) -> MutexGuard<'_, Steps> {
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(path: &Path, object: &serde_json::Value) -> Result<(), Failure> {
    Ok(refit::write_file(path, object.to_string().as_bytes())?)
}

fn print(report: &Report, measured: &Measured) {
    for (name, value) in &measured.inputs {
        let is_carried = measured.recurrences.iter().any(|pair| pair.input == *name);
        let from = match (is_carried, measured.made.contains(name)) {
            (true, _) => "left by the step before",
            (false, true) => "made up",
            (false, false) => "given",
        };
        say!("input   {name} {value}, {from}");
    }
    let Report { median_ms, p90_ms, p99_ms, min_ms, mean_ms, max_ms, .. } = report;
    say!("device  {}", report.device);
    let threads = match report.parallel {
        1 if !report.carried.is_empty() => " in a row".to_owned(),
        1 => String::new(),
        n => format!(" in {n} threads at once"),
    };
    say!("runs    {}{threads}, {:.1} in a second", report.iterations, report.throughput);
    say!("time    median {median_ms:.3} ms, p90 {p90_ms:.3} ms, p99 {p99_ms:.3} ms");
    say!("        min {min_ms:.3} ms, mean {mean_ms:.3} ms, max {max_ms:.3} ms");
    say!("first   {:.3} ms", report.first_ms);
    say!("load    {:.3} ms", report.load_ms);
    if let Some(refit_ms) = report.refit_ms {
        say!("refit   {refit_ms:.3} ms");
    }
    if report.steps.is_empty() {
        return;
    }
    let total: f64 = report.steps.iter().map(|step| step.mean_ms).sum();
    say!("steps     mean ms    min ms   share  GFLOP/s    GB/s  operator");
    for Line { mean_ms, min_ms, gflops, gbytes, op, types, path } in &report.steps {
        let share = 100.0 * mean_ms / total;
        let gflops = gflops.map_or("–".to_owned(), |gflops| format!("{gflops:.0}"));
        say!(
            "        {mean_ms:>9.3} {min_ms:>9.3} {share:>6.1}% {gflops:>8} {gbytes:>7.0}  {op:<16} {types}  {path}"
        );
    }
}
