//! Classical models, the operators of ai.onnx.ml. Their coefficients are attributes in ONNX: they have no names by which a
//! source could bring others, and are part of the program here too.

mod features;
mod forest;
mod labels;
mod linear;
mod scores;
mod svm;
mod trees;

use super::{ALL, Adapter};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

/// The families of this domain.
pub(super) static FAMILIES: &[&[Adapter]] =
    &[features::ROWS, labels::ROWS, linear::ROWS, svm::ROWS, trees::ROWS];

const fn row(
    op: &'static str,
    opsets: (i64, i64),
    run: fn(&mut Call<'_>) -> Result<Last, OpError>,
) -> Adapter {
    Adapter { domain: "ai.onnx.ml", ..super::row(op, opsets, run) }
}

/// The first operand as a matrix of f32: a vector is one row.
fn matrix(call: &mut Call<'_>) -> Result<ValueId, OpError> {
    let x = call.input(0)?;
    let x = call.cast(x, DType::F32)?;
    rows(call, x)
}

/// A vector as one row; anything else as it is.
fn rows(call: &mut Call<'_>, x: ValueId) -> Result<ValueId, OpError> {
    match call.facts(x).shape.as_ref().map(Vec::len) {
        Some(1) => {
            let axis = call.vector(&[0]);
            call.emit("Unsqueeze", [x, axis], vec![])
        }
        _ => Ok(x),
    }
}

/// A literal of f32 from an attribute's list.
fn floats(call: &mut Call<'_>, shape: &[usize], values: &[f32]) -> ValueId {
    call.literal(Tensor::from_slice(shape, values))
}

/// How many columns `total` coefficients make in `rows` rows.
fn columns(what: &str, total: usize, rows: usize) -> Result<usize, OpError> {
    match rows {
        1.. if total.is_multiple_of(rows) && total > 0 => Ok(total / rows),
        _ => Err(OpError::new(format!(
            "{total} {what} for {rows} rows, expected a multiple of them"
        ))),
    }
}

/// An error unless a list has the length it is to have.
fn check_count(name: &str, found: usize, expected: usize) -> Result<(), OpError> {
    match found == expected {
        true => Ok(()),
        false => Err(OpError::new(format!("{name} has {found} elements, expected {expected}"))),
    }
}

/// A column of a matrix, as a matrix of that column alone.
fn column(call: &mut Call<'_>, x: ValueId, at: i64) -> Result<ValueId, OpError> {
    let index = call.vector(&[at]);
    call.emit("Gather", [x, index], vec![("axis", Attr::Int(1))])
}
