//! Checking what a run is given against the ports.

use crate::error::{RunError, RunErrorKind};
use engine_format::{Port, Tensor};
use std::collections::BTreeMap;

/// Inputs of a run by name.
pub type Inputs = BTreeMap<String, Tensor>;

/// The inputs in port order, or one error that lists everything wrong with them.
pub(crate) fn ordered(ports: &[Port], inputs: &Inputs) -> Result<Vec<Tensor>, RunError> {
    let mut wrong = Vec::new();
    let mut sizes = BTreeMap::new();
    let mut tensors = Vec::with_capacity(ports.len());
    for port in ports {
        let Some(tensor) = inputs.get(&port.name) else {
            wrong.push(format!("input {:?} is missing, expected {}", port.name, port_type(port)));
            continue;
        };
        check(port, tensor, &mut sizes, &mut wrong);
        tensors.push(tensor.clone());
    }
    for name in inputs.keys().filter(|name| !ports.iter().any(|port| port.name == **name)) {
        let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        wrong.push(format!("input {name:?} is unknown, the inputs are {known:?}"));
    }
    if wrong.is_empty() {
        return Ok(tensors);
    }
    Err(RunError::new(RunErrorKind::InvalidInputs, "the inputs do not fit").items(wrong))
}

/// Sizes that symbols were bound to, and by which axis of which input.
type Sizes<'a> = BTreeMap<&'a str, (usize, usize, &'a str)>;

fn check<'a>(port: &'a Port, tensor: &Tensor, sizes: &mut Sizes<'a>, wrong: &mut Vec<String>) {
    let name = &port.name;
    if tensor.dtype() != port.dtype {
        wrong.push(format!("input {name:?} is {tensor:?}, expected {}", port_type(port)));
        return;
    }
    let Some(dims) = &port.shape else { return };
    if dims.len() != tensor.shape().len() {
        wrong.push(format!("input {name:?} is {tensor:?}, expected {}", port_type(port)));
        return;
    }
    for (axis, (dim, &size)) in dims.iter().zip(tensor.shape()).enumerate() {
        if let Some(known) = dim.known() {
            if usize::try_from(known) != Ok(size) {
                wrong.push(format!("axis {axis} of input {name:?} is {size}, expected {known}"));
            }
        } else if let Some(symbol) = dim.as_symbol() {
            let &mut (bound, by, of) = sizes.entry(symbol).or_insert((size, axis, name));
            if bound != size {
                wrong.push(format!(
                    "axis {axis} of input {name:?} is {size}, but {symbol} is {bound} by axis {by} of input {of:?}"
                ));
            }
        }
    }
}

/// A port's type as a person writes it: `f32[batch, 3]`.
fn port_type(port: &Port) -> String {
    match &port.shape {
        Some(dims) => format!("{}{dims:?}", port.dtype),
        None => format!("{} of any shape", port.dtype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{DType, Dim, ValueId};

    fn ports() -> Vec<Port> {
        let port = |name: &str, id, dtype, dims: &[&str]| Port {
            name: name.into(),
            value: ValueId(id),
            dtype,
            shape: Some(dims.iter().map(|d| d.parse::<Dim>().unwrap()).collect()),
        };
        vec![
            port("ids", 0, DType::I64, &["batch", "seq"]),
            port("mask", 1, DType::I64, &["batch", "seq"]),
            port("image", 2, DType::F32, &["batch", "3"]),
        ]
    }

    fn inputs(given: &[(&str, DType, &[usize])]) -> Inputs {
        given.iter().map(|(n, d, s)| ((*n).to_owned(), Tensor::zeros(*d, s))).collect()
    }

    #[test]
    fn inputs_come_in_port_order() {
        let given = inputs(&[
            ("image", DType::F32, &[2, 3]),
            ("mask", DType::I64, &[2, 7]),
            ("ids", DType::I64, &[2, 7]),
        ]);
        let tensors = ordered(&ports(), &given).unwrap();
        let shapes: Vec<_> = tensors.iter().map(|t| t.shape().to_vec()).collect();
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
}
