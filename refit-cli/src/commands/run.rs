//! `refit run`: runs an engine once.

use super::{human, open_filled, open_on, remark_on_cpu};
use crate::args::{Path as ModulePath, Run};
use crate::failure::{Context, Failure};
use crate::inputs::prepare;
use crate::output::{give, remark, say};
use crate::results::{Destination, Place, named_apart};
use engine_format::{Engine, Port, SerializeFlags, Tensor};
use engine_runtime::{
    Device, LiveModule, Module, Outputs, PackedModule, RunOptions, Value, Values,
};
use engine_verify::Fill;
use engine_verify::inputs::run_made;
use refit::FitSummary;
use serde::Serialize;
use std::path::PathBuf;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    path: &'static str,
    version: String,
    milliseconds: f64,
    random_inputs: Vec<String>,
    /// What was taken from the sources of weights, and what was kept; null if there are none.
    fit: Option<FitSummary>,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    /// The output's name; element 3 of a sequence is `NAME.3`.
    name: String,
    dtype: String,
    shape: Vec<usize>,
    #[serde(skip)]
    bytes: u64,
    file: Option<PathBuf>,
    /// What it is called in a file that holds several.
    tensor: Option<String>,
}

pub fn run(args: Run) -> Result<(), Failure> {
    let (engine, fit) = open_filled(&args.file, &args.weights)?;
    let device = open_on(&args.device)?;
    let module = load(engine, &device, args.path)?;
    if let engine_runtime::State::NeedsWeights(_) = module.state() {
        // Running names the weights that are missing.
        module
            .run_with(&Values::new(), &RunOptions::default())
            .doing(format!("running {}", args.file.display()))?;
    }
    let prepared = prepare(module.inputs(), &args.inputs)?;
    // What cannot be written is known before anything is calculated.
    let out = args.out.as_deref().map(|out| Destination::new(out, module.outputs())).transpose()?;
    let done = run_made(&*module, &prepared.given, &prepared.recipe)?;
    for name in &done.made {
        let how = match prepared.recipe.fills.get(name) {
            Some(Fill::Constant(value)) => format!("all {value}"),
            Some(Fill::Normal) => format!("normal random of seed {}", args.inputs.seed),
            Some(Fill::Uniform) => format!("random of seed {}", args.inputs.seed),
            None => format!("not given, random of seed {}", args.inputs.seed),
        };
        remark!("input {name} {}: {how}", done.inputs[name]);
    }
    remark_on_cpu(&*module);
    let outputs = done.outputs;
    let tensors = module.outputs().iter().flat_map(|port| tensors_of(port, &outputs));
    let (names, tensors): (Vec<String>, Vec<&Tensor>) = tensors.unzip();
    let names = named_apart(&names, |name| name.to_owned());
    let places: Vec<Option<Place>> = match &out {
        Some(out) => out.write(&names, &tensors)?.into_iter().map(Some).collect(),
        None => vec![None; names.len()],
    };
    let reported = names.into_iter().zip(tensors).zip(places).map(|((name, tensor), place)| {
        let (file, name_there) = place.unzip();
        let tensor_there = name_there.flatten();
        OutputReport {
            name,
            dtype: tensor.dtype().to_string(),
            shape: tensor.shape().to_vec(),
            bytes: tensor.bytes().len() as u64,
            file,
            tensor: tensor_there,
        }
    });
    let report = Report {
        device: module.device().to_string(),
        path: match args.path {
            ModulePath::Live => "live",
            ModulePath::Packed => "packed",
        },
        version: outputs.version.to_string(),
        milliseconds: done.time.as_secs_f64() * 1e3,
        random_inputs: done.made,
        fit: fit.as_ref().map(FitSummary::from),
        outputs: reported.collect(),
    };
    give(&report, None, || print(&report))
}

/// The tensors of an output by name: element 3 of a sequence is `NAME.3`, and of an absent value there is none.
fn tensors_of<'a>(port: &Port, outputs: &'a Outputs) -> Vec<(String, &'a Tensor)> {
    if let Some(tensor) = outputs.tensors.get(&port.name) {
        return vec![(port.name.clone(), tensor)];
    }
    match outputs.structures.get(&port.name) {
        Some(Value::Tensor(tensor)) => vec![(port.name.clone(), tensor)],
        Some(Value::Sequence(elements)) => {
            let named = |(i, tensor)| (format!("{}.{i}", port.name), tensor);
            elements.iter().enumerate().map(named).collect()
        }
        // No output was asked to stay on the device.
        Some(Value::Absent | Value::OnDevice(_)) | None => Vec::new(),
    }
}

/// Loads an engine by the path asked for.
pub fn load(engine: Engine, device: &Device, path: ModulePath) -> Result<Box<dyn Module>, Failure> {
    Ok(match path {
        ModulePath::Live => Box::new(LiveModule::load(engine, device)?),
        ModulePath::Packed => {
            let mut options = SerializeFlags::INCLUDE_REFIT;
            options.set(SerializeFlags::EXCLUDE_WEIGHTS, !engine.is_full());
            Box::new(PackedModule::load(engine.serialize(options)?.into(), device)?)
        }
    })
}

fn print(report: &Report) {
    say!(
        "{} on {} in {:.2} ms, weights {}",
        report.path,
        report.device,
        report.milliseconds,
        report.version
    );
    for OutputReport { name, dtype, shape, bytes, file, .. } in &report.outputs {
        let place = file.as_ref().map_or_else(String::new, |file| format!(" → {}", file.display()));
        say!("  {name} {dtype}{shape:?}, {}{place}", human(*bytes));
    }
}
