//! Declared types of values.

use crate::proto::{TensorShapeProto, TypeProto};
use crate::{OnnxError, ValueInfo, dtype_of, type_name};
use engine_format::Dim;

/// The declared type of the value `name`.
pub(crate) fn read(name: String, proto: Option<&TypeProto>) -> Result<ValueInfo, OnnxError> {
    let type_name = proto.map_or_else(|| "undeclared".to_owned(), describe);
    let tensor = proto.and_then(|p| p.tensor_type.as_ref());
    let dtype = tensor.and_then(|t| dtype_of(t.elem_type));
    let shape = tensor.and_then(|t| t.shape.as_ref()).map(|shape| dims(&name, shape));
    Ok(ValueInfo { dtype, type_name, shape, name })
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
