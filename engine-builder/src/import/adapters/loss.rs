//! Losses: what a classifier's scores cost.

use super::attention::iota;
use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("NegativeLogLikelihoodLoss", ALL, |call| {
        let dtype = call.facts(call.input(0)?).dtype;
        let scores = call.widened(call.input(0)?)?;
        loss(call, scores, dtype)
    }),
    row("SoftmaxCrossEntropyLoss", ALL, |call| {
        let dtype = call.facts(call.input(0)?).dtype;
        let scores = call.widened(call.input(0)?)?;
        let logs = call.emit("LogSoftmax", [scores], vec![("axis", Attr::Int(1))])?;
        let given = call.cast(logs, dtype)?;
        call.give(1, given);
        loss(call, logs, dtype)
    }),
];

/// `−weight[target] · logs[target]` for every element of the target, summed, averaged by weight, or as it is. A target
/// equal to `ignore_index`, which need not be a class, costs and weighs nothing.
///
/// Sums are made in the type of `logs`; the result has the type `dtype`.
fn loss(call: &mut Call<'_>, logs: ValueId, dtype: DType) -> Result<Last, OpError> {
    let target = call.input(1)?;
    let weights = call.opt(2).map(|weights| call.widened(weights)).transpose()?;
    let ignored = match call.has("ignore_index") {
        true => Some(call.int("ignore_index", 0)?),
        false => None,
    };
    let chosen = chosen(call, logs, target)?;
    let picked = pick(call, chosen, logs)?;
    let mut loss = call.emit("Neg", [picked], vec![])?;
    let mut weight = match weights {
        Some(weights) => {
            let weights = over_classes(call, logs, weights)?;
            Some(pick(call, chosen, weights)?)
        }
        None => None,
    };
    if let Some(ignored) = ignored {
        let ignored = call.scalar_like(target, ignored as f64)?;
        let nothing = call.emit("Equal", [target, ignored], vec![])?;
        let (zero, one) = (call.scalar_like(logs, 0.0)?, call.scalar_like(logs, 1.0)?);
        let counted = weight.unwrap_or(one);
        weight = Some(call.emit("Where", [nothing, zero, counted], vec![])?);
        // Written apart from the product: what is ignored may be infinite.
        loss = call.emit("Where", [nothing, zero, loss], vec![])?;
    }
    if let Some(weight) = weight {
        loss = call.emit("Mul", [loss, weight], vec![])?;
    }
    let flat = ("keepdims", Attr::Int(0));
    let reduced = match (call.str("reduction", "mean")?, weight) {
        ("none", _) => call.finish("Identity", [loss], vec![]),
        ("sum", _) => call.finish("ReduceSum", [loss], vec![flat]),
        ("mean", None) => call.finish("ReduceMean", [loss], vec![flat]),
        ("mean", Some(weight)) => {
            let all = call.emit("ReduceSum", [loss], vec![flat.clone()])?;
            let weight = call.emit("ReduceSum", [weight], vec![flat])?;
            call.finish("Div", [all, weight], vec![])
        }
        (other, _) => Err(OpError::new(format!("reduction {other:?}, expected none, sum or mean"))),
    };
    call.narrowed(reduced?, dtype)
}

/// Whether a class is the target's, in the shape of `logs`.
fn chosen(call: &mut Call<'_>, logs: ValueId, target: ValueId) -> Result<ValueId, OpError> {
    let count = call.sizes(logs, 1, 2)?;
    let classes = iota(call, count)?;
    let dtype = call.facts(target).dtype;
    let classes = call.cast(classes, dtype)?;
    let classes = over_classes(call, logs, classes)?;
    let axis = call.vector(&[1]);
    let target = call.emit("Unsqueeze", [target, axis], vec![])?;
    call.emit("Equal", [target, classes], vec![])
}

/// A vector over classes so that it meets axis 1 of `logs`.
fn over_classes(call: &mut Call<'_>, logs: ValueId, vector: ValueId) -> Result<ValueId, OpError> {
    let behind = call.rank(logs)?.saturating_sub(2) as i64;
    if behind == 0 {
        return Ok(vector);
    }
    let axes: Vec<i64> = (1..=behind).collect();
    let axes = call.vector(&axes);
    call.emit("Unsqueeze", [vector, axes], vec![])
}

/// The chosen class's value, or 0 where none is.
fn pick(call: &mut Call<'_>, chosen: ValueId, values: ValueId) -> Result<ValueId, OpError> {
    let zero = call.scalar_like(values, 0.0)?;
    let apart = call.emit("Where", [chosen, values, zero], vec![])?;
    let axis = call.vector(&[1]);
    call.emit("ReduceSum", [apart, axis], vec![("keepdims", Attr::Int(0))])
}
