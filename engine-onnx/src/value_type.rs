//! Declared types of values.

use crate::proto::{TensorShapeProto, TensorTypeProto, TypeProto};
use crate::{ValueInfo, dtype_of, type_name};
use engine_format::{Dim, Form};

/// The declared type of the value `name`.
pub(crate) fn read(name: String, proto: Option<&TypeProto>) -> ValueInfo {
    let type_name = proto.map_or_else(|| "undeclared".to_owned(), describe);
    let (form, tensor) = proto.and_then(tensors).unwrap_or_default();
    let dtype = tensor.and_then(|t| dtype_of(t.elem_type));
    let shape = tensor.and_then(|t| t.shape.as_ref()).map(|shape| dims(&name, shape));
    // Tools write a shape without axes for the elements of a sequence when they have none to write.
    let shape = shape.filter(|dims| !(form.is_sequence() && dims.is_empty()));
    ValueInfo { form, dtype, type_name, shape, name }
}

/// What the tensors of a type are, and how they make it up. `None` for maps, sparse tensors and deeper nesting.
fn tensors(proto: &TypeProto) -> Option<(Form, Option<&TensorTypeProto>)> {
    let (optional, inner) = match &proto.optional_type {
        Some(optional) => (true, optional.elem_type.as_deref()?),
        None => (false, proto),
    };
    let (form, tensor) = match &inner.sequence_type {
        Some(sequence) => (Form::Sequence, sequence.elem_type.as_deref()?),
        None => (Form::Tensor, inner),
    };
    let form = if optional { form.optional() } else { form };
    Some((form, Some(tensor.tensor_type.as_ref()?)))
}

/// Dimensions; one that is not declared gets a symbol named after the value and the axis.
fn dims(name: &str, shape: &TensorShapeProto) -> Vec<Dim> {
    let dim = |(axis, dim): (usize, &crate::proto::DimensionProto)| match dim.dim_value {
        Some(size) if size >= 0 => Dim::from(size),
        _ => match dim.dim_param.as_deref() {
            // A number as a symbol would read back as a number.
            Some(symbol) if !symbol.is_empty() && symbol.parse::<i64>().is_err() => {
                Dim::symbol(symbol)
            }
            _ => Dim::symbol(&format!("{name}.dim{axis}")),
        },
    };
    shape.dim.iter().enumerate().map(dim).collect()
}

fn describe(proto: &TypeProto) -> String {
    let of = |inner: &Option<Box<TypeProto>>| {
        inner.as_ref().map_or_else(|| "undeclared".to_owned(), |inner| describe(inner))
    };
    if let Some(tensor) = &proto.tensor_type {
        format!("tensor({})", type_name(tensor.elem_type))
    } else if let Some(sparse) = &proto.sparse_tensor_type {
        format!("sparse_tensor({})", type_name(sparse.elem_type))
    } else if let Some(sequence) = &proto.sequence_type {
        format!("sequence({})", of(&sequence.elem_type))
    } else if let Some(optional) = &proto.optional_type {
        format!("optional({})", of(&optional.elem_type))
    } else if let Some(map) = &proto.map_type {
        format!("map({}, {})", type_name(map.key_type), of(&map.value_type))
    } else {
        "undeclared".to_owned()
    }
}
