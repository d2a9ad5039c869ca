//! Checking what a run is given against the ports.

use crate::cpu::kernel::meta;
use crate::error::{RunError, RunErrorKind};
use crate::held::DeviceTensor;
use crate::plan::item::Layout;
use crate::value::{Value, Values, port_type, tensor_type};
use engine_format::{Port, Tensor};
use engine_ops::cpu::TensorMeta;
use std::collections::BTreeMap;

/// Inputs in port order, as flat lists of tensors.
#[derive(Debug, Default)]
pub(crate) struct Ordered {
    pub tensors: Vec<Tensor>,
    /// Those that lie on the device.
    pub held: Vec<DeviceTensor>,
    /// How each input is made up of them.
    pub layout: Vec<Layout>,
}

/// What a value that an earlier run left is taken as at the port of a position: a tensor of the host, or `None`, itself.
pub(crate) type Taken<'a> = dyn Fn(usize, &DeviceTensor) -> Result<Option<Tensor>, RunError> + 'a;

/// The inputs in port order, or one error that lists everything wrong with them. An optional input that is not given is absent.
pub(crate) fn ordered(
    ports: &[Port],
    inputs: &Values,
    taken: &Taken<'_>,
) -> Result<Ordered, RunError> {
    let mut wrong = Vec::new();
    let mut sizes = BTreeMap::new();
    let mut ordered = Ordered::default();
    for (at, port) in ports.iter().enumerate() {
        let value = match inputs.get(&port.name) {
            Some(value) => value,
            None if port.form.is_optional() => &Value::Absent,
            None => {
                let (name, expected) = (&port.name, port_type(port));
                wrong.push(format!("input {name:?} is missing, expected {expected}"));
                continue;
            }
        };
        let mut layout = check(port, value, &mut sizes, &mut wrong);
        ordered.tensors.extend_from_slice(value.tensors());
        if let Value::OnDevice(value) = value {
            match taken(at, value) {
                Ok(Some(tensor)) => {
                    layout = Layout::Tensor;
                    ordered.tensors.push(tensor);
                }
                Ok(None) => ordered.held.push(value.clone()),
                Err(error) if error.kind() == RunErrorKind::InvalidInputs => {
                    wrong.push(format!("input {:?} is {error}", port.name));
                }
                Err(error) => return Err(error),
            }
        }
        ordered.layout.push(layout);
    }
    for name in inputs.keys().filter(|name| !ports.iter().any(|port| port.name == **name)) {
        let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        wrong.push(format!("input {name:?} is unknown, the inputs are {known:?}"));
    }
    if wrong.is_empty() {
        return Ok(ordered);
    }
    Err(RunError::new(RunErrorKind::InvalidInputs, "the inputs do not fit").items(wrong))
}

/// Sizes that symbols were bound to, and by which axis of which input.
type Sizes<'a> = BTreeMap<&'a str, (usize, usize, &'a str)>;

fn check<'a>(
    port: &'a Port,
    value: &Value,
    sizes: &mut Sizes<'a>,
    wrong: &mut Vec<String>,
) -> Layout {
    let what = format!("input {:?}", port.name);
    match value {
        Value::Absent if port.form.is_optional() => return Layout::Absent,
        Value::Tensor(tensor) if !port.form.is_sequence() => {
            check_tensor(port, &what, &meta(tensor), sizes, wrong);
            return Layout::Tensor;
        }
        Value::OnDevice(tensor) if !port.form.is_sequence() => {
            check_tensor(port, &what, &tensor.meta(), sizes, wrong);
            return Layout::OnDevice;
        }
        Value::Sequence(elements) if port.form.is_sequence() => {
            for (i, element) in elements.iter().enumerate() {
                // A symbol may stand for another size in each element.
                let what = format!("element {i} of {what}");
                check_tensor(port, &what, &meta(element), &mut Sizes::new(), wrong);
            }
        }
        other => wrong.push(format!("{what} is {other}, expected {}", port_type(port))),
    }
    Layout::Sequence(port.dtype, value.tensors().len())
}

fn check_tensor<'a>(
    port: &'a Port,
    what: &str,
    tensor: &TensorMeta,
    sizes: &mut Sizes<'a>,
    wrong: &mut Vec<String>,
) {
    let name = &port.name;
    if tensor.dtype != port.dtype {
        wrong.push(format!("{what} is {tensor}, expected {}", tensor_type(port)));
        return;
    }
    let Some(dims) = &port.shape else { return };
    if dims.len() != tensor.shape.len() {
        wrong.push(format!("{what} is {tensor}, expected {}", tensor_type(port)));
        return;
    }
    for (axis, (dim, &size)) in dims.iter().zip(&tensor.shape).enumerate() {
        if let Some(known) = dim.known() {
            if usize::try_from(known) != Ok(size) {
                wrong.push(format!("axis {axis} of {what} is {size}, expected {known}"));
            }
        } else if let Some(symbol) = dim.as_symbol() {
            let &mut (bound, by, of) = sizes.entry(symbol).or_insert((size, axis, name));
            if bound != size {
                wrong.push(format!(
                    "axis {axis} of {what} is {size}, but {symbol} is {bound} by axis {by} of input {of:?}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{DType, Dim, Form, ValueId};

    fn ports() -> Vec<Port> {
        let port = |name: &str, id, dtype, dims: &[&str]| Port {
            name: name.into(),
            value: ValueId(id),
            dtype,
            form: Form::Tensor,
            shape: Some(dims.iter().map(|d| d.parse::<Dim>().unwrap()).collect()),
        };
        vec![
            port("ids", 0, DType::I64, &["batch", "seq"]),
            port("mask", 1, DType::I64, &["batch", "seq"]),
            port("image", 2, DType::F32, &["batch", "3"]),
        ]
    }

    fn ordered(ports: &[Port], given: &Values) -> Result<Ordered, RunError> {
        super::ordered(ports, given, &|_, value| value.to_host().map(Some))
    }

    fn inputs(given: &[(&str, DType, &[usize])]) -> Values {
        given.iter().map(|(n, d, s)| ((*n).to_owned(), Tensor::zeros(*d, s).into())).collect()
    }

    #[test]
    fn inputs_come_in_port_order() {
        let given = inputs(&[
            ("image", DType::F32, &[2, 3]),
            ("mask", DType::I64, &[2, 7]),
            ("ids", DType::I64, &[2, 7]),
        ]);
        let ordered = ordered(&ports(), &given).unwrap();
        let shapes: Vec<_> = ordered.tensors.iter().map(|t| t.shape().to_vec()).collect();
        assert_eq!(shapes, [vec![2, 7], vec![2, 7], vec![2, 3]]);
    }

    #[test]
    fn everything_wrong_is_listed_at_once() {
        let given = inputs(&[
            ("ids", DType::I64, &[2, 7]),
            ("mask", DType::I64, &[2, 8]),
            ("picture", DType::F32, &[2, 3]),
        ]);
        let error = ordered(&ports(), &given).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
        assert_eq!(
            error.details(),
            [
                "axis 1 of input \"mask\" is 8, but seq is 7 by axis 1 of input \"ids\"",
                "input \"image\" is missing, expected f32[batch, 3]",
                "input \"picture\" is unknown, the inputs are [\"ids\", \"mask\", \"image\"]",
            ]
        );
    }

    #[test]
    fn types_ranks_and_fixed_sizes_are_checked() {
        let given = inputs(&[
            ("ids", DType::I32, &[2, 7]),
            ("mask", DType::I64, &[7]),
            ("image", DType::F32, &[2, 4]),
        ]);
        let error = ordered(&ports(), &given).unwrap_err();
        assert_eq!(
            error.details(),
            [
                "input \"ids\" is i32[2, 7], expected i64[batch, seq]",
                "input \"mask\" is i64[7], expected i64[batch, seq]",
                "axis 1 of input \"image\" is 4, expected 3",
            ]
        );
    }

    #[test]
    fn sequences_and_optional_values_are_checked_element_by_element() {
        let mut ports = ports();
        ports[0].form = Form::Sequence;
        ports[1].form = Form::OptionalTensor;
        ports[2].form = Form::OptionalSequence;
        let ids = |shape: &[usize]| Tensor::zeros(DType::I64, shape);
        // Elements may differ where the port has a symbol.
        let many = Value::from(vec![ids(&[2, 7]), ids(&[3, 1])]);
        let given = Values::from([("ids".to_owned(), many)]);
        let found = ordered(&ports, &given).unwrap();
        assert_eq!(found.tensors.len(), 2);
        let absent = Layout::Absent;
        assert_eq!(found.layout, [Layout::Sequence(DType::I64, 2), absent, absent]);
        let given = Values::from([
            ("ids".to_owned(), Value::from(ids(&[2, 7]))),
            ("mask".to_owned(), Value::from(vec![])),
            ("image".to_owned(), Value::from(vec![Tensor::zeros(DType::F32, &[2, 4])])),
        ]);
        assert_eq!(
            ordered(&ports, &given).unwrap_err().details(),
            [
                "input \"ids\" is i64[2, 7], expected sequence(i64[batch, seq])",
                "input \"mask\" is a sequence of 0 tensors, expected optional(i64[batch, seq])",
                "axis 1 of element 0 of input \"image\" is 4, expected 3",
            ]
        );
    }
}
