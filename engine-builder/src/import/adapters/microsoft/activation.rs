//! Activations with a bias in front, and products with what is around them.

use super::row;
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, ValueId};
use engine_ops::OpError;

pub(in crate::import::adapters) static ROWS: &[Adapter] = &[
    row("Gelu", &["Gelu"], |call| gelu(call, "none")),
    row("BiasGelu", &["Add", "Gelu"], |call| gelu(call, "none")),
    row("FastGelu", &["Add", "Gelu"], |call| gelu(call, "tanh")),
    row("QuickGelu", &["Swish"], |call| {
        let alpha = call.float("alpha", 1.702)?;
        call.finish("Swish", [call.input(0)?], vec![("alpha", Attr::Float(alpha))])
    }),
    row("FusedMatMul", &["MatMul", "Mul", "Transpose"], fused_matmul),
];

/// Gelu of the first operand and the bias, if there is one.
fn gelu(call: &mut Call<'_>, approximate: &str) -> Result<Last, OpError> {
    let x = match call.opt(1) {
        Some(bias) => call.emit("Add", [call.input(0)?, bias], vec![])?,
        None => call.input(0)?,
    };
    call.finish("Gelu", [x], vec![("approximate", Attr::Str(approximate.to_owned()))])
}

/// `alpha · A·B`, each operand turned around as its attributes say.
fn fused_matmul(call: &mut Call<'_>) -> Result<Last, OpError> {
    let alpha = call.float("alpha", 1.0)?;
    let a = call.input(0)?;
    let a = turned(call, a, "transA", "transBatchA")?;
    let b = call.input(1)?;
    let b = turned(call, b, "transB", "transBatchB")?;
    if alpha == 1.0 {
        return call.finish("MatMul", [a, b], vec![]);
    }
    let product = call.emit("MatMul", [a, b], vec![])?;
    let alpha = call.scalar_like(product, f64::from(alpha))?;
    call.finish("Mul", [product, alpha], vec![])
}

/// The operand as a stack of matrices: with `batch` its first axis is one of the matrices', with `last` they are transposed.
/// A vector stays.
fn turned(
    call: &mut Call<'_>,
    x: ValueId,
    last: &'static str,
    batch: &'static str,
) -> Result<ValueId, OpError> {
    let (last, batch) = (call.int(last, 0)? != 0, call.int(batch, 0)? != 0);
    let rank = call.rank(x)? as i64;
    if rank < 2 || (!last && !batch) {
        return Ok(x);
    }
    let mut perm: Vec<i64> = (0..rank).collect();
    if batch {
        perm[..rank as usize - 1].rotate_left(1);
    }
    if last {
        perm.swap(rank as usize - 2, rank as usize - 1);
    }
    call.emit("Transpose", [x], vec![("perm", Attr::Ints(perm))])
}
