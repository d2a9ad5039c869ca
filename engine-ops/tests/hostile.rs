//! Calls that nobody should make: every row of the table, with attributes, types, shapes and contents as a hostile file or
//! caller may have them. Each gives results or an error, what a row says of its results holds, and its GPU programs bind what is there.
//!
//! `REFIT_HOSTILE=N` makes N calls of each row in place of the few that a test run has time for, `REFIT_OP=Name` those of one row,
//! `REFIT_SEED=N` that call alone.

use engine_format::{Attrs, DType, Tensor};
use engine_ops::cpu::{Cpu, TensorMeta};
use engine_ops::gpu::{Bind, GpuCtx, GpuLimits};
use engine_ops::hostile::{self, Call};
use engine_ops::infer::{Facts, InferCtx, Known};
use engine_ops::{Kind, OpDef, Role, TABLE, eval};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Calls of each row in an ordinary run.
const CALLS: u64 = 800;

/// Results up to this many bytes are calculated; what asks for more has passed the checks that matter.
const MOST: usize = 64 << 10;

/// Where the last panic was.
static PANICKED: Mutex<String> = Mutex::new(String::new());

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[derive(Default)]
struct Counts {
    calls: u64,
    results: u64,
    errors: u64,
    large: u64,
    programs: u64,
}

/// What became of a call, or how it broke what the table promises.
fn held(def: &OpDef, call: &Call, counts: &mut Counts) -> Result<(), String> {
    counts.calls += 1;
    let Ok(attrs) = def.normalise(call.attrs.clone()) else {
        counts.errors += 1;
        return Ok(());
    };
    let facts: Vec<_> = call.inputs.iter().map(|t| t.clone().map(Facts::constant)).collect();
    let ctx = InferCtx { attrs: &attrs, inputs: &facts, outputs: call.outputs };
    let inferred = def.results(&ctx).ok();
    let bytes = |facts: &Facts| {
        let shape = facts.concrete().unwrap_or_default();
        engine_format::size::byte_len(facts.dtype, &shape).unwrap_or(usize::MAX)
    };
    if let Some(facts) = &inferred {
        counts.programs += programs(def, &attrs, call, facts)?;
    }
    let static_kernel = matches!(def.cpu, Cpu::Kernel { .. } | Cpu::Planned(_));
    if inferred.iter().flatten().any(|facts| bytes(facts) > MOST) {
        counts.large += 1;
        return Ok(());
    }
    match eval(def, &attrs, &call.inputs, call.outputs) {
        Err(_) => {
            counts.errors += 1;
            Ok(())
        }
        Ok(results) => {
            counts.results += 1;
            match inferred {
                Some(facts) if static_kernel => agree(&facts, &results),
                _ => Ok(()),
            }
        }
    }
}

/// Asks for the GPU programs of a call whose results are known: as a plan does, and as one that knows all contents. Gives how many
/// there are.
fn programs(def: &OpDef, attrs: &Attrs, call: &Call, results: &[Facts]) -> Result<u64, String> {
    let Some(gpu) = def.gpu else { return Ok(0) };
    let meta = |facts: &Facts| Some(TensorMeta { dtype: facts.dtype, shape: facts.concrete()? });
    let outputs: Option<Vec<_>> = results.iter().map(|facts| meta(facts).map(Some)).collect();
    let inputs: Vec<_> = call.inputs.iter().map(|t| t.as_ref().map(TensorMeta::from)).collect();
    // Strings stay on the host, and no device plans what no address space holds.
    let Some(outputs) = outputs else { return Ok(0) };
    if inputs.iter().chain(&outputs).flatten().any(|meta| meta.dtype == DType::String) {
        return Ok(0);
    }
    let shapes = |i: usize| def.operand(i).is_some_and(|o| o.role == Role::Shape);
    let mut made = 0;
    for all in [false, true] {
        let known = |(i, t): (usize, &Option<Tensor>)| t.clone().filter(|_| all || shapes(i));
        let values: Vec<_> = call.inputs.iter().enumerate().map(known).collect();
        let (inputs, outputs) = (inputs.as_slice(), outputs.as_slice());
        let limits = &GpuLimits::BASELINE;
        let reads = |(i, meta): (usize, &Option<TensorMeta>)| {
            all && meta.as_ref().is_some_and(|meta| def.reads_halves(i, meta.dtype))
        };
        let halves: Vec<bool> = inputs.iter().enumerate().map(reads).collect();
        let ctx = GpuCtx { attrs, inputs, values: &values, outputs, halves: &halves, limits };
        let Ok(Some(program)) = gpu(&ctx) else { continue };
        made += 1;
        for dispatch in &program.dispatches {
            let bound = |bind: &Bind| match *bind {
                Bind::In(i) => inputs.get(i).is_some_and(Option::is_some),
                Bind::Out(i) => outputs.get(i).is_some_and(Option::is_some),
                Bind::Scratch(i) => i < program.scratch.len(),
                Bind::Outside => true,
            };
            if let Some(bind) = dispatch.binds.iter().find(|bind| !bound(bind)) {
                return Err(format!("a program binds {bind:?}, which is absent"));
            }
        }
    }
    Ok(made)
}

/// Whether results are what the rule said of them, contents too.
fn agree(facts: &[Facts], results: &[engine_format::Tensor]) -> Result<(), String> {
    for (i, (facts, result)) in facts.iter().zip(results).enumerate() {
        if facts.dtype != result.dtype() || facts.concrete().as_deref() != Some(result.shape()) {
            return Err(format!("result {i} is {result:?}, its rule said {facts}"));
        }
        if let Some(Known::Tensor(known)) = &facts.value
            && known != result
            && result.dtype() == DType::I64
        {
            return Err(format!("result {i} is {result}, its rule said {known}"));
        }
    }
    Ok(())
}

/// Symbols, unknown ranks and sizes without tensors: the rule alone is asked.
fn inferred(def: &OpDef, call: &Call, attrs: &Attrs, seed: u64) {
    let facts = hostile::facts(call, seed);
    let ctx = InferCtx { attrs, inputs: &facts, outputs: call.outputs };
    if let Ok(results) = def.results(&ctx) {
        for facts in results {
            let _ = format!("{facts}");
        }
    }
}

#[test]
fn calls_give_results_or_errors() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let mut last = PANICKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = format!("{place}: {}", info.payload_as_str().unwrap_or_default());
    }));
    let only = std::env::var("REFIT_OP").ok();
    let (many, one) = (number("REFIT_HOSTILE"), number("REFIT_SEED"));
    let seeds = one.map_or(0..many.unwrap_or(CALLS), |seed| seed..seed + 1);
    let mut counts = Counts::default();
    // By row and place: how often, and the first seed.
    let mut broken: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for def in TABLE.iter().filter(|def| def.kind != Kind::Control) {
        if only.as_ref().is_some_and(|name| name != def.name) {
            continue;
        }
        if many.is_some() {
            eprintln!("{def:?}");
        }
        for seed in seeds.clone() {
            let call = hostile::call(def, seed);
            if one.is_some() {
                eprintln!("{call:?}");
                call.inputs.iter().flatten().for_each(|tensor| eprintln!("  {tensor}"));
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                if let Ok(attrs) = def.normalise(call.attrs.clone()) {
                    inferred(def, &call, &attrs, seed);
                }
                held(def, &call, &mut counts)
            }));
            let what = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(what)) => what,
                Err(_) => PANICKED.lock().unwrap().clone(),
            };
            broken.entry((format!("{def:?}"), what)).or_insert((0, seed)).0 += 1;
        }
    }
    drop(std::panic::take_hook());
    let Counts { calls, results, errors, large, programs } = counts;
    println!(
        "{calls} calls: {results} with results, {errors} with errors, {large} too large to calculate; {programs} GPU programs"
    );
    let lines =
        broken.iter().map(|((row, what), (n, seed))| format!("{row} seed {seed} ({n}×): {what}"));
    let lines: Vec<String> = lines.collect();
    assert!(lines.is_empty(), "{} kinds broke:\n{}", lines.len(), lines.join("\n"));
    assert!(
        only.is_some() || (results > calls / 20 && errors > calls / 20 && programs > calls / 20),
        "the calls test little"
    );
}
