//! What scenarios have to give: the rules of refit, restated over flags and names of versions alone.

use super::{Damage, Scenario, Step, Which, Word};
use engine_format::{EngineFlags, SerializeFlags};
use std::mem;

/// A module as far as the rules know it.
#[derive(Clone, Copy)]
struct Model {
    flags: EngineFlags,
    holds: Option<Which>,
    previous: Option<Which>,
    /// It runs without holding its source weights.
    dropped: bool,
}

impl Scenario {
    /// What each step gives with the module of a file that has `flags` and, unless it is stripped, the weights of version A.
    pub fn expected(&self, flags: EngineFlags) -> Vec<Word> {
        let stripped = flags.contains(EngineFlags::EXCLUDE_WEIGHTS);
        let holds = (!stripped).then_some(Which::A);
        let (mut module, mut aside) =
            (Model { flags, holds, previous: None, dropped: false }, None::<Model>);
        let step = |step: &Step| match step {
            Step::Clone => {
                aside = Some(module);
                module.observed()
            }
            Step::Fork(which) => {
                let from = module;
                let word = module.refit(*which);
                if matches!(word, Word::Is(_)) {
                    module.previous = None;
                    aside = Some(from);
                }
                word
            }
            Step::Switch => {
                if let Some(aside) = &mut aside {
                    mem::swap(aside, &mut module);
                }
                module.observed()
            }
            step => module.step(step),
        };
        self.steps.iter().map(step).collect()
    }
}

impl Model {
    fn observed(&self) -> Word {
        self.holds.map_or_else(|| Word::refused("missing"), Word::Is)
    }

    fn is_identical(&self) -> bool {
        self.flags.contains(EngineFlags::REFIT_IDENTICAL)
    }

    fn step(&mut self, step: &Step) -> Word {
        match step {
            Step::Refit(which) | Step::RefitReady(which) | Step::RefitServing(which) => {
                self.refit(*which)
            }
            // What C has of B is all that it has beside A.
            Step::RefitPart if self.holds == Some(Which::B) => self.refit(Which::B),
            Step::RefitPart => self.refit(Which::C),
            Step::RefitNothing => self.refit_rest(|which| which),
            Step::AdapterOn => self.refit_rest(|_| Which::L),
            Step::AdapterOff => self.refit_rest(|_| Which::A),
            Step::RefitDamaged(_) if self.flags.is_frozen() => Word::refused("frozen"),
            Step::RefitDamaged(damage) => Word::refused(match damage {
                Damage::Missing => "missing",
                Damage::Extra => "extra",
                Damage::Shape => "shape",
                Damage::DType => "dtype",
                Damage::BreaksOff => "source",
            }),
            Step::Save(options) | Step::Cross(options) => self.save(*options),
            Step::Rollback if self.dropped => Word::refused("dropped"),
            Step::Rollback => match self.previous {
                Some(which) => {
                    self.previous = self.holds.replace(which);
                    Word::Is(which)
                }
                None => Word::refused("nothing"),
            },
            Step::DropSources if self.flags.is_frozen() => Word::refused("frozen"),
            Step::DropSources => {
                self.dropped = self.holds.is_some();
                self.previous = None;
                self.observed()
            }
            Step::Observe | Step::Clone | Step::Fork(_) | Step::Switch => self.observed(),
        }
    }

    /// A refit in part, for which it has to hold the weights that stay.
    fn refit_rest(&mut self, gives: impl Fn(Which) -> Which) -> Word {
        match self.holds {
            _ if self.flags.is_frozen() => Word::refused("frozen"),
            _ if self.dropped => Word::refused("dropped"),
            Some(which) => self.refit(gives(which)),
            None => Word::refused("missing"),
        }
    }

    fn refit(&mut self, which: Which) -> Word {
        if self.flags.is_frozen() {
            return Word::refused("frozen");
        }
        if self.is_identical() && which != Which::A {
            return Word::refused("unfit");
        }
        self.previous = self.holds.replace(which).filter(|_| !self.dropped);
        self.dropped = false;
        self.flags.remove(EngineFlags::EXCLUDE_WEIGHTS);
        Word::Is(which)
    }

    fn save(&mut self, options: SerializeFlags) -> Word {
        let strips = options.contains(SerializeFlags::EXCLUDE_WEIGHTS);
        if (self.holds.is_none() || self.dropped) && !strips {
            return Word::refused("missing");
        }
        if strips && self.flags.is_frozen() {
            return Word::refused("frozen");
        }
        if strips {
            self.holds = None;
            self.flags.insert(EngineFlags::EXCLUDE_WEIGHTS);
        } else if !options.contains(SerializeFlags::INCLUDE_REFIT) {
            self.flags = self.flags.precision();
        }
        self.previous = None;
        self.dropped = false;
        self.observed()
    }
}
