//! What passes and refits must keep, for one model: the proof that fusion is safe.

use crate::graphs::with_other_weights;
use crate::oracle::Tensors;
use engine_builder::{BuildOptions, Precision, build};
use engine_format::{Engine, FitPolicy, MapSource, SerializeFlags, Tensor, Weight, WeightClass};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{CpuOptions, Device, LiveModule, Module};

/// A promise that was not kept, or a step on the way that failed.
#[derive(Debug, thiserror::Error)]
#[error("{promise}: {what}")]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What was found.
    pub what: String,
}

/// A failure of one step of a proof.
trait Doing<T> {
    fn doing(self, promise: &'static str) -> Result<T, Broken>;
}

impl<T, E: std::fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, promise: &'static str) -> Result<T, Broken> {
        self.map_err(|error| Broken { promise, what: error.to_string() })
    }
}

fn hold(holds: bool, promise: &'static str, what: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { promise, what: what.to_owned() }) }
}

/// Threads with which the CPU must give the same bits.
const THREADS: [usize; 3] = [1, 2, 5];

/// A model with three sets of weights, built.
struct Sets {
    /// The model's own, all changed, every other one changed.
    own: Engine,
    all: Engine,
    some: Engine,
    /// The same without passes.
    plain_own: Engine,
    plain_all: Engine,
    /// Weights of `all`, as a source.
    source: MapSource,
    back: MapSource,
    /// Those weights of `some` that differ.
    part: MapSource,
    /// How many differ between `own` and `all`.
    replaced: usize,
}

impl Sets {
    fn new(onnx: &[u8], precision: Precision) -> Result<Self, Broken> {
        let made = |onnx: &[u8], optimise| -> Result<Engine, Broken> {
            let model = Model::parse(onnx.to_vec().into(), None).doing("the model reads")?;
            let options = BuildOptions { optimise, precision, ..BuildOptions::default() };
            build(&model, &options).doing("the model builds")
        };
        let (own, plain_own) = (made(onnx, true)?, made(onnx, false)?);
        // What also decides shapes or control is no weight to replace, and parameters stay in stripped files.
        let takes_any = |name: &str| match plain_own.weight(name) {
            Some(weight) => weight.pinned.is_none() && weight.class == WeightClass::Weight,
            None => plain_own.parts().source_literals.iter().all(|literal| literal.name != name),
        };
        let every_other = |name: &str| name.bytes().map(u32::from).sum::<u32>() % 2 == 0;
        let all = with_other_weights(onnx, &takes_any);
        let some = with_other_weights(onnx, &|name| takes_any(name) && every_other(name));
        let (all, plain_all) = (made(&all, true)?, made(&all, false)?);
        let some = made(&some, true)?;
        let differs = |weight: &Weight| {
            own.weight(&weight.name).is_none_or(|other| other.digest != weight.digest)
        };
        let replaced = all.parts().weights.iter().filter(|weight| differs(weight)).count();
        // Sources hold what the unoptimised engines hold, so that they do not depend on the passes.
        let source = weights(&plain_all, |_| true);
        let back = weights(&plain_own, |_| true);
        let part = weights(&some, differs);
        Ok(Self { own, all, some, plain_own, plain_all, source, back, part, replaced })
    }
}

fn weights(engine: &Engine, wanted: impl Fn(&Weight) -> bool) -> MapSource {
    let rows = engine.parts().weights.iter().filter(|weight| wanted(weight));
    rows.filter_map(|weight| Some((weight.name.clone(), weight.tensor()?))).collect()
}

/// Holds a model to every promise of refit, on each device: optimised and unoptimised graphs agree within `tolerance`; strip,
/// then fill, is the full build; a refit is a fresh build with those weights, there and back and in part; the same bits with
/// any number of threads. Gives back how many weights were replaced.
///
/// # Errors
/// The first promise that does not hold.
pub fn prove(
    onnx: &[u8],
    inputs: &Tensors,
    devices: &[Device],
    tolerance: Tolerance,
) -> Result<usize, Broken> {
    prove_in(Precision::F32, onnx, inputs, devices, tolerance)
}

/// The same of engines of a precision.
///
/// # Errors
/// As [`prove`].
pub fn prove_in(
    precision: Precision,
    onnx: &[u8],
    inputs: &Tensors,
    devices: &[Device],
    tolerance: Tolerance,
) -> Result<usize, Broken> {
    let sets = Sets::new(onnx, precision)?;
    files(&sets)?;
    for device in devices {
        on_device(&sets, inputs, device, tolerance)?;
    }
    threads(&sets, inputs)?;
    Ok(sets.replaced)
}

/// Strip, then fill, gives the full build's bytes, and no value is left in a stripped file.
fn files(sets: &Sets) -> Result<(), Broken> {
    const SAME: &str = "builds that differ in weights strip to the same bytes";
    const FILLED: &str = "strip, then fill, is the full build";
    let bytes = |engine: &Engine, options| engine.serialize(options).doing("an engine serializes");
    let stripped = bytes(&sets.own, SerializeFlags::EXCLUDE_WEIGHTS)?;
    hold(stripped == bytes(&sets.all, SerializeFlags::EXCLUDE_WEIGHTS)?, SAME, "they differ")?;
    let read = Engine::read(stripped.into()).doing(FILLED)?;
    for (source, full) in [(&sets.back, &sets.own), (&sets.source, &sets.all)] {
        let policy = FitPolicy { allow_extra: true, ..FitPolicy::default() };
        let filled = read.fill(source, policy).doing(FILLED)?;
        let (filled, full) =
            (bytes(&filled, SerializeFlags::default())?, bytes(full, SerializeFlags::default())?);
        hold(filled == full, FILLED, "the bytes differ")?;
    }
    Ok(())
}

/// The order of sums shows in proportion to what was summed, not to what was left of it: `tolerance` with its absolute part
/// for a tensor whose largest element is 1, or less.
fn scaled(tolerance: Tolerance, expected: &Tensor) -> Tolerance {
    let largest =
        expected.as_slice::<f32>().unwrap_or_default().iter().fold(1.0f32, |m, x| m.max(x.abs()));
    Tolerance { atol: tolerance.atol * f64::from(largest), ..tolerance }
}

/// Holds what an optimised graph gives to what the unoptimised one gives.
///
/// # Errors
/// The first output that is not there, or whose difference is more than `tolerance` allows, with both.
pub fn agree(found: &Tensors, plain: &Tensors, tolerance: Tolerance) -> Result<(), String> {
    for (name, expected) in plain {
        let found = found.get(name).ok_or_else(|| format!("{name} is not there"))?;
        compare(found, expected, scaled(tolerance, expected))
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn on_device(
    sets: &Sets,
    inputs: &Tensors,
    device: &Device,
    tolerance: Tolerance,
) -> Result<(), Broken> {
    const REFIT: &str = "a refit is a fresh build with those weights";
    const BACK: &str = "going back gives the first bits";
    const PART: &str = "a partial refit is a full one";
    let load = |engine: &Engine| LiveModule::load(engine.clone(), device).doing("an engine loads");
    let run =
        |module: &LiveModule| module.run(inputs).map(|out| out.tensors).doing("a module runs");
    let [own, all, some] =
        [&sets.own, &sets.all, &sets.some].map(|engine| load(engine).and_then(|m| run(&m)));
    let (own, all, some) = (own?, all?, some?);
    for (plain, found) in [(&sets.plain_own, &own), (&sets.plain_all, &all)] {
        agree(found, &run(&load(plain)?)?, tolerance)
            .map_err(|error| format!("on {device}: {error}"))
            .doing("optimised and unoptimised graphs agree")?;
    }
    let same =
        |a: &Tensors, b: &Tensors, promise| hold(a == b, promise, &format!("not on {device}"));
    let module = load(&sets.own)?;
    let extra = FitPolicy { allow_extra: true, ..FitPolicy::default() };
    module.refit(&sets.source, extra).doing(REFIT)?;
    same(&run(&module)?, &all, REFIT)?;
    module.refit(&sets.back, extra).doing(BACK)?;
    same(&run(&module)?, &own, BACK)?;
    module.refit(&sets.part, FitPolicy { partial: true, ..extra }).doing(PART)?;
    same(&run(&module)?, &some, PART)
}

fn threads(sets: &Sets, inputs: &Tensors) -> Result<(), Broken> {
    const THREADED: &str = "any number of threads gives the same bits";
    let mut first = None;
    for threads in THREADS {
        let options = CpuOptions { poison: true, ..CpuOptions::with_threads(threads) };
        let device = Device::cpu_with(options);
        let module = LiveModule::load(sets.own.clone(), &device).doing(THREADED)?;
        let found = module.run(inputs).doing(THREADED)?.tensors;
        let expected = first.get_or_insert_with(|| found.clone());
        hold(found == *expected, THREADED, &format!("not {threads}"))?;
    }
    Ok(())
}
