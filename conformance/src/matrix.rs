//! The flag matrix: every engine flag × every wish × both module paths × every device.
//!
//! For each triple the file is written (or refused), then, on each path and device, run as it is, filled with the weights it was built with,
//! and refitted with others. Outputs are held bit for bit against fresh builds on the same device, and
//! between devices by tolerance. Nothing in the table depends on the machine: a cell names classes, not values.

use crate::oracle::Tensors;
use crate::{graphs, models};
use engine_builder::{BuildOptions, RefitMode, build};
use engine_format::{
    Bytes, Digest, Engine, EngineFlags, FitPolicy, FormatError, FormatErrorKind, MapSource,
    SerializeFlags,
};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{
    Device, LiveModule, Module, PackedModule, RefitError, RunErrorKind, State, Values,
};
use engine_verify::inputs::{self, Freedom};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How far devices may differ on the models of the matrix.
const BETWEEN_DEVICES: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

/// What the letters of a cell mean; printed above the table.
pub const LEGEND: &str = "\
row    flags of the engine: R REFIT, I REFIT_IDENTICAL, N REFIT_INDIVIDUAL, X EXCLUDE_WEIGHTS, C COMPRESSED, - none
column wish of the caller:  x EXCLUDE_WEIGHTS, r INCLUDE_REFIT, c COMPRESS, - none
cell   the written file's flags, then what three scenarios give on every path and device:
         run as it is, fill with the weights of the build, refit with other weights
       =A the outputs of a fresh build, bit for bit; =B those of a fresh build with the other weights (and so are the
       file's bytes afterwards); missing: refused, the weights are named; frozen: no weight may change; unfit: other values are
       not accepted. !kind: the file itself is refused.";

/// A model of the matrix.
pub struct Subject {
    /// Short name.
    pub name: String,
    onnx: Vec<u8>,
    inputs: Tensors,
}

/// The hand-made graphs, then Magika.
pub fn subjects() -> Result<Vec<Subject>, Box<dyn std::error::Error>> {
    let mut subjects = Vec::new();
    for sketch in graphs::SKETCHES {
        let onnx = (sketch.onnx)();
        let engine = engine_of(&onnx, &BuildOptions::default())?;
        let ports = &engine.parts().inputs;
        let sizes = inputs::Sizes::from([("batch".to_owned(), 3), ("n".to_owned(), 2)]);
        let inputs =
            inputs::seeded(ports, &Values::new(), &sizes, Freedom { size: 4, integers: 10 }, 1)?;
        let inputs = inputs::all_tensors(inputs).expect("the hand-made graphs take tensors");
        subjects.push(Subject { name: sketch.name.to_owned(), onnx, inputs });
    }
    let magika = &models::MODELS[0];
    let onnx = std::fs::read(magika.asset.path()?)?;
    let inputs = (magika.runs)()?.swap_remove(0);
    subjects.push(Subject { name: magika.name.to_owned(), onnx, inputs });
    Ok(subjects)
}

/// A refit mode of the matrix, with all that its cells are held against.
struct Mode {
    flags: EngineFlags,
    /// The full build.
    base: Engine,
    /// The full build with other weights.
    other: Engine,
    /// The weights of the build.
    own: MapSource,
    /// The other weights: all of them, or those that may change.
    new: MapSource,
}

/// What came of a matrix.
pub struct Outcome {
    /// The table, the same on every machine.
    pub table: String,
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not, in words.
    pub failures: Vec<String>,
    /// Checks that a GPU would have had, where there is none.
    pub skipped: usize,
}

/// The scenarios of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    Run,
    Fill,
    Refit,
}

/// The module paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Path {
    Live,
    Packed,
}

/// Evaluates one model on `devices`.
pub fn evaluate(
    subject: &Subject,
    devices: &[Device],
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let mut matrix = Matrix {
        subject,
        devices,
        references: Vec::new(),
        memo: BTreeMap::new(),
        outcome: Outcome::new(),
    };
    let modes = modes(subject)?;
    matrix.references = references(subject, devices, &modes)?;
    matrix.compare_devices(&modes);
    writeln!(matrix.outcome.table, "{}", subject.name)?;
    write!(matrix.outcome.table, "{:<6}", "")?;
    for wish in wishes() {
        write!(matrix.outcome.table, " {:<28}", letters(wish.bits().into(), "xrc"))?;
    }
    writeln!(matrix.outcome.table)?;
    for bits in 0..=EngineFlags::all().bits() {
        let flags = EngineFlags::from_bits_truncate(bits);
        let engine = engine_with(flags, &modes);
        let cells: Vec<String> =
            wishes().map(|wish| matrix.cell(&engine, flags, wish, &modes)).collect();
        let row: String = match cells.iter().all(|cell| *cell == cells[0]) {
            true => format!(" {} whatever the wish", cells[0]),
            false => cells.iter().map(|cell| format!(" {cell:<28}")).collect(),
        };
        writeln!(matrix.outcome.table, "{:<6}{}", letters(bits, "RINXC"), row.trim_end())?;
    }
    Ok(matrix.outcome)
}

impl Outcome {
    fn new() -> Self {
        Self { table: String::new(), passed: 0, failures: Vec::new(), skipped: 0 }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if holds {
            self.passed += 1;
        } else {
            self.failures.push(what());
        }
    }
}

fn wishes() -> impl Iterator<Item = SerializeFlags> {
    (0..=SerializeFlags::all().bits()).map(SerializeFlags::from_bits_truncate)
}

/// One letter a flag, in the order of the bits.
fn letters(bits: u64, alphabet: &str) -> String {
    let set: String =
        alphabet.chars().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, c)| c).collect();
    if set.is_empty() { "-".to_owned() } else { set }
}

fn engine_of(onnx: &[u8], options: &BuildOptions) -> Result<Engine, Box<dyn std::error::Error>> {
    Ok(build(&Model::parse(onnx.to_vec().into(), None)?, options)?)
}

/// The four ways to build the model, each also with other weights.
fn modes(subject: &Subject) -> Result<Vec<Mode>, Box<dyn std::error::Error>> {
    let all = engine_of(&subject.onnx, &BuildOptions::default())?;
    // Every second weight may change under REFIT_INDIVIDUAL.
    let strippable = all.parts().weights.iter().filter(|w| w.is_strippable());
    let some: Vec<String> = strippable.step_by(2).map(|w| w.name.clone()).collect();
    let with = |refit, refit_only: &[String]| BuildOptions {
        refit,
        refit_only: refit_only.iter().map(|name| glob_of(name)).collect(),
        ..BuildOptions::default()
    };
    let modes = [
        (EngineFlags::empty(), with(RefitMode::None, &[])),
        (EngineFlags::REFIT, with(RefitMode::All, &[])),
        (EngineFlags::REFIT_IDENTICAL, with(RefitMode::Identical, &[])),
        (EngineFlags::REFIT_INDIVIDUAL, with(RefitMode::All, &some)),
    ];
    let mode = |(flags, options): (EngineFlags, BuildOptions)| {
        let chosen =
            |name: &str| flags != EngineFlags::REFIT_INDIVIDUAL || some.iter().any(|s| s == name);
        let base = engine_of(&subject.onnx, &options)?;
        let other = engine_of(&graphs::with_other_weights(&subject.onnx, &chosen), &options)?;
        let weights = |engine: &Engine| -> MapSource {
            let weights = engine.parts().weights.iter();
            weights.filter_map(|w| Some((w.name.clone(), w.tensor()?))).collect()
        };
        Ok(Mode { flags, own: weights(&base), new: weights(&other), base, other })
    };
    modes.into_iter().map(mode).collect()
}

/// A pattern that matches `name` and nothing else.
fn glob_of(name: &str) -> String {
    name.chars()
        .map(|c| if "*?[]".contains(c) { format!("[{c}]") } else { c.to_string() })
        .collect()
}

/// An engine with these very flags, or why there is none.
fn engine_with(flags: EngineFlags, modes: &[Mode]) -> Result<Engine, FormatError> {
    let packing = EngineFlags::EXCLUDE_WEIGHTS | EngineFlags::COMPRESSED;
    let Some(mode) = modes.iter().find(|mode| mode.flags == flags - packing) else {
        let mut parts = modes[0].base.parts().clone();
        parts.flags = flags;
        return Engine::new(parts);
    };
    let mut wish = SerializeFlags::INCLUDE_REFIT;
    wish.set(SerializeFlags::EXCLUDE_WEIGHTS, flags.contains(EngineFlags::EXCLUDE_WEIGHTS));
    wish.set(SerializeFlags::COMPRESS, flags.contains(EngineFlags::COMPRESSED));
    Engine::read(mode.base.serialize(wish)?.into())
}

/// Outputs of the fresh builds on one device.
struct Reference {
    own: Tensors,
    other: Tensors,
}

/// For each device, for each mode, what a fresh build gives: through `LiveModule`, with nothing filled or refitted.
fn references(
    subject: &Subject,
    devices: &[Device],
    modes: &[Mode],
) -> Result<Vec<Vec<Reference>>, Box<dyn std::error::Error>> {
    let outputs =
        |engine: &Engine, device: &Device| -> Result<Tensors, Box<dyn std::error::Error>> {
            Ok(LiveModule::load(engine.clone(), device)?.run(&subject.inputs)?.tensors)
        };
    let of_device = |device: &Device| {
        let reference = |mode: &Mode| {
            Ok(Reference {
                own: outputs(&mode.base, device)?,
                other: outputs(&mode.other, device)?,
            })
        };
        modes.iter().map(reference).collect()
    };
    devices.iter().map(of_device).collect()
}

struct Matrix<'a> {
    subject: &'a Subject,
    devices: &'a [Device],
    references: Vec<Vec<Reference>>,
    /// Runs are made once for the same bytes.
    memo: BTreeMap<(Digest, Path, usize, Scenario), String>,
    outcome: Outcome,
}

impl Matrix<'_> {
    /// Devices agree by tolerance on every reference, and other weights give other outputs.
    fn compare_devices(&mut self, modes: &[Mode]) {
        for (i, mode) in modes.iter().enumerate() {
            let first = &self.references[0][i];
            let name = &self.subject.name;
            self.outcome.check(first.own != first.other, || {
                format!("{name}: other weights change nothing")
            });
            for (device, references) in self.devices.iter().zip(&self.references) {
                let found = references[i].own.values().chain(references[i].other.values());
                for (found, (output, expected)) in found.zip(first.own.iter().chain(&first.other)) {
                    let agreement = compare(found, expected, BETWEEN_DEVICES);
                    self.outcome.check(agreement.is_ok(), || {
                        format!("{name}, {:?}: {output} on {device} and on the first device: {agreement:?}", mode.flags)
                    });
                }
            }
        }
    }

    fn cell(
        &mut self,
        engine: &Result<Engine, FormatError>,
        flags: EngineFlags,
        wish: SerializeFlags,
        modes: &[Mode],
    ) -> String {
        let place = format!("{}, {flags:?}, {wish:?}", self.subject.name);
        let bytes =
            match engine.as_ref().map_err(Clone::clone).and_then(|engine| engine.serialize(wish)) {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) => {
                    let refused = expected_refusal(flags, wish);
                    self.outcome.check(refused == Some(error.kind()), || {
                        format!("{place}: refused with {error}")
                    });
                    return format!("!{}", kind_name(error.kind()));
                }
            };
        self.outcome.check(expected_refusal(flags, wish).is_none(), || format!("{place}: written"));
        let packing = EngineFlags::EXCLUDE_WEIGHTS | EngineFlags::COMPRESSED;
        let built_as = modes
            .iter()
            .position(|mode| mode.flags == flags - packing)
            .expect("an engine was built");
        let written = match Engine::read(bytes.clone()) {
            Ok(engine) => engine.flags(),
            Err(error) => {
                self.outcome
                    .check(false, || format!("{place}: what was written does not read: {error}"));
                return "unreadable".to_owned();
            }
        };
        let expected =
            [Scenario::Run, Scenario::Fill, Scenario::Refit].map(|s| expected_class(written, s));
        for path in [Path::Live, Path::Packed] {
            // The devices are the CPU and, if there is one, a GPU.
            self.outcome.skipped += expected.len() * 2usize.saturating_sub(self.devices.len());
            for device in 0..self.devices.len() {
                for (scenario, expected) in
                    [Scenario::Run, Scenario::Fill, Scenario::Refit].into_iter().zip(expected)
                {
                    let found =
                        self.scenario(&bytes, path, device, scenario, built_as, &modes[built_as]);
                    let on = &self.devices[device];
                    self.outcome.check(found == expected, || {
                        format!("{place}: {scenario:?} through {path:?} on {on}: expected {expected}, found {found}")
                    });
                }
            }
        }
        format!("{}: {}", letters(written.bits(), "RINXC"), expected.join(" "))
    }

    fn scenario(
        &mut self,
        bytes: &Bytes,
        path: Path,
        device: usize,
        scenario: Scenario,
        built_as: usize,
        mode: &Mode,
    ) -> String {
        let key = (Digest::of(bytes), path, device, scenario);
        if let Some(found) = self.memo.get(&key) {
            return found.clone();
        }
        let found = self.run(bytes, path, device, scenario, built_as, mode);
        self.memo.insert(key, found.clone());
        found
    }

    fn run(
        &self,
        bytes: &Bytes,
        path: Path,
        device: usize,
        scenario: Scenario,
        built_as: usize,
        mode: &Mode,
    ) -> String {
        let module = match load(bytes, path, &self.devices[device]) {
            Ok(module) => module,
            Err(why) => return why,
        };
        let reference = &self.references[device][built_as];
        let (source, outputs, fresh) = match scenario {
            Scenario::Run => (None, &reference.own, &mode.base),
            Scenario::Fill => (Some(&mode.own), &reference.own, &mode.base),
            Scenario::Refit => (Some(&mode.new), &reference.other, &mode.other),
        };
        let before = module.state();
        if let Some(source) = source
            && let Err(error) = module.refit(source, FitPolicy::default())
        {
            return match module.state() == before {
                true => refusal(&error).to_owned(),
                false => format!("a failed refit changed the state: {error}"),
            };
        }
        match module.run(&self.subject.inputs) {
            Err(error) if error.kind() == RunErrorKind::MissingWeights => {
                let named =
                    matches!(&before, State::NeedsWeights(names) if names == error.details());
                if named {
                    "missing".to_owned()
                } else {
                    format!("not all missing weights are named: {error}")
                }
            }
            Err(error) => error.to_string(),
            Ok(found) if found.tensors != *outputs => "other outputs than a fresh build".to_owned(),
            Ok(found) if Some(found.version) != fresh.version() => {
                "another version than a fresh build".to_owned()
            }
            Ok(_) => match same_file(&*module, fresh) {
                true if scenario == Scenario::Refit => "=B".to_owned(),
                true => "=A".to_owned(),
                false => "another file than a fresh build".to_owned(),
            },
        }
    }
}

fn load(bytes: &Bytes, path: Path, device: &Device) -> Result<Box<dyn Module>, String> {
    Ok(match path {
        Path::Live => {
            let engine = Engine::read(bytes.clone()).map_err(|e| e.to_string())?;
            Box::new(LiveModule::load(engine, device).map_err(|e| e.to_string())?)
        }
        Path::Packed => {
            Box::new(PackedModule::load(bytes.clone(), device).map_err(|e| e.to_string())?)
        }
    })
}

/// Whether a module writes the file that a fresh build writes, as far as its flags allow: a file that was written
/// without `INCLUDE_REFIT` is frozen for good, and is compared with the fresh build written so.
fn same_file(module: &dyn Module, fresh: &Engine) -> bool {
    let frozen = module.flags().is_frozen();
    let wish = if frozen { SerializeFlags::empty() } else { SerializeFlags::INCLUDE_REFIT };
    match (module.serialize(wish), fresh.serialize(wish)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// What a written file is expected to do: the rules of the design, restated without looking at the implementation.
fn expected_class(written: EngineFlags, scenario: Scenario) -> &'static str {
    let stripped = written.contains(EngineFlags::EXCLUDE_WEIGHTS);
    match scenario {
        Scenario::Run if stripped => "missing",
        Scenario::Run => "=A",
        _ if written.is_frozen() => "frozen",
        Scenario::Fill => "=A",
        Scenario::Refit if written.contains(EngineFlags::REFIT_IDENTICAL) => "unfit",
        Scenario::Refit => "=B",
    }
}

/// Which error a triple is expected to give instead of a file.
fn expected_refusal(flags: EngineFlags, wish: SerializeFlags) -> Option<FormatErrorKind> {
    let mode = flags - EngineFlags::EXCLUDE_WEIGHTS - EngineFlags::COMPRESSED;
    let (stripped, strip) = (
        flags.contains(EngineFlags::EXCLUDE_WEIGHTS),
        wish.contains(SerializeFlags::EXCLUDE_WEIGHTS),
    );
    match mode.bits().count_ones() {
        2.. => Some(FormatErrorKind::InvalidFlags),
        // A frozen engine cannot be stripped, so there is none to serialize either.
        0 if stripped || strip => Some(FormatErrorKind::NotRefittable),
        1 if stripped && !strip => Some(FormatErrorKind::MissingWeights),
        _ => None,
    }
}

fn kind_name(kind: FormatErrorKind) -> String {
    format!("{kind:?}")
}

fn refusal(error: &RefitError) -> &'static str {
    match error {
        RefitError::Fit(fit) => match fit.kind() {
            FormatErrorKind::NotRefittable => "frozen",
            _ => "unfit",
        },
        _ => "an error that is not about the fit",
    }
}
