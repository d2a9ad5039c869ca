//! What goes into a run and comes out of it.

use crate::error::{RunError, RunErrorKind};
use crate::held::DeviceTensor;
use crate::options::RunOptions;
use crate::plan::item::Layout;
use crate::plan::program::Wanted;
use engine_format::{Digest, Form, Port, Tensor};
use std::collections::BTreeMap;
use std::fmt;

/// Inputs of a run by name, of any form.
pub type Values = BTreeMap<String, Value>;

/// A value of a port ([`Form`] says of which kind).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor; also an optional tensor that is there.
    Tensor(Tensor),
    /// A sequence of tensors; also an optional sequence that is there.
    Sequence(Vec<Tensor>),
    /// An optional value that is absent.
    Absent,
    /// A tensor that a run left on its device ([`RunOptions::on_device`](crate::RunOptions::on_device)).
    OnDevice(DeviceTensor),
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Value::Tensor(tensor)
    }
}

impl From<Vec<Tensor>> for Value {
    fn from(elements: Vec<Tensor>) -> Self {
        Value::Sequence(elements)
    }
}

impl From<DeviceTensor> for Value {
    fn from(tensor: DeviceTensor) -> Self {
        Value::OnDevice(tensor)
    }
}

/// The kind, as errors show it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Tensor(tensor) => write!(f, "{tensor:?}"),
            Value::Sequence(elements) => write!(f, "a sequence of {} tensors", elements.len()),
            Value::Absent => f.write_str("absent"),
            Value::OnDevice(tensor) => tensor.fmt(f),
        }
    }
}

/// Tensors as values.
pub(crate) fn values(inputs: &Inputs) -> Values {
    inputs.iter().map(|(name, tensor)| (name.clone(), tensor.clone().into())).collect()
}

/// The outputs that a run is asked for; `None` for all of them, on the host.
pub(crate) fn wanted(ports: &[Port], options: &RunOptions) -> Result<Option<Wanted>, RunError> {
    if options.outputs.is_none() && options.on_device.is_empty() {
        return Ok(None);
    }
    let outputs = match &options.outputs {
        Some(names) => positions(ports, names)?,
        None => (0..ports.len()).collect(),
    };
    let on_device = positions(ports, &options.on_device)?;
    let unwanted = on_device.iter().filter(|at| !outputs.contains(at));
    let unwanted: Vec<String> = unwanted.map(|&at| format!("{:?}", ports[at].name)).collect();
    if !unwanted.is_empty() {
        let what = "outputs that are to stay on the device are not among the wanted ones";
        return Err(RunError::new(RunErrorKind::InvalidInputs, what).items(unwanted));
    }
    Ok(Some(Wanted { outputs, on_device }))
}

/// Where the outputs of these names are among `ports`: each once, in the order of the ports.
fn positions(ports: &[Port], names: &[String]) -> Result<Vec<usize>, RunError> {
    let known = |name: &&String| ports.iter().any(|port| port.name == **name);
    let unknown: Vec<String> =
        names.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
    if !unknown.is_empty() {
        let outputs: Vec<String> = ports.iter().map(|port| format!("{:?}", port.name)).collect();
        let what = format!("there are no such outputs (the engine gives {})", outputs.join(", "));
        return Err(RunError::new(RunErrorKind::InvalidInputs, what).items(unknown));
    }
    let wanted = ports.iter().enumerate().filter(|(_, port)| names.contains(&port.name));
    Ok(wanted.map(|(i, _)| i).collect())
}

/// Results under the names of their ports.
pub(crate) fn outputs(
    ports: &[&Port],
    results: Vec<Value>,
    version: Digest,
) -> Result<Outputs, RunError> {
    let mut outputs = Outputs { tensors: BTreeMap::new(), structures: Values::new(), version };
    for (port, value) in ports.iter().zip(results) {
        let name = port.name.clone();
        match (value, port.form) {
            (Value::Tensor(tensor), Form::Tensor) => {
                outputs.tensors.insert(name, tensor);
            }
            (value, form) if value.is_a(form) => {
                outputs.structures.insert(name, value);
            }
            (value, _) => {
                let what = format!("output {name:?} is {value}, expected {}", port_type(port));
                return Err(RunError::new(RunErrorKind::Node, what));
            }
        }
    }
    Ok(outputs)
}

impl Value {
    /// Whether it may be a value of a port of this form.
    pub fn is_a(&self, form: Form) -> bool {
        match self {
            Value::Tensor(_) | Value::OnDevice(_) => !form.is_sequence(),
            Value::Sequence(_) => form.is_sequence(),
            Value::Absent => form.is_optional(),
        }
    }

    /// The tensors in it that are on the host.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Value::Tensor(tensor) => std::slice::from_ref(tensor),
            Value::Sequence(elements) => elements,
            Value::Absent | Value::OnDevice(_) => &[],
        }
    }

    /// The value on the host: itself, unless it lies on a device.
    ///
    /// # Errors
    /// Those of [`DeviceTensor::to_host`].
    pub fn to_host(self) -> Result<Self, RunError> {
        match self {
            Value::OnDevice(tensor) => Ok(Value::Tensor(tensor.to_host()?)),
            other => Ok(other),
        }
    }

    /// The values that `tensors`, and `left` on the device, make up as `layout` says.
    pub(crate) fn assemble(
        tensors: Vec<Tensor>,
        left: Vec<DeviceTensor>,
        layout: &[Layout],
    ) -> Vec<Self> {
        let (mut tensors, mut left) = (tensors.into_iter(), left.into_iter());
        let value = |layout: &Layout| match layout {
            Layout::Absent => Value::Absent,
            Layout::Tensor => Value::Tensor(tensors.next().expect("a layout counts its tensors")),
            Layout::Sequence(_, n) => Value::Sequence(tensors.by_ref().take(*n).collect()),
            Layout::OnDevice => Value::OnDevice(left.next().expect("a layout counts them")),
        };
        layout.iter().map(value).collect()
    }
}

/// Inputs of a run by name, where all are tensors.
pub type Inputs = BTreeMap<String, Tensor>;

/// A port's type as a person writes it: `f32[batch, 3]`, `sequence(f32[batch, 3])`.
pub(crate) fn port_type(port: &Port) -> String {
    port.form.describe(&tensor_type(port))
}

/// The type of a port's tensors.
pub(crate) fn tensor_type(port: &Port) -> String {
    match &port.shape {
        Some(dims) => format!("{}{dims:?}", port.dtype),
        None => format!("{} of any shape", port.dtype),
    }
}

/// What a run gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// Results by port name, of ports that are tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// The other results: sequences, optional values, and tensors that stay on the device.
    pub structures: Values,
    /// The weights that made them.
    pub version: Digest,
}
