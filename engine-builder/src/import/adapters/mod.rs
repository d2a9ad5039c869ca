//! Operators that the table does not have as they stand: older spellings and compositions. One file per family; a new one
//! is a row and a function.

mod arithmetic;
mod attention;
mod axes;
mod control;
mod einsum;
mod gradient;
mod layer_norm;
mod layers;
mod loss;
mod microsoft;
mod ml;
mod normalisation;
mod quantize;
mod random;
mod resize;
mod rotary;
mod shape;
mod signal;
#[cfg(test)]
mod tests;
mod training;
mod vision;
mod wider;

use super::call::{Call, Last};
use engine_ops::OpError;

/// How an operator is written in terms of the table.
pub(super) struct Adapter {
    /// Domain; `""` is the default one.
    pub(super) domain: &'static str,
    /// ONNX name.
    pub(super) op: &'static str,
    /// First opset that the row is for.
    pub(super) since: i64,
    /// Last opset, inclusive.
    pub(super) until: i64,
    /// Writes all but the last node and gives that.
    pub(super) run: fn(&mut Call<'_>) -> Result<Last, OpError>,
}

const fn row(
    op: &'static str,
    opsets: (i64, i64),
    run: fn(&mut Call<'_>) -> Result<Last, OpError>,
) -> Adapter {
    Adapter { domain: "", op, since: opsets.0, until: opsets.1, run }
}

/// Every opset that is known.
const ALL: (i64, i64) = (1, engine_ops::OnnxName::LATEST);

/// The rows of all families. The operator table is asked first, so a row may overlap with what the table takes.
static FAMILIES: &[&[Adapter]] = &[
    arithmetic::ROWS,
    attention::ROWS,
    axes::ROWS,
    control::ROWS,
    gradient::ROWS,
    einsum::ROWS,
    layer_norm::ROWS,
    layers::ROWS,
    loss::ROWS,
    normalisation::ROWS,
    quantize::ROWS,
    random::ROWS,
    resize::ROWS,
    rotary::ROWS,
    shape::ROWS,
    signal::ROWS,
    training::ROWS,
    vision::ROWS,
    wider::ROWS,
    microsoft::activation::ROWS,
    microsoft::attention::ROWS,
    microsoft::normalisation::ROWS,
    microsoft::quantize::ROWS,
];

fn rows() -> impl Iterator<Item = &'static Adapter> {
    FAMILIES.iter().chain(ml::FAMILIES).copied().flatten()
}

/// Every row: domain, operator, first and last opset.
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str, i64, i64)> {
    rows().map(|row| (row.domain, row.op, row.since, row.until))
}

/// Whether there is a row for a node.
pub(super) fn has(node: &engine_onnx::Node) -> bool {
    find(&node.domain, &node.op_type, node.opset).is_some()
}

/// The row for an operator of an opset.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Option<&'static Adapter> {
    let covers =
        |a: &&Adapter| a.domain == domain && a.op == op && (a.since..=a.until).contains(&opset);
    rows().find(covers)
}
