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
    (8, DType::String),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::BF16),
    (17, DType::F8E4M3FN),
    (18, DType::F8E4M3FNUZ),
    (19, DType::F8E5M2),
    (20, DType::F8E5M2FNUZ),
    (21, DType::U4),
    (22, DType::I4),
    (23, DType::F4E2M1),
    (24, DType::F8E8M0),
    (25, DType::U2),
    (26, DType::I2),
];

/// The ONNX number of an element type, as the table's Cast takes it.
pub(crate) fn element_number(dtype: DType) -> i64 {
    let row = ELEMENT_TYPES.iter().find(|(_, d)| *d == dtype);
    row.expect("the table lists every element type").0
}

/// The element type of an ONNX number.
pub(super) fn element_type(number: i64) -> Result<DType, OpError> {
    let row = ELEMENT_TYPES.iter().find(|(n, _)| *n == number);
    row.map(|(_, dtype)| *dtype)
        .ok_or_else(|| OpError::new(format!("element type {number} is not known")))
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
        AttrValue::Type(_) => return Err(unread(name, "a type")),
        AttrValue::Other(what) => return Err(unread(name, what)),
        _ => return Err(unread(name, "of a kind that is not known")),
    })
}

fn unread(name: &str, what: &str) -> OpError {
    OpError::new(format!("attribute {name:?} is {what}, which this operator does not take"))
}

/// Gives a list that the file left without a kind the one that the table's row has.
pub(super) fn fit(def: &OpDef, name: &str, attr: Attr) -> Attr {
    let row = def.attrs.iter().find(|row| row.name == name);
    match (row.map(|row| row.kind), attr) {
        (Some(AttrKind::Floats), Attr::Ints(list)) if list.is_empty() => Attr::Floats(Vec::new()),
        (Some(AttrKind::Strs), Attr::Ints(list)) if list.is_empty() => Attr::Strs(Vec::new()),
        (_, attr) => attr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_has_a_number_of_its_own() {
        let mut numbers: Vec<i64> = DType::ALL.into_iter().map(element_number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), DType::ALL.len());
    }
}
