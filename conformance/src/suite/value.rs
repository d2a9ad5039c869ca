//! Inputs and expected outputs, read from the suite's files.

use super::case::DataSet;
use super::failure::{Failure, Stage};
use engine_format::{Bytes, Tensor};
use engine_onnx::{Model, OnnxError, TensorData, ValueData, ValueInfo};
use engine_runtime::Value;
use std::path::Path;

/// A named value of a run.
pub type Named = (String, Value);

/// A run with all its values.
#[derive(Debug)]
pub struct Run {
    /// Fed to the inputs of these names.
    pub inputs: Vec<Named>,
    /// What the outputs of these names have to be.
    pub expected: Vec<Named>,
}

/// Reads the values of `set` for the ports of `model`.
///
/// # Errors
/// At stage `Data`, for values that are not made of tensors of a type this stack has.
pub fn read(model: &Model, set: &DataSet) -> Result<Run, Failure> {
    let graph = &model.graph;
    // What has an initializer is not fed, unless the case has a file for it.
    let real = graph.inputs.iter().filter(|info| graph.initializer(&info.name).is_none());
    let real: Vec<&ValueInfo> = real.collect();
    let inputs = match &set.inputs {
        None => real.iter().map(|info| ramp(info)).collect::<Result<_, _>>()?,
        Some(files) => {
            let ports = if files.len() > real.len() { graph.inputs.iter().collect() } else { real };
            named(&ports, files)?
        }
    };
    let outputs: Vec<&ValueInfo> = graph.outputs.iter().collect();
    Ok(Run { inputs, expected: named(&outputs, &set.outputs)? })
}

fn named(ports: &[&ValueInfo], files: &[std::path::PathBuf]) -> Result<Vec<Named>, Failure> {
    if files.len() != ports.len() {
        let (files, ports) = (files.len(), ports.len());
        return Err(Failure::new(Stage::Data, format!("{files} files for {ports} ports")));
    }
    ports
        .iter()
        .zip(files)
        .map(|(port, file)| Ok((port.name.clone(), value(port, file)?)))
        .collect()
}

fn value(port: &ValueInfo, file: &Path) -> Result<Value, Failure> {
    if port.dtype.is_none() {
        return Err(Failure::new(
            Stage::Data,
            format!("port {:?} is a {}", port.name, port.type_name),
        ));
    }
    let failed = |why: String| Failure::new(Stage::Data, format!("{}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    let data = ValueData::parse(Bytes::from(bytes), port.form).and_then(decoded);
    data.map_err(|error| failed(error.to_string()))
}

fn decoded(data: ValueData) -> Result<Value, OnnxError> {
    Ok(match data {
        ValueData::Tensor(data) => Value::Tensor(data.tensor()?),
        ValueData::Sequence(elements) => {
            let elements = elements.iter().map(TensorData::tensor);
            Value::Sequence(elements.collect::<Result<_, _>>()?)
        }
        ValueData::Absent => Value::Absent,
    })
}

/// What the suite's own runner feeds to a network without inputs: `i / n`, symbols being 1.
fn ramp(info: &ValueInfo) -> Result<Named, Failure> {
    let shape = info.shape.as_ref().filter(|_| info.dtype == Some(engine_format::DType::F32));
    let Some(shape) = shape else {
        let what = format!("no input can be made up for {:?}, a {}", info.name, info.type_name);
        return Err(Failure::new(Stage::Data, what));
    };
    let size =
        |dim: &engine_format::Dim| dim.known().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
    let shape: Vec<usize> = shape.iter().map(size).collect();
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (i as f64 / n as f64) as f32).collect();
    Ok((info.name.clone(), Tensor::from_slice(&shape, &values).into()))
}
