//! `refit run`: runs an engine once.

use super::{human, open_filled, print_json};
use crate::args::{Path as ModulePath, Run};
use crate::failure::{Context, Exit, Failure};
use crate::output::{remark, say};
use conformance::inputs::run_seeded;
use engine_format::{Engine, Port, SerializeFlags, Tensor};
use engine_runtime::{
    Device, LiveModule, Module, Outputs, PackedModule, RunOptions, Value, Values,
};
use refit::npy;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Seed of the inputs that are not given.
const SEED: u64 = 1;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    device: String,
    path: &'static str,
    version: String,
    milliseconds: f64,
    random_inputs: Vec<String>,
    outputs: Vec<OutputReport>,
}

#[derive(Serialize)]
struct OutputReport {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    #[serde(skip)]
    bytes: u64,
    file: Option<PathBuf>,
}

pub fn run(args: Run) -> Result<(), Failure> {
    let engine = open_filled(&args.file, &args.weights)?;
    let device = Device::open(&args.device.device)?;
    let module = load(engine, &device, args.path)?;
    if let engine_runtime::State::NeedsWeights(_) = module.state() {
        // Running names the weights that are missing.
        module
            .run_with(&Values::new(), &RunOptions::default())
            .doing(format!("running {}", args.file.display()))?;
    }
    let inputs = given(module.inputs(), &args.input)?;
    let done = run_seeded(&*module, &inputs, SEED)?;
    for name in &done.made {
        remark!("input {name:?} is not given: seeded random {}", done.inputs[name]);
    }
    let outputs = done.outputs;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).doing(format!("making {}", folder.display()))?;
    }
    let mut report = Report {
        device: module.device().to_string(),
        path: match args.path {
            ModulePath::Live => "live",
            ModulePath::Packed => "packed",
        },
        version: outputs.version.to_string(),
        milliseconds: done.time.as_secs_f64() * 1e3,
        random_inputs: done.made,
        outputs: Vec::new(),
    };
    for port in module.outputs() {
        for (name, tensor) in tensors_of(port, &outputs) {
            let file =
                args.out.as_deref().map(|folder| write_npy(folder, &name, tensor)).transpose()?;
            let (dtype, shape) = (tensor.dtype().to_string(), tensor.shape().to_vec());
            let bytes = tensor.bytes().len() as u64;
            report.outputs.push(OutputReport { name, dtype, shape, bytes, file });
        }
    }
    if args.json {
        print_json(&report)
    } else {
        print(&report);
        Ok(())
    }
}

/// The inputs that were given. A sequence is given element by element, in order.
fn given(ports: &[Port], files: &[(String, PathBuf)]) -> Result<Values, Failure> {
    let mut inputs = Values::new();
    for (name, file) in files {
        let tensor = read_npy(file)?;
        let sequence = ports.iter().any(|port| port.name == *name && port.form.is_sequence());
        match inputs.get_mut(name) {
            Some(Value::Sequence(elements)) => elements.push(tensor),
            Some(_) => {
                let what = format!("input {name:?} is given twice, and is no sequence");
                return Err(Failure::new(Exit::Usage, what));
            }
            None => {
                let value = if sequence { Value::from(vec![tensor]) } else { tensor.into() };
                inputs.insert(name.clone(), value);
            }
        }
    }
    Ok(inputs)
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
        Some(Value::Absent) | None => Vec::new(),
    }
}

/// Loads an engine by the path asked for.
pub fn load(engine: Engine, device: &Device, path: ModulePath) -> Result<Box<dyn Module>, Failure> {
    Ok(match path {
        ModulePath::Live => Box::new(LiveModule::load(engine, device)?),
        ModulePath::Packed => {
            let mut wish = SerializeFlags::INCLUDE_REFIT;
            wish.set(SerializeFlags::EXCLUDE_WEIGHTS, !engine.is_full());
            Box::new(PackedModule::load(engine.serialize(wish)?.into(), device)?)
        }
    })
}

fn read_npy(file: &Path) -> Result<Tensor, Failure> {
    let doing = || format!("reading {}", file.display());
    let bytes = std::fs::read(file).doing(doing())?;
    npy::decode(&bytes.into()).map_err(|error| Failure::new(Exit::File, error).context(doing()))
}

fn write_npy(folder: &Path, name: &str, tensor: &Tensor) -> Result<PathBuf, Failure> {
    let file = folder.join(format!("{}.npy", name.replace(['/', ':'], "_")));
    let doing = || format!("writing {}", file.display());
    let bytes =
        npy::encode(tensor).map_err(|error| Failure::new(Exit::File, error).context(doing()))?;
    refit::write_file(&file, &bytes)?;
    Ok(file)
}

fn print(report: &Report) {
    say!(
        "{} on {} in {:.2} ms, weights {}",
        report.path,
        report.device,
        report.milliseconds,
        report.version
    );
    for OutputReport { name, dtype, shape, bytes, file } in &report.outputs {
        let place = file.as_ref().map_or_else(String::new, |file| format!(" → {}", file.display()));
        say!("  {name} {dtype}{shape:?}, {}{place}", human(*bytes));
    }
}
