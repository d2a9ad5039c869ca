//! The flag matrix: every engine flag × every option of saving × both module paths × every device × every scenario.
//!
//! For each triple the file is written (or refused), then, on each path and device, taken through every scenario of
//! [`engine_verify::scenario`]. Outputs are held bit for bit against fresh builds on the same device, and between devices by tolerance.
//! Nothing in the tables depends on the machine: a cell names classes, not values. That the matrix sees what it is there to see is
//! what [`canaries`](crate::canaries) prove.

use crate::{graphs, models};
use engine_builder::{BuildOptions, Precision, RefitMode, build};
use engine_format::{
    Bytes, Digest, Engine, EngineFlags, FormatError, FormatErrorKind, MapSource, SerializeFlags,
};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{Device, Values};
use engine_verify::inputs::{self, Freedom};
use engine_verify::scenario::{Path, SCENARIOS, Scenario, Stack, Trial, Versions, Which};
use engine_verify::verify::flat;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// How far devices may differ on the models of the matrix.
const BETWEEN_DEVICES: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

/// What the letters of a cell mean; printed above the table.
pub const LEGEND: &str = "\
row    flags of the engine: R REFIT, I REFIT_IDENTICAL, N REFIT_INDIVIDUAL, X EXCLUDE_WEIGHTS, C COMPRESSED, - none
column options of saving:  x EXCLUDE_WEIGHTS, r INCLUDE_REFIT, c COMPRESS, - none
cell   the written file's flags, then what three scenarios give on every path and device:
         run as it is, fill with the weights of the build, refit with other weights
       =A the outputs of a fresh build, bit for bit; =B those of a fresh build with the other weights (and so are the
       file's bytes afterwards); missing: refused, the weights are named; frozen: no weight may change; unfit: other values are
       not accepted. !kind: the file itself is refused.";

/// What the words of the table of scenarios mean; printed above it.
pub const SCENARIO_LEGEND: &str = "\
Every file of every cell goes through every scenario, on every path and device; of Magika only REFIT's do, the others and MiniLM's
through those of the cells. Under the flags of a file, compressed or not, what each step gives: as in the cells; =C a fresh build with every second of the other weights, =N one with NaNs among its
weights, =L one with an adapter merged into them; extra, shape, dtype: what the source brings does not fit; source: it breaks off; dropped: the module gave up its
sources; nothing: there are no weights to go back to. What is refused changes nothing.";

/// The table of scenarios: what their steps give follows from the flags of a file alone.
pub fn scenarios() -> String {
    const MODES: [EngineFlags; 4] = [
        EngineFlags::empty(),
        EngineFlags::REFIT,
        EngineFlags::REFIT_IDENTICAL,
        EngineFlags::REFIT_INDIVIDUAL,
    ];
    let stripped =
        |mode: EngineFlags| (!mode.is_empty()).then_some(mode | EngineFlags::EXCLUDE_WEIGHTS);
    let files = MODES.into_iter().flat_map(|mode| std::iter::once(mode).chain(stripped(mode)));
    let table = |file: EngineFlags| {
        let row = |scenario: &Scenario| {
            let words = words(scenario, file);
            format!("    {:<18} {words:<42} {}\n", scenario.name, scenario.shows)
        };
        let rows: String = SCENARIOS.iter().map(row).collect();
        format!("{}\n{rows}", letters(file.bits(), "RINXC"))
    };
    files.map(table).collect::<Vec<_>>().join("\n")
}

/// What the steps of a scenario give.
fn words(scenario: &Scenario, file: EngineFlags) -> String {
    let words: Vec<String> = scenario.expected(file).iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// A model of the matrix.
pub struct Subject {
    /// Short name.
    pub name: String,
    onnx: Vec<u8>,
    inputs: Values,
    precision: Precision,
    depth: Depth,
}

/// How far the files of a model are taken. Refits and files of real models take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Through every scenario.
    Every,
    /// Through every scenario where any weights are taken, and else through those that cells name.
    Refittable,
    /// Through those that cells name.
    Cells,
}

impl Subject {
    /// A hand-made graph with made-up inputs.
    fn of(sketch: &graphs::Sketch) -> Result<Self, Box<dyn std::error::Error>> {
        let onnx = (sketch.onnx)();
        let engine = engine_of(&onnx, &BuildOptions::default())?;
        let ports = &engine.parts().inputs;
        let sizes = inputs::Sizes::from([("batch".to_owned(), 3), ("n".to_owned(), 2)]);
        let inputs =
            inputs::seeded(ports, &Values::new(), &sizes, Freedom { size: 4, integers: 10 }, 1)?;
        let (name, precision) = (sketch.name.to_owned(), Precision::F32);
        Ok(Self { name, onnx, inputs, precision, depth: Depth::Every })
    }

    /// The scenarios that a file with these flags goes through.
    fn scenarios(&self, file: EngineFlags) -> &'static [Scenario] {
        let takes_any = file - EngineFlags::EXCLUDE_WEIGHTS == EngineFlags::REFIT;
        match self.depth {
            Depth::Every => &SCENARIOS,
            Depth::Refittable if takes_any => &SCENARIOS,
            Depth::Refittable | Depth::Cells => &SCENARIOS[..IN_CELLS],
        }
    }
}

/// How many of the scenarios stand in the cells.
const IN_CELLS: usize = 3;

/// The hand-made graphs.
pub fn sketches() -> Result<Vec<Subject>, Box<dyn std::error::Error>> {
    graphs::SKETCHES.iter().map(Subject::of).collect()
}

/// Hand-made graphs whose weights are rounded.
const ROUNDED: [(&str, &str, Precision); 2] =
    [("f16", "mlp", Precision::F16), ("bf16", "blocked", Precision::BF16)];

fn rounded() -> impl Iterator<Item = Result<Subject, Box<dyn std::error::Error>>> {
    ROUNDED.into_iter().flat_map(|(name, of, precision)| {
        let sketches = graphs::SKETCHES.iter().filter(move |sketch| sketch.name == of);
        sketches.map(move |sketch| {
            Ok(Subject { name: name.to_owned(), precision, ..Subject::of(sketch)? })
        })
    })
}

/// The real models of the matrix: how far their files are taken.
const REAL: [(&str, Depth); 2] = [("magika", Depth::Refittable), ("minilm-int8", Depth::Cells)];

/// The hand-made graphs, those whose weights are rounded, then Magika and MiniLM.
pub fn subjects() -> Result<Vec<Subject>, Box<dyn std::error::Error>> {
    let mut subjects = sketches()?;
    subjects.extend(rounded().collect::<Result<Vec<_>, _>>()?);
    for (name, depth) in REAL {
        let case = models::MODELS.iter().find(|case| case.name == name);
        let case = case.ok_or_else(|| format!("there is no model {name}"))?;
        let onnx = std::fs::read(case.asset.path()?)?;
        let inputs = (case.runs)()?.swap_remove(0);
        let inputs = inputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
        let (name, precision) = (name.to_owned(), Precision::F32);
        subjects.push(Subject { name, onnx, inputs, precision, depth });
    }
    Ok(subjects)
}

/// A refit mode of the matrix, with all that its cells are held against.
struct Mode {
    flags: EngineFlags,
    /// The full build.
    base: Engine,
    /// The full build with other weights.
    other: Engine,
    /// The versions of both, for each device.
    versions: Vec<Versions>,
}

/// A check that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The model.
    pub subject: String,
    /// The scenario, or what else was checked.
    pub scenario: &'static str,
    /// Which engine, file, path and device, and what was found there.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.subject, self.scenario, self.what)
    }
}

/// What came of a matrix.
pub struct Outcome {
    /// The table, the same on every machine.
    pub table: String,
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failures: Vec<Failure>,
    /// Checks that a GPU would have had, where there is none.
    pub skipped: usize,
}

/// Evaluates one model on `devices`, through `stack`, which is [`ThisStack`](engine_verify::scenario::ThisStack) or has a fault in it.
pub fn evaluate(
    subject: &Subject,
    devices: &[Device],
    stack: &dyn Stack,
) -> Result<Outcome, Box<dyn std::error::Error>> {
    let modes = modes(subject, devices)?;
    let outcome = Outcome { table: String::new(), passed: 0, failures: Vec::new(), skipped: 0 };
    let memo = BTreeMap::new();
    let mut matrix = Matrix { subject, devices, stack, modes: &modes, memo, outcome };
    matrix.compare_devices();
    matrix.compare_stripped();
    writeln!(matrix.outcome.table, "{}", subject.name)?;
    write!(matrix.outcome.table, "{:<6}", "")?;
    for options in all_options() {
        write!(matrix.outcome.table, " {:<28}", letters(options.bits().into(), "xrc"))?;
    }
    writeln!(matrix.outcome.table)?;
    for bits in 0..=(EngineFlags::all() - EngineFlags::PRECISIONS).bits() {
        let flags = EngineFlags::from_bits_truncate(bits) | subject.precision.flag();
        let engine = matrix.engine_with(flags);
        let cells: Vec<String> =
            all_options().map(|options| matrix.cell(&engine, flags, options)).collect();
        let row: String = match cells.iter().all(|cell| *cell == cells[0]) {
            true => format!(" {} whatever the options", cells[0]),
            false => cells.iter().map(|cell| format!(" {cell:<28}")).collect(),
        };
        writeln!(matrix.outcome.table, "{:<6}{}", letters(bits, "RINXC"), row.trim_end())?;
    }
    Ok(matrix.outcome)
}

fn all_options() -> impl Iterator<Item = SerializeFlags> {
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
fn modes(subject: &Subject, devices: &[Device]) -> Result<Vec<Mode>, Box<dyn std::error::Error>> {
    let precision = subject.precision;
    let all = engine_of(&subject.onnx, &BuildOptions { precision, ..BuildOptions::default() })?;
    // Every second weight may change under REFIT_INDIVIDUAL.
    let strippable = all.parts().weights.iter().filter(|w| w.is_strippable());
    let some: Vec<String> = strippable.step_by(2).map(|w| w.name.clone()).collect();
    let with = |refit, refit_only: &[String]| BuildOptions {
        refit,
        refit_only: refit_only.iter().map(|name| glob_of(name)).collect(),
        precision,
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
        let rows = other.parts().weights.iter();
        let new: MapSource = rows.filter_map(|w| Some((w.name.clone(), w.tensor()?))).collect();
        let versions = |device| Versions::new(&base, &new, Some(&other), device, &subject.inputs);
        let versions = devices.iter().map(versions).collect::<Result<_, _>>()?;
        Ok(Mode { flags: flags | precision.flag(), base, other, versions })
    };
    modes.into_iter().map(mode).collect()
}

/// A pattern that matches `name` and nothing else.
fn glob_of(name: &str) -> String {
    name.chars()
        .map(|c| if "*?[]".contains(c) { format!("[{c}]") } else { c.to_string() })
        .collect()
}

/// Flags that say how a file is written, and not what may be done with it.
const PACKING: EngineFlags = EngineFlags::EXCLUDE_WEIGHTS.union(EngineFlags::COMPRESSED);

struct Matrix<'a> {
    subject: &'a Subject,
    devices: &'a [Device],
    stack: &'a dyn Stack,
    modes: &'a [Mode],
    /// Scenarios are gone through once for the same bytes.
    memo: BTreeMap<(Digest, Path, usize, &'static str), Result<(), String>>,
    outcome: Outcome,
}

impl Matrix<'_> {
    fn check(&mut self, holds: bool, scenario: &'static str, what: impl FnOnce() -> String) {
        if holds {
            self.outcome.passed += 1;
            return;
        }
        let (subject, what) = (self.subject.name.clone(), what());
        self.outcome.failures.push(Failure { subject, scenario, what });
    }

    /// Devices agree by tolerance on every fresh build, and other weights give other outputs.
    fn compare_devices(&mut self) {
        let outputs = |versions: &Versions, which| {
            versions.outputs(which).map(|outputs| flat(outputs.clone())).unwrap_or_default()
        };
        for mode in self.modes {
            let [own, other] = [Which::A, Which::B].map(|w| outputs(&mode.versions[0], w));
            self.check(own != other, "other weights", || {
                format!("{:?}: they change nothing", mode.flags)
            });
            for (device, versions) in self.devices.iter().zip(&mode.versions) {
                for (which, first) in [(Which::A, &own), (Which::B, &other)] {
                    let found = outputs(versions, which);
                    for (output, expected) in first {
                        let agreement = compare(&found[output], expected, BETWEEN_DEVICES);
                        self.check(agreement.is_ok(), "devices", || {
                            let flags = mode.flags;
                            format!("{flags:?}: {output} on {device} and on the first device: {agreement:?}")
                        });
                    }
                }
            }
        }
    }

    /// Builds that differ in weights alone strip to the same bytes, unless digests tell their weights.
    fn compare_stripped(&mut self) {
        let options = SerializeFlags::EXCLUDE_WEIGHTS;
        let takes_any = EngineFlags::REFIT | EngineFlags::REFIT_INDIVIDUAL;
        for mode in self.modes.iter().filter(|mode| mode.flags.intersects(takes_any)) {
            let engines = [&mode.base, &mode.other];
            let [base, other] = engines.map(|engine| self.stack.serialize(engine, options));
            self.check(base.is_ok() && base == other, "stripped files", || {
                format!("{:?}: builds with other weights strip to other bytes", mode.flags)
            });
        }
    }

    /// An engine with these very flags, or why there is none.
    fn engine_with(&self, flags: EngineFlags) -> Result<Engine, FormatError> {
        let Some(mode) = self.modes.iter().find(|mode| mode.flags == flags - PACKING) else {
            let mut parts = self.modes[0].base.parts().clone();
            parts.flags = flags;
            return Engine::new(parts);
        };
        let mut options = SerializeFlags::INCLUDE_REFIT;
        options.set(SerializeFlags::EXCLUDE_WEIGHTS, flags.contains(EngineFlags::EXCLUDE_WEIGHTS));
        options.set(SerializeFlags::COMPRESS, flags.contains(EngineFlags::COMPRESSED));
        self.stack.read(self.stack.serialize(&mode.base, options)?.into())
    }

    fn cell(
        &mut self,
        engine: &Result<Engine, FormatError>,
        flags: EngineFlags,
        options: SerializeFlags,
    ) -> String {
        let place = format!("{flags:?}, {options:?}");
        let written = engine.as_ref().map_err(Clone::clone);
        let written = written.and_then(|engine| {
            let bytes = Bytes::from(self.stack.serialize(engine, options)?);
            Ok((self.stack.read(bytes.clone())?.flags(), bytes))
        });
        let expected = expected_file(flags, options);
        let found = written.as_ref().map(|(flags, _)| *flags).map_err(|error| error.kind());
        self.check(found == expected, "flags", || {
            format!("{place}: expected {expected:?}, found {written:?}")
        });
        let (written, bytes) = match written {
            Ok(written) => written,
            Err(error) => return format!("!{:?}", error.kind()),
        };
        let Some(mode) = self.modes.iter().position(|mode| mode.flags == flags - PACKING) else {
            return "no engine has these flags".to_owned();
        };
        // The devices are the CPU and, if there is one, a GPU.
        let absent = 2usize.saturating_sub(self.devices.len());
        let scenarios = self.subject.scenarios(written);
        self.outcome.skipped += absent * Path::ALL.len() * scenarios.len();
        for (path, device) in
            Path::ALL.into_iter().flat_map(|path| (0..self.devices.len()).map(move |d| (path, d)))
        {
            for scenario in scenarios {
                let held = self.hold(scenario, (&bytes, written), path, device, mode);
                let on = &self.devices[device];
                let what = held.err().map(|what| format!("{place}: {path:?} on {on}: {what}"));
                self.check(what.is_none(), scenario.name, || what.unwrap_or_default());
            }
        }
        let told: Vec<String> = SCENARIOS[..IN_CELLS].iter().map(|s| words(s, written)).collect();
        format!("{}: {}", letters(written.bits(), "RINXC"), told.join(" "))
    }

    fn hold(
        &mut self,
        scenario: &Scenario,
        (bytes, flags): (&Bytes, EngineFlags),
        path: Path,
        device: usize,
        mode: usize,
    ) -> Result<(), String> {
        let key = (Digest::of(bytes), path, device, scenario.name);
        if let Some(held) = self.memo.get(&key) {
            return held.clone();
        }
        let trial = Trial {
            stack: self.stack,
            device: &self.devices[device],
            inputs: &self.subject.inputs,
            versions: &self.modes[mode].versions[device],
        };
        let held = trial.hold(scenario, bytes, flags, path);
        self.memo.insert(key, held.clone());
        held
    }
}

/// The flags of the file that a triple is expected to give, or the error instead: the rules of the design, restated without looking at the
/// implementation.
fn expected_file(
    flags: EngineFlags,
    options: SerializeFlags,
) -> Result<EngineFlags, FormatErrorKind> {
    let (mode, precision) = ((flags - PACKING).refit_mode(), flags.precision());
    let stripped = flags.contains(EngineFlags::EXCLUDE_WEIGHTS);
    let strips = options.contains(SerializeFlags::EXCLUDE_WEIGHTS);
    let mut file = match mode.bits().count_ones() {
        2.. => return Err(FormatErrorKind::InvalidFlags),
        // A frozen engine cannot be stripped, so there is none to serialize either.
        0 if stripped || strips => return Err(FormatErrorKind::NotRefittable),
        1 if stripped && !strips => return Err(FormatErrorKind::MissingWeights),
        _ if strips => mode | EngineFlags::EXCLUDE_WEIGHTS,
        _ if options.contains(SerializeFlags::INCLUDE_REFIT) => mode,
        _ => EngineFlags::empty(),
    };
    file |= precision;
    file.set(EngineFlags::COMPRESSED, options.contains(SerializeFlags::COMPRESS));
    Ok(file)
}
