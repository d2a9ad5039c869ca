//! Canaries: faults that the matrix must see.
//!
//! A matrix that is green says little until it was seen red. Each canary is this stack with one fault in it, of a kind that refit was broken by
//! somewhere, put in at the doors through which engines, files and modules become one another ([`Stack`]); the crates that ship know
//! nothing of it. The matrix must fail with each of them, and what failed first is said.

mod files;
mod modules;
mod sources;

use crate::matrix::{Failure, Subject, evaluate};
use engine_runtime::Device;
use engine_verify::scenario::Stack;
use files::FileFault;
use modules::{ModuleFault, Modules};
use std::fmt;

/// A fault, and the stack that has it.
pub struct Canary {
    /// Short name.
    pub name: &'static str,
    /// What is wrong.
    pub fault: &'static str,
    stack: fn() -> Box<dyn Stack>,
}

macro_rules! canary {
    ($name:literal, $fault:literal, $stack:expr) => {
        Canary { name: $name, fault: $fault, stack: || Box::new($stack) }
    };
}

/// Every canary.
pub const CANARIES: [Canary; 26] = [
    canary!(
        "weights excluded for ever",
        "a module that was loaded without its weights writes none after a refit either",
        Modules::with(ModuleFault::ExcludesForEver)
    ),
    canary!(
        "refit bit lost",
        "a file is written frozen although it shall stay refittable",
        FileFault::LosesRefit
    ),
    canary!(
        "refit bit lost by a module",
        "what a module writes is frozen although it shall stay refittable",
        Modules::with(ModuleFault::LosesRefit)
    ),
    canary!(
        "swapped bits",
        "writer and reader disagree which bit is REFIT and which is REFIT_IDENTICAL",
        FileFault::SwapsBits
    ),
    canary!(
        "a value in a stripped file",
        "a stripped file keeps the values of one weight",
        FileFault::KeepsValue
    ),
    canary!(
        "stale fold",
        "a refit does not run `prepare` again: what was folded has the weights before",
        Modules::with(ModuleFault::StaleFold)
    ),
    canary!(
        "stale form",
        "what the first run packed of the weights is read after a refit too",
        Modules::with(ModuleFault::StaleForm)
    ),
    canary!(
        "stale small weight",
        "a weight of a few bytes keeps the values before",
        Modules::with(ModuleFault::StaleSmall)
    ),
    canary!(
        "first output alone",
        "after a refit only the first output is that of the new weights",
        Modules::with(ModuleFault::FirstOutput)
    ),
    canary!(
        "second refit lost",
        "a module takes one refit; the next ones change nothing",
        Modules::with(ModuleFault::RefitsOnce)
    ),
    canary!(
        "shared copy",
        "a copy of a module is the module itself",
        Modules::with(ModuleFault::SharedCopy)
    ),
    canary!(
        "shared fork",
        "a fork refits the module that it was made from",
        Modules::with(ModuleFault::SharedFork)
    ),
    canary!(
        "zeros",
        "a module without its weights runs, on zeros",
        Modules::with(ModuleFault::Zeros)
    ),
    canary!(
        "unnamed weights",
        "only the first of the missing weights is named",
        Modules::with(ModuleFault::NamesFirst)
    ),
    canary!(
        "stale bytes",
        "a module writes the file that it was loaded from, whatever it was refitted with",
        Modules::with(ModuleFault::StaleBytes)
    ),
    canary!(
        "another module's bytes",
        "the packed path runs the first file of a program that it saw, not the one that it loaded",
        Modules::with(ModuleFault::FirstSeen)
    ),
    canary!(
        "transposed",
        "a weight whose axes are exchanged is taken as it is",
        Modules::with(ModuleFault::TakesTransposed)
    ),
    canary!(
        "unchecked digests",
        "an engine under REFIT_IDENTICAL takes other values",
        Modules::with(ModuleFault::UncheckedDigests)
    ),
    canary!(
        "half a refit",
        "what fits of a source that does not fit is kept",
        Modules::with(ModuleFault::HalfRefit)
    ),
    canary!(
        "unused weights refused",
        "a tensor of the model that nothing reads is refused, as one of another model is",
        Modules::with(ModuleFault::RefusesUnused)
    ),
    canary!(
        "partial is whole",
        "a partial refit puts back the weights of the build where the source has none",
        Modules::with(ModuleFault::PartialResets)
    ),
    canary!(
        "adapter stays",
        "a partial refit asks of the first weights, not of those in use, what changed: an adapter that is taken off stays",
        Modules::with(ModuleFault::AdapterStays)
    ),
    canary!(
        "wrong rollback",
        "a rollback goes to the weights that were there first",
        Modules::with(ModuleFault::FirstRollback)
    ),
    canary!(
        "mixed run",
        "a run under a refit takes some weights from before it and some from after it",
        Modules::with(ModuleFault::MixedRun)
    ),
    canary!(
        "sources kept",
        "a module that gave up its source weights writes them still",
        Modules::with(ModuleFault::KeepsSources)
    ),
    canary!(
        "one NaN for all",
        "NaNs become the usual NaN on their way into a module",
        Modules::with(ModuleFault::UsualNan)
    ),
];

/// How the matrix saw a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The first check that failed.
    pub first: Failure,
    /// Every scenario in which one did, in the order in which they first failed.
    pub scenarios: Vec<&'static str>,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.first.subject, self.scenarios.join(", "))
    }
}

impl Canary {
    /// The stack with the fault.
    pub fn stack(&self) -> Box<dyn Stack> {
        (self.stack)()
    }

    /// Goes through the matrix of one model after another until something fails. `None` if the canary survived all.
    ///
    /// # Errors
    /// If a model does not build or run at all.
    pub fn caught(
        &self,
        subjects: &[Subject],
        devices: &[Device],
    ) -> Result<Option<Caught>, Box<dyn std::error::Error>> {
        for subject in subjects {
            let failures = evaluate(subject, devices, &*self.stack())?.failures;
            let mut scenarios = Vec::new();
            for failure in &failures {
                if !scenarios.contains(&failure.scenario) {
                    scenarios.push(failure.scenario);
                }
            }
            if let Some(first) = failures.into_iter().next() {
                return Ok(Some(Caught { first, scenarios }));
            }
        }
        Ok(None)
    }
}
