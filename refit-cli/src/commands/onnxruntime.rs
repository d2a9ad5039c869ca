//! ONNX Runtime's outputs, through a Python that has it.

use crate::failure::{Class, Context, Failure};
use engine_format::Tensor;
use engine_runtime::Values;
use engine_verify::inputs::all_tensors;
use refit::TensorFile;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

/// The variable that names the Python.
const PYTHON: &str = "REFIT_PYTHON";

/// Ends with 9 if there is no ONNX Runtime. Outputs are called by their numbers, since a name may be one that `savez` has for itself.
const SCRIPT: &str = r#"
import json
import sys
try:
    import numpy
    import onnxruntime
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(9)
model, inputs, outputs = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
wanted = [port.name for port in session.get_inputs()]
with numpy.load(inputs) as given:
    found = session.run(None, {name: given[name] for name in given.files if name in wanted})
arrays = {str(i): value for i, value in enumerate(found) if isinstance(value, numpy.ndarray)}
numpy.savez(outputs, **arrays)
print(json.dumps([onnxruntime.__version__, [port.name for port in session.get_outputs()]]))
"#;

/// What a model makes of inputs.
pub struct Made {
    /// The model, and the version of ONNX Runtime.
    pub who: String,
    /// Its outputs by name, those that are tensors.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Runs `model` on `inputs` in ONNX Runtime, on its CPU provider.
///
/// # Errors
/// `Unsupported`, if there is no Python with it, or inputs are no tensors; what it refuses.
pub fn run(model: &Path, inputs: &Values) -> Result<Made, Failure> {
    let Some(tensors) = all_tensors(inputs.clone()) else {
        let what = "ONNX Runtime is given tensors, and an input is a sequence or absent";
        return Err(Failure::new(Class::Unsupported, what));
    };
    let folder = tempfile::tempdir().doing("making a folder for ONNX Runtime's inputs")?;
    let [given, made] = ["inputs.npz", "outputs.npz"].map(|name| folder.path().join(name));
    TensorFile::Npz.write(&given, &tensors.into_iter().collect::<Vec<_>>())?;
    let python = std::env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
    let mut command = Command::new(&python);
    command.args(["-c", SCRIPT]).arg(model).args([&given, &made]).stdin(Stdio::null());
    let name = Path::new(&python).display().to_string();
    let output = command.output().map_err(|error| absent(&name, &error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    match output.status.code() {
        Some(0) => {}
        Some(9) => return Err(absent(&name, last)),
        _ => {
            let failure = Failure::new(Class::Unsupported, last);
            return Err(failure.context(format!("running {} in ONNX Runtime", model.display())));
        }
    }
    let (version, names): (String, Vec<String>) = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(Class::Internal, error).context("asking ONNX Runtime"))?;
    let source = refit::open_source(&made)?;
    let read = names.into_iter().enumerate().map(|(number, name)| {
        let tensor = source.read(&number.to_string());
        let tensor = tensor.map_err(|error| Failure::new(Class::InvalidFile, error))?;
        Ok(tensor.map(|tensor| (name, tensor)))
    });
    let tensors = read.filter_map(Result::transpose).collect::<Result<_, Failure>>()?;
    let who = format!("{} in ONNX Runtime {version} on the CPU", model.display());
    Ok(Made { who, tensors })
}

fn absent(python: &str, why: &str) -> Failure {
    let what = format!("no ONNX Runtime: {python}: {why}");
    let help = format!(
        "name a Python that has onnxruntime and numpy in {PYTHON}, or compare with the unoptimised graph: --with onnx:MODEL"
    );
    Failure::with_help(Class::Unsupported, what, help)
}
