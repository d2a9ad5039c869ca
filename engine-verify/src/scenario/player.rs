//! Scenarios, done.

use super::{Damage, Path, Scenario, Stack, Step, Versions, Which, Word, seeded};
use engine_format::{
    Bytes, Digest, EngineFlags, FitError, FitPolicy, FormatError, FormatErrorKind, MapSource, Port,
    SerializeFlags, SourceError, Tensor, TensorInfo, WeightSource,
};
use engine_runtime::{
    Device, Module, Outputs, RefitError, RefitOptions, RunError, RunErrorKind, State, Values,
};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a refit waits for a run that began after it. Runs wait for no refit, so a run takes no longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What scenarios are held to: a stack, on one device, with one engine's versions.
pub struct Trial<'a> {
    /// How files become modules.
    pub stack: &'a dyn Stack,
    /// Where they run.
    pub device: &'a Device,
    /// What they run on.
    pub inputs: &'a Values,
    /// What they are held against. They were run on this device with these inputs.
    pub versions: &'a Versions,
}

impl Trial<'_> {
    /// Does the steps of `scenario` with the module of a file, which has the weights of version A or lacks them, and compares what each
    /// gives with what it must.
    ///
    /// # Errors
    /// In words: the first thing that is not as a fresh build has it, or what the steps gave instead of what they must.
    pub fn hold(
        &self,
        scenario: &Scenario,
        file: &Bytes,
        flags: EngineFlags,
        path: Path,
    ) -> Result<(), String> {
        let expected = scenario.expected(flags);
        let found = self.play(scenario, file, path)?;
        let same = |word: &Word| match word {
            Word::Is(which) => Word::Is(self.versions.canonical(*which)),
            refused => refused.clone(),
        };
        match expected.iter().map(same).eq(found.iter().cloned()) {
            true => Ok(()),
            false => Err(format!("expected {}, found {}", line(&expected), line(&found))),
        }
    }

    fn play(&self, scenario: &Scenario, file: &Bytes, path: Path) -> Result<Vec<Word>, String> {
        let module = self.stack.load(file.clone(), path, self.device).map_err(|e| e.to_string())?;
        let mut player = Player { trial: self, path, module, aside: None, writes: false };
        let step = |(i, step): (usize, &Step)| {
            player.writes = i + 1 == scenario.steps.len();
            player.step(*step).map_err(|what| format!("{step:?}: {what}"))
        };
        scenario.steps.iter().enumerate().map(step).collect()
    }

    /// What a module is: held whole against the fresh build that has its version. What it `writes` is too where that is asked for.
    fn observe(&self, module: &dyn Module, writes: bool) -> Result<Word, String> {
        let mut seen = Vec::new();
        // The first run makes the forms that the second one reads.
        for _ in 0..2 {
            seen.push(self.ran(module, module.run_with(self.inputs, &seeded()))?);
        }
        if seen[0] != seen[1] {
            return Err(format!("a run gives {}, the next {}", seen[0], seen[1]));
        }
        match (module.state(), &seen[0]) {
            (State::NeedsWeights(_), Word::Is(_)) => Err("it runs without its weights".to_owned()),
            (State::NeedsWeights(names), _) if names != self.versions.strippable() => {
                Err(format!("it needs the weights {names:?}, which are not all it lacks"))
            }
            (State::Ready(version), Word::Is(which)) => {
                if self.versions.of(version) != Some(*which) {
                    return Err("its state and its outputs are of different versions".to_owned());
                }
                if writes { self.written(module, *which) } else { Ok(()) }
            }
            (State::Ready(_), Word::Refused(why)) => Err(format!("it is ready and is {why}")),
            (State::NeedsWeights(_), _) => Ok(()),
        }?;
        Ok(seen.swap_remove(0))
    }

    /// Which version's outputs these are, all of them, bit for bit.
    fn ran(&self, module: &dyn Module, ran: Result<Outputs, RunError>) -> Result<Word, String> {
        let outputs = match ran {
            Ok(outputs) => outputs,
            Err(error) if error.kind() == RunErrorKind::MissingWeights => {
                let named = error.details() == self.versions.strippable();
                return match named {
                    true => Ok(Word::refused("missing")),
                    false => Err(format!("not all missing weights are named: {error}")),
                };
            }
            Err(error) => return Err(error.to_string()),
        };
        let which = self.versions.of(outputs.version);
        let which = which.ok_or("a version that no fresh build has")?;
        let fresh = self.versions.outputs(which).ok_or("outputs of weights that it cannot have")?;
        let differs = |port: &&Port| {
            fresh.tensors.get(&port.name) != outputs.tensors.get(&port.name)
                || fresh.structures.get(&port.name) != outputs.structures.get(&port.name)
        };
        if let Some(port) = module.outputs().iter().find(differs) {
            return Err(format!("{:?} is not that of a fresh build with {which:?}", port.name));
        }
        Ok(Word::Is(which))
    }

    /// Holds the file that a module writes against that of the fresh build. One that was written without `INCLUDE_REFIT` is frozen
    /// for good, and is compared with the fresh build written so.
    fn written(&self, module: &dyn Module, which: Which) -> Result<(), String> {
        let fresh = self.versions.fresh(which).ok_or("a version that it cannot have")?;
        let flags = module.flags();
        let full =
            if flags.is_frozen() { SerializeFlags::empty() } else { SerializeFlags::INCLUDE_REFIT };
        let dropped = flags.contains(EngineFlags::EXCLUDE_WEIGHTS);
        let options = if dropped { SerializeFlags::EXCLUDE_WEIGHTS } else { full };
        let file =
            module.serialize(options).map_err(|error| format!("it is not written: {error}"))?;
        let expected = fresh.file(options).map_err(|error| error.to_string())?;
        if Digest::of(&file) != expected {
            return Err(format!("another file than that of a fresh build with {which:?}"));
        }
        if !dropped {
            return Ok(());
        }
        match module.serialize(full) {
            Ok(_) => Err("it gave up its weights and writes them".to_owned()),
            Err(error) if error.kind() == FormatErrorKind::MissingWeights => Ok(()),
            Err(error) => Err(format!("its weights are not said to be missing: {error}")),
        }
    }
}

fn line(words: &[Word]) -> String {
    words.iter().map(Word::to_string).collect::<Vec<_>>().join(" ")
}

/// A scenario under way.
struct Player<'a> {
    trial: &'a Trial<'a>,
    path: Path,
    module: Box<dyn Module>,
    /// What a copy or fork was made from, or that copy or fork.
    aside: Option<Box<dyn Module>>,
    /// Whether the step is one after which the module's file is held too: writing costs more than all the rest.
    writes: bool,
}

impl Player<'_> {
    fn step(&mut self, step: Step) -> Result<Word, String> {
        let versions = self.trial.versions;
        let partial = RefitOptions::from(FitPolicy { partial: true, ..FitPolicy::default() });
        let whole = RefitOptions::default();
        match step {
            Step::Observe => self.observe(),
            Step::Refit(which) => self.refit(versions.weights(which), &whole),
            Step::RefitReady(which) => {
                self.refit(versions.weights(which), &RefitOptions { wait_for_forms: true, ..whole })
            }
            Step::RefitServing(which) => self.serving(versions.weights(which)),
            Step::RefitPart => self.refit(versions.part(), &partial),
            Step::RefitNothing => self.refit(&MapSource::new(), &partial),
            Step::AdapterOn => self.refit(&versions.adapter_source(true)?, &partial),
            Step::AdapterOff => self.refit(&versions.adapter_source(false)?, &partial),
            Step::RefitDamaged(damage) => {
                let source = versions.damaged(damage);
                let breaks = (damage == Damage::BreaksOff).then(|| versions.strippable().last());
                self.refit(&Fragile { source: &source, breaks: breaks.flatten() }, &whole)
            }
            Step::Save(options) => self.save(options, self.path),
            Step::Cross(options) => self.save(options, self.path.other()),
            Step::Clone => {
                let copy = self.module.boxed_clone();
                self.aside = Some(mem::replace(&mut self.module, copy));
                self.observe()
            }
            Step::Fork(which) => {
                let fit = FitPolicy::default();
                match self.module.fork_weights(versions.weights(which), fit) {
                    Ok(fork) => {
                        self.aside = Some(mem::replace(&mut self.module, fork));
                        self.observe()
                    }
                    Err(error) => refused(&error),
                }
            }
            Step::Switch => {
                if let Some(aside) = &mut self.aside {
                    mem::swap(aside, &mut self.module);
                }
                self.observe()
            }
            Step::Rollback => self.attempt(|module| module.rollback().map(drop)),
            Step::DropSources => self.attempt(|module| module.drop_sources()),
        }
    }

    fn observe(&self) -> Result<Word, String> {
        self.trial.observe(&*self.module, self.writes)
    }

    fn refit(&self, source: &dyn WeightSource, options: &RefitOptions) -> Result<Word, String> {
        self.attempt(|module| module.refit_with(source, options).map(drop))
    }

    /// What the module is afterwards, or why it was refused; a refusal changes nothing.
    fn attempt(
        &self,
        change: impl FnOnce(&dyn Module) -> Result<(), RefitError>,
    ) -> Result<Word, String> {
        let flags = self.module.flags();
        let state = self.module.state();
        match change(&*self.module) {
            Ok(()) => self.observe(),
            Err(error) if self.module.state() != state || self.module.flags() != flags => {
                Err(format!("it was refused and changed the state: {error}"))
            }
            Err(error) => {
                self.observe().map_err(|what| format!("after it was refused ({error}): {what}"))?;
                refused(&error)
            }
        }
    }

    /// Writes the module and loads what was written.
    fn save(&mut self, options: SerializeFlags, path: Path) -> Result<Word, String> {
        let file = match self.module.serialize(options) {
            Ok(file) => file,
            Err(error) => return Ok(Word::Refused(format_word(&error))),
        };
        let loaded = self.trial.stack.load(file.into(), path, self.trial.device);
        self.module = loaded.map_err(|error| format!("what it wrote does not load: {error}"))?;
        self.path = path;
        self.observe()
    }

    /// Refits while another thread runs the module. Each of its runs is of one version, and at least one of them begins and ends while the
    /// refit reads its source: runs wait for no refit.
    fn serving(&self, weights: &MapSource) -> Result<Word, String> {
        let (runs, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (module, trial) = (&*self.module, self.trial);
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let ran = module.run_with(trial.inputs, &seeded());
                    let ran = trial.ran(module, ran);
                    runs.fetch_add(1, Ordering::Relaxed);
                    ran.map_err(|what| format!("a run beside it: {what}"))?;
                }
                Ok::<(), String>(())
            });
            let finished = || server.is_finished();
            let paced = Paced { weights, runs: &runs, finished: &finished };
            let changed = module.refit_with(&paced, &RefitOptions::default());
            done.store(true, Ordering::Relaxed);
            server.join().map_err(|_| "a run beside it panicked")??;
            match changed {
                Ok(_) => self.observe(),
                Err(error) => refused(&error),
            }
        })
    }
}

/// Why a refit was refused, in a word.
fn refused(error: &RefitError) -> Result<Word, String> {
    let word = match error {
        RefitError::Fit(FitError::Unfit(report)) => {
            let mut kinds: Vec<&str> = report.misfits.iter().map(|misfit| misfit.kind()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds.join("+").replace("values", "unfit")
        }
        RefitError::Fit(FitError::Source(_)) => "source".to_owned(),
        RefitError::Fit(FitError::Format(error)) | RefitError::Format(error) => format_word(error),
        RefitError::NothingToRollBack => "nothing".to_owned(),
        RefitError::SourcesDropped { .. } => "dropped".to_owned(),
        error => return Err(error.to_string()),
    };
    Ok(Word::Refused(word))
}

fn format_word(error: &FormatError) -> String {
    match error.kind() {
        FormatErrorKind::NotRefittable => "frozen".to_owned(),
        FormatErrorKind::MissingWeights => "missing".to_owned(),
        kind => format!("{kind:?}"),
    }
}

/// A source that fails where one weight is read.
struct Fragile<'a> {
    source: &'a MapSource,
    breaks: Option<&'a String>,
}

impl WeightSource for Fragile<'_> {
    fn origin(&self) -> String {
        "memory that breaks off".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.source.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        if self.breaks.is_some_and(|breaks| breaks == name) {
            let (name, origin) = (name.to_owned(), self.origin());
            return Err(SourceError { name, origin, why: "it breaks off here".to_owned() });
        }
        self.source.read(name)
    }
}

/// A source whose first tensor comes when a run that began after it was asked for has ended.
struct Paced<'a> {
    weights: &'a MapSource,
    runs: &'a AtomicUsize,
    finished: &'a (dyn Fn() -> bool + Sync),
}

impl WeightSource for Paced<'_> {
    fn origin(&self) -> String {
        self.weights.origin()
    }

    fn names(&self) -> Vec<String> {
        self.weights.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.weights.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let first = self.weights.names().first().is_some_and(|first| first == name);
        let (begun, asked) = (self.runs.load(Ordering::Relaxed), Instant::now());
        // The run under way may have begun before.
        while first && self.runs.load(Ordering::Relaxed) < begun + 2 && !(self.finished)() {
            if asked.elapsed() > PATIENCE {
                let (name, origin) = (name.to_owned(), self.origin());
                let why = "no run ended while it was read".to_owned();
                return Err(SourceError { name, origin, why });
            }
            std::thread::yield_now();
        }
        self.weights.read(name)
    }
}
