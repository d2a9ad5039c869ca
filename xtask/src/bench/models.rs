//! `cargo xtask bench models`: how fast models run, beside what users would otherwise take, in one run on one machine.

use super::PAUSE;
use super::ratios::Ratios;
use ::conformance::models::MODELS;
use ::conformance::oracle::{Peer, Tensors};
use engine_builder::{BuildOptions, build};
use engine_onnx::Model;
use engine_runtime::{CpuOptions, Device, LiveModule, Module, Values};
use engine_verify::inputs::{Sizes, all_tensors, run_seeded_at};
use miette::{IntoDiagnostic, Result, WrapErr, ensure, miette};
use std::cmp::Ordering;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs before anything counts.
const WARM_UP: usize = 3;
/// How long a runtime has the machine before the other has it.
const TURN: Duration = Duration::from_millis(300);
/// Most runs of one turn.
const RUNS: usize = 200;
/// How often a model that seems slower than it was is measured altogether, and how often one whose ratio is kept: the rest of a machine slows
/// one of two sides down at times, but not each time.
const TRIES: usize = 3;
/// Seed of inputs of models that are given by a path.
const SEED: u64 = 1;

/// Which models, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Only models whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// An ONNX file to time as well, on inputs made up from its shapes.
    #[arg(long, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// The size of a symbol in the shapes of these inputs, such as sequence=128.
    #[arg(long, value_name = "SYMBOL=N", value_parser = size)]
    size: Vec<(String, usize)>,
    /// Threads of either runtime.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Turns of each runtime.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Fails if a model takes longer beside ONNX Runtime than it did by this file.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How many times the ratio of before is allowed.
    #[arg(long, value_name = "X", default_value_t = 1.3, requires = "baseline")]
    max_slowdown: f64,
    /// Keeps the ratios in this file, in place of those that it has; the machine has to be quiet.
    #[arg(long, value_name = "FILE", conflicts_with = "baseline")]
    save: Option<PathBuf>,
}

fn size(text: &str) -> Result<(String, usize), String> {
    let parsed =
        text.split_once('=').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
    parsed.ok_or_else(|| format!("{text:?}, expected SYMBOL=N"))
}

/// A model with the input that it is timed on.
struct Timed {
    name: String,
    path: PathBuf,
    /// `None` if it is to be made up.
    inputs: Option<Tensors>,
}

/// Times runs of real models, in turns with ONNX Runtime.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut timed = Vec::new();
    for case in MODELS.iter().filter(|case| case.name.contains(&arguments.only)) {
        let size = |run: &Tensors| run.values().map(|t| t.bytes().len()).sum::<usize>();
        let inputs = (case.runs)().into_diagnostic()?.into_iter().max_by_key(size);
        let path = case.asset.path().into_diagnostic()?;
        timed.push(Timed { name: case.name.to_owned(), path, inputs });
    }
    for path in &arguments.model {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        timed.push(Timed { name, path: path.clone(), inputs: None });
    }
    ensure!(!timed.is_empty(), "no model has {:?} in its name", arguments.only);
    let device = Device::cpu_with(CpuOptions::with_threads(arguments.threads));
    let kernels = engine_ops::kernels::instruction_set();
    let machine = format!("{kernels}, {} threads", arguments.threads);
    let baseline = arguments.baseline.as_deref().map(Ratios::read).transpose()?;
    if let Some(why) = super::quiet::busy() {
        ensure!(
            arguments.save.is_none(),
            "{why}: ratios that are kept are those of a quiet machine"
        );
        println!("{why}: these ratios are not those of a quiet machine\n");
    }
    println!(
        "one run in ms, median of {} turns, and the median of their ratios; {} threads; {kernels} kernels; {} build\n",
        arguments.rounds,
        arguments.threads,
        super::PROFILE
    );
    println!("{:<18} {:>9} {:>13} {:>6}  input", "model", "refit", "ONNX Runtime", "ratio");
    let sizes: Sizes = arguments.size.iter().cloned().collect();
    let (mut found, mut slower) = (Vec::new(), Vec::new());
    for timed in &timed {
        let limit = match &baseline {
            Some(baseline) => baseline.of(&machine, &timed.name)? * arguments.max_slowdown,
            None => f64::INFINITY,
        };
        let mut ratios = Vec::new();
        for _ in 0..TRIES {
            let Turns { ours, theirs, ratio, input } = in_turns(timed, &sizes, &device, arguments)
                .wrap_err_with(|| format!("timing {}", timed.name))?;
            let (ours, theirs) = (super::milliseconds(ours), super::milliseconds(theirs));
            println!("{:<18} {ours:>9.3} {theirs:>13.3} {ratio:>6.2}  {input}", timed.name);
            ratios.push(ratio);
            if ratio <= limit && arguments.save.is_none() {
                break;
            }
        }
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        if least > limit {
            slower.push(format!("{} ({least:.2}, expected at most {limit:.2})", timed.name));
        }
        found.push((&timed.name, median(ratios, f64::total_cmp)));
    }
    if let Some(path) = &arguments.save {
        let mut kept = if path.exists() { Ratios::read(path)? } else { Ratios::default() };
        found.iter().for_each(|(model, ratio)| kept.insert(&machine, model, *ratio));
        kept.write(path)?;
    }
    ensure!(slower.is_empty(), "slower beside ONNX Runtime than they were: {}", slower.join(", "));
    Ok(())
}

/// What came of the turns of both.
struct Turns {
    /// The medians of refit and of ONNX Runtime.
    ours: Duration,
    theirs: Duration,
    /// The median of the ratios of each of our turns to the one of theirs that follows: most of what slows a machine lasts for both.
    ratio: f64,
    input: String,
}

fn in_turns(timed: &Timed, sizes: &Sizes, device: &Device, arguments: &Arguments) -> Result<Turns> {
    let model = Model::open(&timed.path).into_diagnostic()?;
    let engine = build(&model, &BuildOptions::default()).into_diagnostic()?;
    let module = LiveModule::load(engine, device).into_diagnostic()?;
    let inputs = match &timed.inputs {
        Some(inputs) => inputs.clone(),
        None => {
            let run = run_seeded_at(&module, &Values::new(), sizes, SEED);
            let made = run.into_diagnostic()?.inputs;
            all_tensors(made).ok_or_else(|| miette!("only models over tensors are timed"))?
        }
    };
    let largest = inputs.values().max_by_key(|tensor| tensor.bytes().len());
    let largest = largest.ok_or_else(|| miette!("the model has no input"))?;
    let mut peer = Peer::start(&timed.path, &inputs, arguments.threads).into_diagnostic()?;
    let ours = |runs: usize| -> Result<Vec<Duration>> {
        let time = |_| {
            let begun = Instant::now();
            module.run(&inputs).into_diagnostic()?;
            Ok(begun.elapsed())
        };
        (0..runs).map(time).collect()
    };
    let mut theirs = |runs: usize| peer.time(runs).into_diagnostic();
    let (our_runs, their_runs) = (runs(ours(WARM_UP)?), runs(theirs(WARM_UP)?));
    let (mut our_turns, mut their_turns) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds.max(1) {
        sleep(PAUSE);
        our_turns.push(median(ours(our_runs)?, Ord::cmp));
        sleep(PAUSE);
        their_turns.push(median(theirs(their_runs)?, Ord::cmp));
    }
    let turns = our_turns.iter().zip(&their_turns);
    let ratios = turns.map(|(ours, theirs)| super::ratio(*ours, *theirs)).collect();
    Ok(Turns {
        ratio: median(ratios, f64::total_cmp),
        ours: median(our_turns, Ord::cmp),
        theirs: median(their_turns, Ord::cmp),
        input: format!("{largest:?}"),
    })
}

/// Runs that fill a turn.
fn runs(warm_up: Vec<Duration>) -> usize {
    let one = median(warm_up, Ord::cmp).max(Duration::from_micros(1));
    (TURN.as_nanos() / one.as_nanos()).clamp(1, RUNS as u128) as usize
}

fn median<T: Copy>(mut all: Vec<T>, order: fn(&T, &T) -> Ordering) -> T {
    all.sort_by(order);
    all[all.len() / 2]
}
