//! Real architectures through every way that PyTorch has to export them: bound to their checkpoints, refitted, and proven by mutation.
//!
//! `export/zoo.py` holds the architectures as data and says what the framework makes of other weights, and of which tensors it notices a
//! change. An engine has to do the same: moving a tensor of the checkpoint moves its outputs exactly if it moves the framework's. And no run
//! of a tensor's bytes may be in its stripped file.

use crate::assets::{self, AssetError};
use crate::exports::python;
use crate::leaks;
use crate::oracle::Tensors;
use engine_builder::{Binding, BuildErrorKind, BuildOptions, build_bound};
use engine_format::{Engine, FitPolicy, MapSource, SerializeFlags, Tensor, WeightSource};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{Device, LiveModule, Module};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What exporters make of the order of additions.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-4, rtol: 2e-3 };

/// The ways to export.
pub const EXPORTERS: [&str; 4] = ["legacy", "preserve", "dynamo", "dynamo_raw"];

/// What became of one export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is refitted right, and every tensor moves what it moves in the framework. The size of the stripped file in bytes.
    Right(usize),
    /// The binding has open questions: the first.
    Refused(String),
    /// It was accepted and is wrong: how.
    Wrong(String),
    /// PyTorch does not export it in this way, or what it exports does not build without a checkpoint either.
    NotExported,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("export").join("zoo.py")
}

/// The names of the architectures.
///
/// # Errors
/// What the script says.
pub fn architectures() -> Result<Vec<String>, AssetError> {
    let mut command = Command::new(python());
    command.args(["-W", "ignore"]).arg(script()).arg("--list").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().map_err(|error| AssetError::new("zoo.py --list", error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Exports an architecture into `folder` in every way; `fresh` with the zeros and ones of its initialisation.
///
/// # Errors
/// What the script says.
pub fn export(folder: &Path, name: &str, fresh: bool) -> Result<(), AssetError> {
    let mut command = Command::new(python());
    command.args(["-W", "ignore"]).arg(script()).arg(folder).arg(name);
    command.args(fresh.then_some("--fresh")).env("PYTHONDONTWRITEBYTECODE", "1");
    assets::checked(&mut command).map(drop)
}

/// Judges what the builder makes of an architecture in `folder` that was exported in one way.
///
/// # Errors
/// What cannot be read of what the script wrote, or is no answer of the builder: a fault of this suite or a bug.
pub fn judge(folder: &Path, exporter: &str) -> Result<Verdict, Box<dyn std::error::Error>> {
    let model = folder.join(format!("{exporter}.onnx"));
    if !model.exists() {
        return Ok(Verdict::NotExported);
    }
    let export = Export::open(folder, &model)?;
    let options = BuildOptions::default();
    let binding = Binding::to(&export.before);
    let engine = match build_bound(&export.model, &options, &binding) {
        Ok((engine, ..)) => engine,
        Err(error) if error.kind() == BuildErrorKind::Unbound => {
            let text = error.to_string();
            let open =
                text.lines().find(|line| line.contains("not bound ")).or(text.lines().last());
            return Ok(Verdict::Refused(open.unwrap_or_default().trim().to_owned()));
        }
        Err(_) => return Ok(Verdict::NotExported),
    };
    let stripped = engine.strip()?;
    if let Some(how) = export.differs(&stripped)? {
        return Ok(Verdict::Wrong(how));
    }
    let file = stripped.serialize(SerializeFlags::EXCLUDE_WEIGHTS)?;
    Ok(match leaks::held(&file, &export.before)? {
        Some(name) => Verdict::Wrong(format!("the stripped file holds some of {name}")),
        None => Verdict::Right(file.len()),
    })
}

/// What the script wrote of one architecture.
struct Export {
    model: Model,
    before: MapSource,
    after: MapSource,
    inputs: Tensors,
    expected: Tensor,
    /// The tensors whose change the framework notices.
    moves: BTreeSet<String>,
}

fn tensors(path: &Path) -> Result<MapSource, Box<dyn std::error::Error>> {
    let source = refit::open_source(path)?;
    let mut all = MapSource::default();
    for name in source.names() {
        let tensor = source.read(&name)?.ok_or("a tensor that is listed is not there")?;
        all.insert(name, tensor);
    }
    Ok(all)
}

impl Export {
    fn open(folder: &Path, model: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let read = |stem: &str| tensors(&folder.join(format!("{stem}.safetensors")));
        let (given, expected) = (read("inputs")?, read("expected")?);
        let mut inputs = Tensors::new();
        for name in given.names() {
            inputs.extend(given.read(&name)?.map(|tensor| (name, tensor)));
        }
        Ok(Self {
            model: Model::open(model)?,
            before: read("a")?,
            after: read("b")?,
            inputs,
            expected: expected.read("y")?.ok_or("no output y")?,
            moves: std::fs::read_to_string(folder.join("moves.txt"))?
                .lines()
                .map(str::to_owned)
                .collect(),
        })
    }

    fn run(
        &self,
        engine: &Engine,
        weights: &dyn WeightSource,
    ) -> Result<Tensor, Box<dyn std::error::Error>> {
        let filled = engine.fill(weights, FitPolicy::default())?;
        let inputs = filled.parts().inputs.iter();
        // What an exporter found to make no difference is no input of the model.
        let inputs = inputs
            .filter_map(|port| Some((port.name.clone(), self.inputs.get(&port.name)?.clone())));
        let module = LiveModule::load(filled.clone(), &Device::cpu())?;
        let mut outputs = module.run(&inputs.collect())?.tensors;
        outputs.remove("y").ok_or_else(|| "no output y".into())
    }

    /// How an engine that was bound to the first checkpoint differs from the framework with others; `None` if it does not.
    fn differs(&self, stripped: &Engine) -> Result<Option<String>, Box<dyn std::error::Error>> {
        if let Err(mismatch) = compare(&self.run(stripped, &self.after)?, &self.expected, TOLERANCE)
        {
            return Ok(Some(format!("refitted with other weights: {mismatch}")));
        }
        let base = self.run(stripped, &self.before)?;
        for name in self.after.names() {
            let changed = self.after.read(&name)?.ok_or("a tensor that is listed is not there")?;
            if !changed.dtype().is_float() {
                continue;
            }
            let mut weights = self.before.clone();
            weights.insert(name.clone(), changed);
            let moved = differ(&self.run(stripped, &weights)?, &base)?;
            if moved != self.moves.contains(&name) {
                let words =
                    if moved { "moves the engine alone" } else { "moves the framework alone" };
                return Ok(Some(format!("{name} {words}")));
            }
        }
        Ok(None)
    }
}

/// Whether outputs differ by more than rounding, as `export/zoo.py` judges it of the framework's.
fn differ(a: &Tensor, b: &Tensor) -> Result<bool, Box<dyn std::error::Error>> {
    let (a, b) = (a.as_slice::<f32>()?, b.as_slice::<f32>()?);
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |m: f32, x| m.max(x.abs()));
    let difference = largest(&mut a.iter().zip(b).map(|(a, b)| a - b));
    Ok(difference > 1e-5 * largest(&mut b.iter().copied()))
}
