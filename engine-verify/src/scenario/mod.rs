//! Scenarios: what may be done with a module, step by step, and what each step has to give.
//!
//! A [`Scenario`] is a list of steps. [`Scenario::expected`] says from the flags of a file alone, by the rules of refit, what every step gives;
//! [`Trial::hold`] does the steps with a module that was loaded from the file and compares. After every step the module is held against
//! a fresh build with the weights that it should have: every output bit for bit, in two runs, the version and the state, and after the last
//! one the bytes of the file that it writes. `conformance` holds every combination of flags to all scenarios.

mod adapter;
mod expected;
mod player;
mod stack;
mod versions;

pub use player::Trial;
pub use stack::{Path, Stack, ThisStack};
pub use versions::{Damage, Versions, Which};

use engine_format::SerializeFlags;
use engine_runtime::RunOptions;
use std::fmt;

/// How every run is done: models that draw by chance draw the same numbers each time.
pub(crate) fn seeded() -> RunOptions {
    RunOptions { seed: Some(1), ..RunOptions::default() }
}

/// One thing that is done with a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Runs it as it is.
    Observe,
    /// Refits it with all weights of a version.
    Refit(Which),
    /// The same, and waits until the forms of the new weights are made.
    RefitReady(Which),
    /// The same, while another thread runs it without a pause.
    RefitServing(Which),
    /// Refits it with those weights of C that are not A's, and keeps the others.
    RefitPart,
    /// Refits it in part with no weights at all.
    RefitNothing,
    /// Merges an adapter into those weights of A that it adapts, and refits these alone. The module has A's weights, with the adapter or without it.
    AdapterOn,
    /// Refits the adapted weights alone, without the adapter. The module has A's weights, with the adapter or without it.
    AdapterOff,
    /// Refits it with weights of which something does not fit.
    RefitDamaged(Damage),
    /// Writes it to a file, which takes its place, loaded through the same module path.
    Save(SerializeFlags),
    /// The same through the other module path.
    Cross(SerializeFlags),
    /// Goes on with a copy.
    Clone,
    /// Goes on with a fork that has the weights of a version.
    Fork(Which),
    /// Goes on with the module that a copy or fork was made from; the copy or fork waits meanwhile.
    Switch,
    /// Goes back to the weights before.
    Rollback,
    /// Gives up the source weights.
    DropSources,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The module is what a fresh build with these weights is.
    Is(Which),
    /// The step was refused, and changed nothing. The words: `missing` weights, `frozen`, `extra`, `shape`, `dtype`, `unfit` values, a `source`
    /// that fails, sources that were `dropped`, `nothing` to go back to.
    Refused(String),
}

impl Word {
    fn refused(why: &str) -> Self {
        Self::Refused(why.to_owned())
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(which) => write!(f, "={which:?}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Steps that are taken one after the other with a module that was just loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Short name.
    pub name: &'static str,
    /// What it is there to show.
    pub shows: &'static str,
    /// The steps.
    pub steps: &'static [Step],
}

const REFITTABLE: SerializeFlags = SerializeFlags::INCLUDE_REFIT;
const FROZEN: SerializeFlags = SerializeFlags::empty();
const STRIPPED: SerializeFlags = SerializeFlags::EXCLUDE_WEIGHTS;
const COMPRESSED: SerializeFlags = SerializeFlags::INCLUDE_REFIT.union(SerializeFlags::COMPRESS);

/// Every scenario.
pub const SCENARIOS: [Scenario; 24] = {
    use Step::*;
    use Which::{A, B, C, N};
    const fn scenario(name: &'static str, shows: &'static str, steps: &'static [Step]) -> Scenario {
        Scenario { name, shows, steps }
    }
    [
        scenario("run", "a file runs as it is, or names what it lacks", &[Observe]),
        scenario("fill", "the weights of the build give the build", &[Refit(A)]),
        scenario("refit", "other weights give a build with them", &[Refit(B)]),
        scenario("twice", "a second refit is one too", &[Refit(B), Refit(B)]),
        scenario("back", "there and back again", &[Refit(A), Refit(B), Refit(A)]),
        scenario(
            "ready",
            "forms that were made before a run reads them",
            &[Refit(A), RefitReady(B), RefitReady(A)],
        ),
        scenario(
            "serving",
            "every run under a refit is of one version",
            &[Refit(A), RefitServing(B), RefitServing(A)],
        ),
        scenario(
            "partial",
            "some weights alone, the others stay",
            &[Refit(A), RefitPart, Refit(B), RefitPart],
        ),
        scenario(
            "adapter",
            "an adapter goes on and off, and leaves no trace",
            &[
                Refit(A),
                AdapterOn,
                AdapterOff,
                AdapterOn,
                Save(REFITTABLE),
                AdapterOn,
                AdapterOff,
                Rollback,
            ],
        ),
        scenario(
            "refused",
            "what does not fit changes nothing",
            &[
                Refit(A),
                RefitDamaged(Damage::Missing),
                RefitDamaged(Damage::Extra),
                RefitDamaged(Damage::Shape),
                RefitDamaged(Damage::DType),
                RefitDamaged(Damage::BreaksOff),
            ],
        ),
        scenario(
            "empty",
            "what does not fit leaves a file without weights without them",
            &[
                RefitNothing,
                RefitDamaged(Damage::Missing),
                RefitDamaged(Damage::Extra),
                RefitDamaged(Damage::BreaksOff),
                Observe,
            ],
        ),
        scenario(
            "saved",
            "what was refitted is what is written",
            &[Refit(B), Save(REFITTABLE), Refit(A)],
        ),
        scenario(
            "packed",
            "the same through compressed weights",
            &[Refit(B), Save(COMPRESSED), Refit(A)],
        ),
        scenario(
            "stripped",
            "written without the weights, and filled",
            &[Refit(B), Save(STRIPPED), Refit(B)],
        ),
        scenario("frozen", "written for good", &[Refit(B), Save(FROZEN), Refit(A)]),
        scenario(
            "crossed",
            "saved on one path, loaded on the other",
            &[Refit(B), Cross(REFITTABLE), Refit(A)],
        ),
        scenario(
            "stripped across",
            "stripped on one path, filled on the other",
            &[Refit(B), Cross(STRIPPED), Refit(B), Cross(REFITTABLE)],
        ),
        scenario(
            "clone",
            "a refit of a copy is not one of the original",
            &[Refit(A), Clone, Refit(B), Switch],
        ),
        scenario(
            "cloned",
            "a refit of the original is not one of its copy",
            &[Refit(A), Clone, Switch, Refit(B), Switch],
        ),
        scenario(
            "fork",
            "a fork is a refit beside the original",
            &[Refit(A), Fork(B), Switch, Refit(B), Switch],
        ),
        scenario(
            "rollback",
            "back to the weights before, and forth",
            &[Rollback, Refit(A), Refit(B), Refit(C), Rollback, Rollback],
        ),
        scenario(
            "rollback of a copy",
            "a copy goes back by itself",
            &[Refit(A), Refit(B), Clone, Rollback, Switch, Save(REFITTABLE), Rollback],
        ),
        scenario(
            "dropped",
            "without its sources a module runs, and takes a whole refit",
            &[Refit(A), DropSources, RefitNothing, Rollback, Save(REFITTABLE), Refit(B), Rollback],
        ),
        scenario("bits", "every bit of every NaN stays", &[Refit(A), Refit(N), Save(REFITTABLE)]),
    ]
};
