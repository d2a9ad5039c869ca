//! A module that serves while it is refitted: every output is that of one of its versions, bit for bit.

use crate::oracle::Tensors;
use engine_format::{Digest, FitPolicy, WeightSource};
use engine_runtime::{Module, RefitError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A set of weights, and what a module with them gives.
pub struct Version<'a> {
    source: &'a dyn WeightSource,
    digest: Digest,
    outputs: Tensors,
}

impl<'a> Version<'a> {
    /// Refits `module` with `source` and notes its outputs for `inputs`.
    ///
    /// # Errors
    /// The weights do not fit.
    ///
    /// # Panics
    /// If the module does not run.
    pub fn of(
        module: &dyn Module,
        source: &'a dyn WeightSource,
        inputs: &Tensors,
    ) -> Result<Self, RefitError> {
        let digest = module.refit(source, FitPolicy::default())?.version;
        let outputs = module.run(inputs).expect("a module with its weights runs").tensors;
        Ok(Self { source, digest, outputs })
    }
}

/// How long, on how many threads, how often.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// Threads that run without a pause.
    pub threads: usize,
    /// From one refit to the next, one after the other; `None` refits not at all.
    pub every: Option<Duration>,
    /// How long it goes on at least. Each thread runs at least once, and each version is refitted to at least once.
    pub lasts: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Soaked {
    /// How long each run took, in no order.
    pub runs: Vec<Duration>,
    /// How long each refit took, in order.
    pub refits: Vec<Duration>,
    /// Runs or refits that failed, and outputs that are not those of their version, in words.
    pub failures: Vec<String>,
    /// Versions that outputs were of.
    pub seen: Vec<Digest>,
}

/// Runs `module` on several threads with `inputs` and refits it from one of `versions` to the next meanwhile.
pub fn soak(module: &dyn Module, inputs: &Tensors, versions: &[Version<'_>], soak: Soak) -> Soaked {
    let done = AtomicBool::new(false);
    let mut soaked = Soaked::default();
    std::thread::scope(|scope| {
        let serve = || serve(module, inputs, versions, &done);
        let threads: Vec<_> = (0..soak.threads).map(|_| scope.spawn(serve)).collect();
        let begun = Instant::now();
        let left = || soak.lasts.saturating_sub(begun.elapsed());
        for version in versions.iter().cycle() {
            let Some(every) = soak.every else { break };
            let turn = Instant::now();
            if let Err(error) = module.refit(version.source, FitPolicy::default()) {
                soaked.failures.push(format!("refit: {error}"));
            }
            soaked.refits.push(turn.elapsed());
            std::thread::sleep(every.saturating_sub(turn.elapsed()).min(left()));
            if left().is_zero() && soaked.refits.len() >= versions.len() {
                break;
            }
        }
        std::thread::sleep(left());
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            let served = thread.join().expect("serving does not panic");
            soaked.runs.extend(served.runs);
            soaked.failures.extend(served.failures);
            soaked.seen.extend(served.seen);
        }
    });
    soaked.seen.sort();
    soaked.seen.dedup();
    soaked
}

/// Runs until `done`, at least once.
fn serve(
    module: &dyn Module,
    inputs: &Tensors,
    versions: &[Version<'_>],
    done: &AtomicBool,
) -> Soaked {
    let mut served = Soaked::default();
    loop {
        let begun = Instant::now();
        let outputs = module.run(inputs);
        served.runs.push(begun.elapsed());
        match outputs {
            Ok(outputs) => {
                let version = versions.iter().find(|v| v.digest == outputs.version);
                if !served.seen.contains(&outputs.version) {
                    served.seen.push(outputs.version);
                }
                // Compared by bits: a NaN is the NaN it was.
                let same = |v: &Version<'_>| {
                    outputs.tensors.len() == v.outputs.len()
                        && outputs.tensors.iter().all(|(name, tensor)| {
                            v.outputs.get(name).is_some_and(|t| {
                                t.shape() == tensor.shape() && t.bytes() == tensor.bytes()
                            })
                        })
                };
                if !version.is_some_and(same) {
                    let what = "outputs that are not those of their version";
                    served.failures.push(format!("{what}, {}", outputs.version));
                }
            }
            Err(error) => served.failures.push(format!("run: {error}")),
        }
        if done.load(Ordering::Relaxed) {
            return served;
        }
    }
}
