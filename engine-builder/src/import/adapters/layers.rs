//! Pools and recurrent layers of older opsets, and the pool of norms over all that is there.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("AveragePool", (1, 6), |call| same_without(call, &[])),
    row("LpPool", (1, 1), lp_pool),
    row("GlobalLpPool", ALL, global_lp_pool),
    row("LSTM", (1, 6), |call| same_without(call, &["output_sequence"])),
    row("GRU", (1, 6), |call| same_without(call, &["output_sequence"])),
    row("RNN", (1, 6), |call| same_without(call, &["output_sequence"])),
];

/// The newest form without attributes that it dropped: whether a result is wanted follows from who reads it.
fn same_without(call: &mut Call<'_>, dropped: &[&'static str]) -> Result<Last, OpError> {
    dropped.iter().for_each(|name| call.ignore(name));
    let inputs = call.inputs();
    call.same(inputs)
}

/// The order of the norm, an integer but in opset 1.
fn order(call: &mut Call<'_>) -> Result<f64, OpError> {
    let p = match call.opset() {
        1 => f64::from(call.float("p", 2.0)?),
        _ => call.int("p", 2)? as f64,
    };
    match p > 0.0 && p.is_finite() {
        true => Ok(p),
        false => Err(OpError::new(format!("p is {p}, expected a number above 0"))),
    }
}

/// `|x|^p`, or with a root its inverse, in a type that holds what lies in between: not less than f32.
fn powers(call: &mut Call<'_>, x: ValueId, p: f64) -> Result<ValueId, OpError> {
    let wide = if call.facts(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let x = call.cast(x, wide)?;
    let x = call.emit("Abs", [x], vec![])?;
    let p = call.scalar_of(wide, p)?;
    call.emit("Pow", [x, p], vec![])
}

/// A power that is no integer is taken before the pool, which then sums.
fn lp_pool(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, p) = (call.input(0)?, order(call)?);
    if p.fract() == 0.0 {
        let mut last = call.same(vec![Some(x)])?;
        last.attrs.insert("p".to_owned(), Attr::Int(p as i64));
        return Ok(last);
    }
    let own = call.facts(x).dtype;
    let raised = powers(call, x, p)?;
    let mut pool = call.same(vec![Some(raised)])?;
    pool.attrs.insert("p".to_owned(), Attr::Int(1));
    let sum = call.emit_last(pool)?;
    let norm = powers(call, sum, 1.0 / p)?;
    call.finish_cast(norm, own)
}

/// `(Σ |x|^p)^(1/p)` over the axes behind the channels.
fn global_lp_pool(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, p) = (call.input(0)?, order(call)?);
    let rank = call.rank(x)? as i64;
    if rank < 3 {
        return Err(OpError::new(format!(
            "X has rank {rank}, expected a batch, channels and what is pooled"
        )));
    }
    let axes: Vec<i64> = (2..rank).collect();
    let axes = call.vector(&axes);
    let norm = [(1.0, "ReduceL1"), (2.0, "ReduceL2")].into_iter().find(|(of, _)| *of == p);
    if let Some((_, norm)) = norm {
        return call.finish(norm, [x, axes], vec![]);
    }
    let own = call.facts(x).dtype;
    let raised = powers(call, x, p)?;
    let sum = call.emit("ReduceSum", [raised, axes], vec![])?;
    let norm = powers(call, sum, 1.0 / p)?;
    call.finish_cast(norm, own)
}
