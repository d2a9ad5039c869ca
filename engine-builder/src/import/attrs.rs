//! Attributes of ONNX nodes in the form that the operator table takes.

use engine_format::{Attr, DType};
use engine_onnx::AttrValue;
use engine_ops::{AttrKind, OpDef, OpError};

/// ONNX element types by number, as attributes such as `to` give them.
static ELEMENT_TYPES: &[(i64, DType)] = &[
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::BF16),
];

/// Attributes that hold an element type: a number in ONNX, a name in engines.
static TYPE_ATTRS: &[&str] = &["to", "dtype", "output_dtype"];

/// The element type of an ONNX number.
pub(super) fn element_type(number: i64) -> Result<DType, OpError> {
    let found = ELEMENT_TYPES.iter().find(|(n, _)| *n == number);
    found.map(|&(_, dtype)| dtype).ok_or_else(|| {
        let known: Vec<String> =
            ELEMENT_TYPES.iter().map(|(n, dtype)| format!("{n} ({dtype})")).collect();
        OpError::new(format!("element type {number} is not known; takes {}", known.join(", ")))
    })
}

/// A plain attribute; nested graphs are imported by the caller, tensors have no form in engines.
pub(super) fn plain(name: &str, value: &AttrValue) -> Result<Attr, OpError> {
    Ok(match value {
        AttrValue::Int(v) => Attr::Int(*v),
        AttrValue::Float(v) => Attr::Float(*v),
        AttrValue::Str(v) => Attr::Str(v.clone()),
        AttrValue::Ints(v) => Attr::Ints(v.clone()),
        AttrValue::Floats(v) => Attr::Floats(v.clone()),
        AttrValue::Strs(v) => Attr::Strs(v.clone()),
        AttrValue::Tensor(_) => return Err(unread(name, "a tensor")),
        AttrValue::Tensors(_) => return Err(unread(name, "a list of tensors")),
        AttrValue::Graph(_) | AttrValue::Graphs(_) => return Err(unread(name, "a graph")),
        AttrValue::Other(what) => return Err(unread(name, what)),
        _ => return Err(unread(name, "of a kind that is not known")),
    })
}

fn unread(name: &str, what: &str) -> OpError {
    OpError::new(format!("attribute {name:?} is {what}, which this operator does not take"))
}

/// Brings an attribute to the kind that the table's row has: element types become names, and a list that the file left
/// without a kind gets the right one.
pub(super) fn fit(def: &OpDef, name: &str, attr: Attr) -> Result<Attr, OpError> {
    let Some(row) = def.attrs.iter().find(|row| row.name == name) else { return Ok(attr) };
    Ok(match (row.kind, attr) {
        (AttrKind::Str, Attr::Int(number)) if TYPE_ATTRS.contains(&name) => {
            Attr::Str(element_type(number)?.name().to_owned())
        }
        (AttrKind::Floats, Attr::Ints(list)) if list.is_empty() => Attr::Floats(Vec::new()),
        (AttrKind::Strs, Attr::Ints(list)) if list.is_empty() => Attr::Strs(Vec::new()),
        (_, attr) => attr,
    })
}
