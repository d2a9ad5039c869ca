//! Activations with a bias in front, and products with what is around them.

use super::row;
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, ValueId};
use engine_ops::OpError;

pub(in crate::import::adapters) static ROWS: &[Adapter] = &[
    row("Gelu", |call| gelu(call, "none")),
    row("BiasGelu", |call| gelu(call, "none")),
    row("FastGelu", |call| gelu(call, "tanh")),
    row("QuickGelu", |call| {
        let alpha = call.float("alpha", 1.702)?;
        call.finish("Swish", [call.input(0)?], vec![("alpha", Attr::Float(alpha))])
    }),
    row("FusedMatMul", fused_matmul),
    row("FusedGemm", fused_gemm),
    row("FusedConv", fused_conv),
];

/// Activations by the names that products have in an attribute, with the attributes of the operator of that name that a product gives as
/// parameters, in their order.
static ACTIVATIONS: &[(&str, &[&str])] = &[
    ("Celu", &["alpha"]),
    ("Elu", &["alpha"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("LeakyRelu", &["alpha"]),
    ("Relu", &[]),
    ("Selu", &["alpha", "gamma"]),
    ("Sigmoid", &[]),
    ("Softplus", &[]),
    ("Softsign", &[]),
    ("Tanh", &[]),
    ("ThresholdedRelu", &["alpha"]),
];

/// Activation `name` of `x`; `parameter` gives those that the model has, by position and by name.
fn activated(
    call: &Call<'_>,
    x: ValueId,
    name: &str,
    mut parameter: impl FnMut(usize, &str) -> Option<f32>,
) -> Result<Last, OpError> {
    let Some((op, names)) = ACTIVATIONS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
        return Err(OpError::new(format!(
            "activation {name:?}, expected one of {}",
            known.join(", ")
        )));
    };
    let given = names.iter().enumerate();
    let given = given.filter_map(|(i, name)| Some((*name, Attr::Float(parameter(i, name)?))));
    call.finish(op, [x], given.collect())
}

/// Gelu of the first operand and the bias, if there is one.
fn gelu(call: &mut Call<'_>, approximate: &str) -> Result<Last, OpError> {
    let x = match call.opt(1) {
        Some(bias) => call.emit("Add", [call.input(0)?, bias], vec![])?,
        None => call.input(0)?,
    };
    call.finish("Gelu", [x], vec![("approximate", Attr::Str(approximate.to_owned()))])
}

/// `alpha · A·B`, each operand transposed as its attributes say.
fn fused_matmul(call: &mut Call<'_>) -> Result<Last, OpError> {
    let alpha = call.float("alpha", 1.0)?;
    let a = call.input(0)?;
    let a = transposed(call, a, "transA", "transBatchA")?;
    let b = call.input(1)?;
    let b = transposed(call, b, "transB", "transBatchB")?;
    if alpha == 1.0 {
        return call.finish("MatMul", [a, b], vec![]);
    }
    let product = call.emit("MatMul", [a, b], vec![])?;
    let alpha = call.scalar_like(product, f64::from(alpha))?;
    call.finish("Mul", [product, alpha], vec![])
}

/// The operand as a stack of matrices: with `batch` its first axis is one of the matrices', with `last` they are transposed.
/// A vector stays.
fn transposed(
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

/// `alpha · A·B + beta · C`, activated.
fn fused_gemm(call: &mut Call<'_>) -> Result<Last, OpError> {
    let name = call.str("activation", "")?;
    let mut given = Vec::new();
    for (attr, short) in
        [("activation_alpha", "alpha"), ("activation_beta", "beta"), ("activation_gamma", "gamma")]
    {
        if call.has(attr) {
            given.push((short, call.float(attr, 0.0)?));
        }
    }
    let gemm = call.same_as("Gemm", call.inputs())?;
    let y = call.emit_last(gemm)?;
    activated(call, y, name, |_, name| {
        given.iter().find(|(short, _)| *short == name).map(|(_, value)| *value)
    })
}

/// A convolution, and what is added to it, activated.
fn fused_conv(call: &mut Call<'_>) -> Result<Last, OpError> {
    let name = call.str("activation", "")?;
    let given = call.floats("activation_params")?.unwrap_or_default();
    let conv = vec![Some(call.input(0)?), Some(call.input(1)?), call.opt(2)];
    let conv = call.same_as("Conv", conv)?;
    let mut last = conv;
    if let Some(sum) = call.opt(3) {
        let y = call.emit_last(last)?;
        last = call.finish("Add", [y, sum], vec![])?;
    }
    match (name, given) {
        ("", _) => Ok(last),
        ("Clip", &[low, high]) => {
            let y = call.emit_last(last)?;
            let (low, high) =
                (call.scalar_like(y, f64::from(low))?, call.scalar_like(y, f64::from(high))?);
            call.finish("Clip", [y, low, high], vec![])
        }
        ("HardSwish", &[alpha, beta]) => {
            let y = call.emit_last(last)?;
            let attrs = vec![("alpha", Attr::Float(alpha)), ("beta", Attr::Float(beta))];
            let share = call.emit("HardSigmoid", [y], attrs)?;
            call.finish("Mul", [y, share], vec![])
        }
        _ => {
            let y = call.emit_last(last)?;
            activated(call, y, name, |i, _| given.get(i).copied())
        }
    }
}
