//! Linear models and scalers.

use super::scores::{Labels, Other, Transform, pair, transformed};
use super::{ALL, check_count, columns, floats, matrix, row};
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("LinearRegressor", ALL, regressor),
    row("LinearClassifier", ALL, classifier),
    row("Scaler", ALL, scaler),
    row("Normalizer", ALL, normalizer),
];

/// `x · coefficientsᵀ + intercepts`, with a row of coefficients for each of `targets`.
fn product(call: &mut Call<'_>, targets: usize) -> Result<ValueId, OpError> {
    let coefficients = call.required_floats("coefficients")?;
    let features = columns("coefficients", coefficients.len(), targets)?;
    let x = matrix(call)?;
    let weights = floats(call, &[targets, features], coefficients);
    let bias = match call.floats("intercepts")? {
        Some(intercepts) if !intercepts.is_empty() => {
            check_count("intercepts", intercepts.len(), targets)?;
            Some(floats(call, &[targets], intercepts))
        }
        _ => None,
    };
    let node =
        call.last("Gemm", vec![Some(x), Some(weights), bias], vec![("transB", Attr::Int(1))])?;
    call.emit_last(node)
}

fn regressor(call: &mut Call<'_>) -> Result<Last, OpError> {
    let how = Transform::read(call)?;
    let targets = call.int("targets", 1)?;
    let targets = usize::try_from(targets)
        .map_err(|_| OpError::new(format!("targets is {targets}, expected at least 1")))?;
    let y = product(call, targets)?;
    let y = transformed(call, y, how)?;
    call.finish("Identity", [y], vec![])
}

fn classifier(call: &mut Call<'_>) -> Result<Last, OpError> {
    // One against the rest and multinomial differ in how they were fitted, not in how they are evaluated.
    call.ignore("multi_class");
    let how = Transform::read(call)?;
    let labels = Labels::read(call, "classlabels_ints", "classlabels_strings")?;
    let intercepts = call.floats("intercepts")?.map(<[f32]>::len).filter(|&count| count > 0);
    let targets = intercepts.unwrap_or(labels.len());
    let scores = product(call, targets)?;
    if targets == 1 && labels.len() == 2 {
        let both = pair(call, scores, how, Other::Complement)?;
        call.give(1, both);
        return labels.above(call, scores, 0.0);
    }
    check_count("the list of classes", labels.len(), targets)?;
    let given = transformed(call, scores, how)?;
    call.give(1, given);
    labels.of_greatest(call, scores)
}

/// `(x − offset) · scale`, either for every feature or for each.
fn scaler(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let x = call.cast(x, DType::F32)?;
    let (offset, scale) = (call.required_floats("offset")?, call.required_floats("scale")?);
    check_count("scale", scale.len(), offset.len())?;
    let offset = floats(call, &[offset.len()], offset);
    let scale = floats(call, &[scale.len()], scale);
    let moved = call.emit("Sub", [x, offset], vec![])?;
    call.finish("Mul", [moved, scale], vec![])
}

/// Rows divided by their maximum (not of sizes, as other runtimes have it), sum of sizes, or length; a row for which that is
/// 0 stays.
fn normalizer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let reduce = match call.str("norm", "MAX")? {
        "MAX" => "ReduceMax",
        "L1" => "ReduceL1",
        "L2" => "ReduceL2",
        other => return Err(OpError::new(format!("norm {other:?}, expected MAX, L1 or L2"))),
    };
    let x = call.input(0)?;
    let x = call.cast(x, DType::F32)?;
    let axis = call.vector(&[-1]);
    let divisor = call.emit(reduce, [x, axis], vec![])?;
    let (zero, one) = (call.scalar_like(x, 0.0)?, call.scalar_like(x, 1.0)?);
    let nothing = call.emit("Equal", [divisor, zero], vec![])?;
    let divisor = call.emit("Where", [nothing, one, divisor], vec![])?;
    call.finish("Div", [x, divisor], vec![])
}
