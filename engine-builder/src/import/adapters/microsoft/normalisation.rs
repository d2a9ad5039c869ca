//! Normalisations of a sum, and the first layer of BERT.

use super::row;
use crate::import::adapters::Adapter;
use crate::import::adapters::layer_norm::{Rows, Statistics};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(in crate::import::adapters) static ROWS: &[Adapter] = &[
    row("SkipLayerNormalization", |call| {
        let (beta, bias) = (call.opt(3), call.opt(4));
        skip(call, "LayerNormalization", beta, bias)
    }),
    row("SkipSimplifiedLayerNormalization", |call| {
        let bias = call.opt(3);
        skip(call, "RMSNormalization", None, bias)
    }),
    row("EmbedLayerNormalization", embedding),
];

/// A normalisation of the sum of two operands and a bias; the sum is a result too.
fn skip(
    call: &mut Call<'_>,
    op: &'static str,
    shift: Option<ValueId>,
    bias: Option<ValueId>,
) -> Result<Last, OpError> {
    let dtype = call.facts(call.input(0)?).dtype;
    let (x, skip) = (call.widened(call.input(0)?)?, call.widened(call.input(1)?)?);
    let mut sum = call.emit("Add", [x, skip], vec![])?;
    if let Some(bias) = bias {
        let bias = call.widened(bias)?;
        sum = call.emit("Add", [sum, bias], vec![])?;
    }
    if call.asks_for(3) {
        let given = call.cast(sum, dtype)?;
        call.give(3, given);
    }
    let epsilon = call.float("epsilon", 1e-12)?;
    let scale = call.widened(call.input(2)?)?;
    let shift = shift.map(|shift| call.widened(shift)).transpose()?;
    let rows = Rows { op, axis: -1, epsilon, scale, shift };
    let y = rows.normalise(call, sum, Statistics { mean: Some(1), inverse: 2 })?;
    call.narrowed(y, dtype)
}

/// Rows of tables for words, positions and segments, summed and normalised; and how many words the mask leaves in each text.
fn embedding(call: &mut Call<'_>) -> Result<Last, OpError> {
    let ids = call.input(0)?;
    let look_up = |call: &mut Call<'_>, table: ValueId, ids: ValueId| {
        let rows = call.emit("Gather", [table, ids], vec![("axis", Attr::Int(0))])?;
        call.widened(rows)
    };
    let positions = match call.opt(8) {
        Some(positions) => positions,
        None => {
            let count = call.sizes(ids, 1, 2)?;
            crate::import::adapters::attention::iota(call, count)?
        }
    };
    let dtype = call.facts(call.input(2)?).dtype;
    let words = look_up(call, call.input(2)?, ids)?;
    let places = look_up(call, call.input(3)?, positions)?;
    let mut sum = call.emit("Add", [words, places], vec![])?;
    if let (Some(segments), Some(table)) = (call.opt(1), call.opt(4)) {
        let rows = look_up(call, table, segments)?;
        sum = call.emit("Add", [sum, rows], vec![])?;
    }
    let masked = call.int("mask_index_type", 0)?;
    if call.asks_for(1) {
        let counts = match call.opt(7) {
            Some(mask) => {
                let one = call.scalar_like(mask, 1.0)?;
                let real = call.emit("Equal", [mask, one], vec![])?;
                let real = call.cast(real, DType::I32)?;
                let row = call.vector(&[1]);
                call.emit("ReduceSum", [real, row], vec![("keepdims", Attr::Int(0))])?
            }
            None if masked == 0 => {
                let (zero, batch) =
                    (call.literal(Tensor::from_slice(&[], &[0i32])), call.sizes(ids, 0, 1)?);
                call.emit("Expand", [zero, batch], vec![])?
            }
            None => return Err(OpError::new("mask_index_type asks for a mask, which is missing")),
        };
        call.give(1, counts);
    }
    if call.asks_for(2) {
        let given = call.cast(sum, dtype)?;
        call.give(2, given);
    }
    let epsilon = ("epsilon", Attr::Float(call.float("epsilon", 1e-12)?));
    let operands = vec![Some(sum), call.opt(5), call.opt(6)];
    let y = call.last("LayerNormalization", operands, vec![epsilon])?;
    call.narrowed(y, dtype)
}
