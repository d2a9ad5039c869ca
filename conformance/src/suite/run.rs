//! Runs cases, many at a time, each on every runtime.

use super::case::Case;
use super::failure::{Failure, Stage, at};
use super::promises;
use super::value::{self, Run};
use crate::parallel;
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, FitPolicy, MapSource, SerializeFlags};
use engine_onnx::{AttrValue, Graph, Model};
use engine_ops::compare;
use engine_runtime::Placement;
use engine_runtime::{Device, LiveModule, Module, PackedModule, RunOptions, Value, Values};
use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::mem::{Discriminant, discriminant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What runs the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// A live module on the CPU.
    CpuLive,
    /// A packed module on the CPU, made from a stripped file and filled.
    CpuPacked,
    /// A live module on the CPU of the graph as it was imported, without passes.
    CpuPlain,
    /// A live module on a GPU; nodes without a GPU kernel run on the CPU.
    Gpu,
    /// The case with inputs made weights, held on the CPU to every promise of refit.
    Promises,
}

impl Runtime {
    /// Every runtime.
    pub const ALL: [Self; 5] =
        [Self::CpuLive, Self::CpuPacked, Self::CpuPlain, Self::Gpu, Self::Promises];

    /// The name in expectations and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CpuLive => "cpu-live",
            Self::CpuPacked => "cpu-packed",
            Self::CpuPlain => "cpu-plain",
            Self::Gpu => "gpu",
            Self::Promises => "promises",
        }
    }
}

/// How cases are run.
#[derive(Debug)]
pub struct Options {
    /// The GPU, if there is one.
    pub gpu: Option<Device>,
    /// Longest time of a case on one runtime.
    pub limit: Duration,
    /// Cases at a time.
    pub threads: usize,
}

impl Options {
    /// The runtimes that there are.
    pub fn runtimes(&self) -> Vec<Runtime> {
        let there = |runtime: &Runtime| *runtime != Runtime::Gpu || self.gpu.is_some();
        Runtime::ALL.into_iter().filter(there).collect()
    }
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// [`Case::path`].
    pub case: String,
    /// Types of the model's nodes, those of nested graphs too.
    pub operators: BTreeSet<String>,
    /// One result for each runtime.
    pub results: Vec<Ran>,
    /// Nodes that kernels ran on the GPU.
    pub on_gpu: usize,
    /// Operators that ran on the CPU although the runtime was a GPU, with the reason.
    pub fallbacks: BTreeSet<(&'static str, String)>,
    /// Weights that were replaced to hold the case to the promises of refit.
    pub replaced: usize,
    /// Time over all runtimes, reading and building included.
    pub time: Duration,
}

/// A case on one runtime.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The runtime.
    pub runtime: Runtime,
    /// What came of it.
    pub result: Result<(), Failure>,
    /// How long it took to load and run.
    pub time: Duration,
}

/// Where the nodes of a case ran that passed on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Kernels ran all of its nodes but views and shape arithmetic, and there was at least one to run.
    Whole,
    /// The host ran at least one of its nodes.
    Part,
    /// There was nothing for kernels to do: only views, shape arithmetic and nodes that depend on no input.
    Nothing,
}

impl Outcome {
    /// Whether the case passed on `runtime`.
    pub fn passed(&self, runtime: Runtime) -> bool {
        self.on(runtime).is_some_and(|ran| ran.result.is_ok())
    }

    /// What came of it on `runtime`, if that was there.
    pub fn on(&self, runtime: Runtime) -> Option<&Ran> {
        self.results.iter().find(|ran| ran.runtime == runtime)
    }

    /// Where its nodes ran, if it passed on the GPU.
    pub fn share(&self) -> Option<Share> {
        let share = match (self.fallbacks.is_empty(), self.on_gpu) {
            (false, _) => Share::Part,
            (true, 0) => Share::Nothing,
            (true, _) => Share::Whole,
        };
        self.passed(Runtime::Gpu).then_some(share)
    }
}

/// Runs `cases`; outcomes are in the order of cases. A panic is a failure of its case; a case that takes longer than the limit
/// is one too, and is left to itself.
pub fn run(cases: &[Case], options: &Options) -> Vec<Outcome> {
    let hook = std::panic::take_hook();
    // The payload becomes the case's failure; printed in between it would only confuse.
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes = parallel::map_on(options.threads, cases, |case| run_case(case, options));
    std::panic::set_hook(hook);
    outcomes
}

/// What the thread of a case reports.
enum Report {
    Operators(BTreeSet<String>),
    Placement(Vec<Placement>),
    Replaced(usize),
    Ran(Ran),
}

fn run_case(case: &Case, options: &Options) -> Outcome {
    let start = Instant::now();
    let runtimes = options.runtimes();
    let (sender, receiver) = channel();
    let (owned, gpu, wanted) = (case.clone(), options.gpu.clone(), runtimes.clone());
    let name = case.path();
    // Deep graphs and kernels' small buffers on the stack fit the usual size of a main thread.
    let spawned = thread::Builder::new()
        .name(name.clone())
        .stack_size(8 << 20)
        .spawn(move || guarded(&owned, gpu.as_ref(), &wanted, &sender));
    let mut operators = BTreeSet::new();
    let mut results = Vec::new();
    let mut fallbacks = BTreeSet::new();
    let (mut on_gpu, mut replaced) = (0, 0);
    let mut missing = match spawned {
        Ok(_) => Failure::new(Stage::Panic, "the case's thread ended without a result"),
        Err(error) => Failure::new(Stage::Panic, format!("starting a thread: {error}")),
    };
    while results.len() < runtimes.len() {
        match receiver.recv_timeout(options.limit) {
            Ok(Report::Operators(found)) => operators = found,
            Ok(Report::Placement(placement)) => {
                on_gpu += placement.iter().filter(|line| line.obstacle.is_none()).count();
                let fallen = |p: Placement| Some((p.op, p.obstacle?.to_string()));
                fallbacks.extend(placement.into_iter().filter_map(fallen));
            }
            Ok(Report::Replaced(weights)) => replaced = weights,
            Ok(Report::Ran(ran)) => results.push(ran),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = options.limit.as_secs_f32();
                missing = Failure::new(Stage::Time, format!("no result within {seconds} s"));
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for runtime in runtimes.into_iter().skip(results.len()) {
        results.push(Ran { runtime, result: Err(missing.clone()), time: Duration::ZERO });
    }
    let time = start.elapsed();
    Outcome { case: name, operators, results, on_gpu, fallbacks, replaced, time }
}

/// Runs a case on every runtime. Nobody may be listening any more.
fn guarded(case: &Case, gpu: Option<&Device>, runtimes: &[Runtime], sender: &Sender<Report>) {
    let made = caught(|| make(case, sender));
    for &runtime in runtimes {
        let start = Instant::now();
        let result = match &made {
            Ok(made) => caught(|| {
                let report = one(case, made, runtime, gpu)?;
                let _ = sender.send(report);
                Ok(())
            }),
            Err(failure) => Err(failure.clone()),
        };
        let _ = sender.send(Report::Ran(Ran { runtime, result, time: start.elapsed() }));
    }
}

/// Runs a case on one runtime and gives what there is to say of it.
fn one(
    case: &Case,
    made: &Made,
    runtime: Runtime,
    gpu: Option<&Device>,
) -> Result<Report, Failure> {
    if runtime == Runtime::Promises {
        return promises::hold(case).map(Report::Replaced);
    }
    let module = load(made, runtime, gpu)?;
    made.sets.iter().try_for_each(|set| check(case, &*module, set))?;
    Ok(Report::Placement(module.placement()))
}

fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(Failure::new(Stage::Panic, text(&*payload))))
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

/// What is the same on every runtime: the model, its engine, and the data.
struct Made {
    model: Model,
    engine: Engine,
    sets: Vec<Run>,
}

fn make(case: &Case, sender: &Sender<Report>) -> Result<Made, Failure> {
    let model = Model::open(&case.model).map_err(at(Stage::Read))?;
    let mut operators = BTreeSet::new();
    collect(&model.graph, &mut operators);
    let _ = sender.send(Report::Operators(operators));
    let sets = case.sets.iter().map(|set| value::read(&model, set)).collect::<Result<_, _>>();
    let engine = build(&model, &BuildOptions::default()).map_err(at(Stage::Build))?;
    Ok(Made { model, engine, sets: sets? })
}

fn collect(graph: &Graph, out: &mut BTreeSet<String>) {
    for node in &graph.nodes {
        let domain =
            if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
        out.insert(format!("{domain}{}", node.op_type));
        node.attrs.values().flat_map(AttrValue::graphs).for_each(|inner| collect(inner, out));
    }
}

/// The engine on a runtime.
fn load(made: &Made, runtime: Runtime, gpu: Option<&Device>) -> Result<Box<dyn Module>, Failure> {
    let Made { model, engine, .. } = made;
    Ok(match runtime {
        Runtime::CpuLive => live(engine, &Device::cpu())?,
        Runtime::CpuPacked => Box::new(packed(engine)?),
        Runtime::CpuPlain => {
            let options = BuildOptions { optimise: false, ..BuildOptions::default() };
            live(&build(model, &options).map_err(at(Stage::Build))?, &Device::cpu())?
        }
        Runtime::Gpu => live(engine, gpu.expect("asked for only if there is one"))?,
        Runtime::Promises => unreachable!("promises are held on modules of their own"),
    })
}

fn live(engine: &Engine, device: &Device) -> Result<Box<dyn Module>, Failure> {
    Ok(Box::new(LiveModule::load(engine.clone(), device).map_err(at(Stage::Load))?))
}

/// A module of a stripped file, filled with the weights that were left out.
fn packed(engine: &Engine) -> Result<PackedModule, Failure> {
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).map_err(at(Stage::Load))?;
    let module = PackedModule::load(stripped.into(), &Device::cpu()).map_err(at(Stage::Load))?;
    let left_out = module.engine().missing();
    let weight = |name: String| {
        let tensor = engine.weight(&name).and_then(|weight| weight.tensor());
        Some((name, tensor?))
    };
    let weights: MapSource = left_out.into_iter().filter_map(weight).collect();
    module
        .refit(&weights, FitPolicy { partial: true, ..FitPolicy::default() })
        .map_err(at(Stage::Load))?;
    Ok(module)
}

fn check(case: &Case, module: &dyn Module, run: &Run) -> Result<(), Failure> {
    let inputs: Values = run.inputs.iter().cloned().collect();
    let outputs = module.run_with(&inputs, &RunOptions::default()).map_err(at(Stage::Run))?;
    for (name, expected) in &run.expected {
        let wrong =
            |why: &dyn Display| Failure::new(Stage::Compare, format!("output {name:?}: {why}"));
        let tensor = outputs.tensors.get(name).cloned().map(Value::Tensor);
        let found = tensor.as_ref().or_else(|| outputs.structures.get(name));
        let found = found.ok_or_else(|| wrong(&"not there"))?;
        if layout(found) != layout(expected) {
            return Err(wrong(&format!("found {found}, expected {expected}")));
        }
        for (i, (found, expected)) in found.tensors().iter().zip(expected.tensors()).enumerate() {
            compare(found, expected, case.tolerance)
                .map_err(|why| wrong(&format!("tensor {i}: {why}")))?;
        }
    }
    Ok(())
}

/// The kind of a value and the number of its tensors.
fn layout(value: &Value) -> (Discriminant<Value>, usize) {
    (discriminant(value), value.tensors().len())
}
