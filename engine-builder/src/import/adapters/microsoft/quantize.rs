//! Quantised operators of ONNX Runtime: weights of a few bits in blocks, and arithmetic between two roundings.

use super::row;
use crate::import::adapters::Adapter;
use crate::import::adapters::quantize::{centred, dequantize, quantize, rounded};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(in crate::import::adapters) static ROWS: &[Adapter] = &[
    row("MatMulNBits", matmul_of_bits),
    row("QuantizeLinear", quantize),
    row("DequantizeLinear", dequantize),
    row("QLinearAdd", |call| between_roundings(call, "Add")),
    row("QLinearMul", |call| between_roundings(call, "Mul")),
    row("QLinearSigmoid", |call| {
        let x = call.input(0)?;
        let x = real(call, x, 1)?;
        let y = call.emit("Sigmoid", [x], vec![])?;
        finish(call, y, 3)
    }),
    row("QLinearLeakyRelu", |call| {
        let alpha = ("alpha", Attr::Float(call.float("alpha", 0.01)?));
        let x = call.input(0)?;
        let x = real(call, x, 1)?;
        let y = call.emit("LeakyRelu", [x], vec![alpha])?;
        finish(call, y, 3)
    }),
    row("QLinearGlobalAveragePool", global_average_pool),
    row("QLinearConcat", concat),
    row("MatMulIntegerToFloat", matmul_to_float),
    row("DynamicQuantizeMatMul", matmul_with_rounded_rows),
];

/// A · Bᵀ, where B [N, blocks, bytes] holds numbers of `bits` bits, the lowest bits first, with a scale and a zero point for
/// each block of `block_size` along K.
fn matmul_of_bits(call: &mut Call<'_>) -> Result<Last, OpError> {
    super::without(call, &[(4, "g_idx")], &[])?;
    let (a, packed, scales) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let (n, k) = (call.int("N", 0)?, call.int("K", 0)?);
    let (bits, block) = (call.int("bits", 4)?, call.int("block_size", 0)?);
    call.ignore("accuracy_level");
    if !matches!(bits, 2 | 4 | 8) || block <= 0 || n <= 0 || k <= 0 {
        return Err(OpError::new(format!(
            "N {n}, K {k}, {bits} bits in blocks of {block}, expected positive numbers and 2, 4 or 8 bits"
        )));
    }
    let blocks = (k + block - 1) / block;
    let dtype = call.facts(a).dtype;
    let bytes = n * blocks * block * bits / 8;
    let found = call.facts(packed);
    let elements = found.concrete().map(|shape| shape.iter().product::<usize>() as i64);
    if found.dtype != DType::U8 || elements.is_some_and(|elements| elements != bytes) {
        return Err(OpError::new(format!(
            "B is {found}, expected u8 of {n} rows of {blocks} blocks, {bytes} bytes in all"
        )));
    }
    let numbers = unpacked(call, packed, bits)?;
    let shape = call.vector(&[n, blocks, -1]);
    let numbers = call.emit("Reshape", [numbers, shape], vec![])?;
    let numbers = call.cast(numbers, dtype)?;
    let zero = match call.opt(3) {
        None => call.scalar_of(dtype, f64::from(1u32 << (bits - 1)))?,
        Some(zero) => zero_points(call, zero, bits, [n, blocks], dtype)?,
    };
    let centred = call.emit("Sub", [numbers, zero], vec![])?;
    let each = call.vector(&[n, blocks, 1]);
    let scales = call.emit("Reshape", [scales, each], vec![])?;
    let real = call.emit("Mul", [centred, scales], vec![])?;
    let rows = call.vector(&[n, -1]);
    let rows = call.emit("Reshape", [real, rows], vec![])?;
    let [from, to, axis] = [0, k, 1].map(|n| call.vector(&[n]));
    let rows = call.emit("Slice", [rows, from, to, axis], vec![])?;
    let b = call.emit("Transpose", [rows], vec![("perm", Attr::Ints(vec![1, 0]))])?;
    let Some(bias) = call.opt(5) else { return call.finish("MatMul", [a, b], vec![]) };
    let y = call.emit("MatMul", [a, b], vec![])?;
    call.finish("Add", [y, bias], vec![])
}

/// The numbers in bytes, the lowest bits first, along a new last axis.
fn unpacked(call: &mut Call<'_>, bytes: ValueId, bits: i64) -> Result<ValueId, OpError> {
    let last = call.vector(&[-1]);
    let mut parts = Vec::new();
    for shift in (0..8).step_by(bits as usize) {
        let by = call.scalar_of(DType::U8, f64::from(shift))?;
        let right = || vec![("direction", Attr::Str("RIGHT".to_owned()))];
        let part = match shift {
            0 => bytes,
            _ => call.emit("BitShift", [bytes, by], right())?,
        };
        let mask = call.scalar_of(DType::U8, f64::from((1u32 << bits) - 1))?;
        let part = call.emit("BitwiseAnd", [part, mask], vec![])?;
        parts.push(Some(call.emit("Unsqueeze", [part, last], vec![])?));
    }
    let all = call.last("Concat", parts, vec![("axis", Attr::Int(-1))])?;
    call.emit_last(all)
}

/// A zero point for each block: packed like the numbers, each row filled up to whole bytes, or floats.
fn zero_points(
    call: &mut Call<'_>,
    zero: ValueId,
    bits: i64,
    [n, blocks]: [i64; 2],
    dtype: DType,
) -> Result<ValueId, OpError> {
    let each = call.vector(&[n, blocks, 1]);
    if call.facts(zero).dtype != DType::U8 {
        return call.emit("Reshape", [zero, each], vec![]);
    }
    let rows = call.vector(&[n, -1]);
    let bytes = call.emit("Reshape", [zero, rows], vec![])?;
    let numbers = unpacked(call, bytes, bits)?;
    let numbers = call.emit("Reshape", [numbers, rows], vec![])?;
    let [from, to, axis] = [0, blocks, 1].map(|n| call.vector(&[n]));
    let numbers = call.emit("Slice", [numbers, from, to, axis], vec![])?;
    let numbers = call.emit("Reshape", [numbers, each], vec![])?;
    call.cast(numbers, dtype)
}

/// The real numbers of a quantised operand, whose scale and zero are operands `at` and `at + 1`.
fn real(call: &mut Call<'_>, x: ValueId, at: usize) -> Result<ValueId, OpError> {
    call.scales(x, call.input(at)?, call.opt(at + 1));
    let centred = centred(call, x, call.opt(at + 1), DType::F32)?;
    call.emit("Mul", [centred, call.input(at)?], vec![])
}

/// Rounds the result, whose scale and zero are operands `at` and `at + 1`, to the type of the zero, or of the first operand
/// without one.
fn finish(call: &mut Call<'_>, y: ValueId, at: usize) -> Result<Last, OpError> {
    let zero = call.opt(at + 1);
    let to = call.facts(zero.unwrap_or(call.input(0)?)).dtype;
    let y = rounded(call, y, call.input(at)?, zero, to)?;
    call.finish("Identity", [y], vec![])
}

/// A, its scale and zero, B, its scale and zero, the result's scale and zero.
fn between_roundings(call: &mut Call<'_>, op: &'static str) -> Result<Last, OpError> {
    let a = call.input(0)?;
    let a = real(call, a, 1)?;
    let b = call.input(3)?;
    let b = real(call, b, 4)?;
    let y = call.emit(op, [a, b], vec![])?;
    finish(call, y, 6)
}

fn global_average_pool(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let rank = call.rank(x)? as i64;
    let axes: Vec<i64> = match call.int("channels_last", 0)? {
        0 => (2..rank).collect(),
        _ => (1..rank - 1).collect(),
    };
    let x = real(call, x, 1)?;
    let axes = call.vector(&axes);
    let y = call.emit("ReduceMean", [x, axes], vec![])?;
    finish(call, y, 3)
}

/// The result's scale and zero, then each operand with its own.
fn concat(call: &mut Call<'_>) -> Result<Last, OpError> {
    let axis = call.int("axis", 0)?;
    let count = call.inputs().len();
    if count < 5 || !(count - 2).is_multiple_of(3) {
        return Err(OpError::new(format!(
            "{count} operands, expected two and three for each tensor"
        )));
    }
    let mut parts = Vec::new();
    for at in (2..count).step_by(3) {
        let x = call.input(at)?;
        parts.push(Some(real(call, x, at + 1)?));
    }
    let all = call.last("Concat", parts, vec![("axis", Attr::Int(axis))])?;
    let all = call.emit_last(all)?;
    let zero = call.input(1)?;
    let to = call.facts(zero).dtype;
    let y = rounded(call, all, call.input(0)?, Some(zero), to)?;
    call.finish("Identity", [y], vec![])
}

/// A, B, their scales, their zeros, a bias.
fn matmul_to_float(call: &mut Call<'_>) -> Result<Last, OpError> {
    let a = centred(call, call.input(0)?, call.opt(4), DType::I32)?;
    let b = centred(call, call.input(1)?, call.opt(5), DType::I32)?;
    call.scales(call.input(1)?, call.input(3)?, call.opt(5));
    let scale = call.emit("Mul", [call.input(2)?, call.input(3)?], vec![])?;
    scaled_sums(call, a, b, scale, call.opt(6))
}

/// A, B, the scale and the zero of B, a bias: A is rounded to u8 as DynamicQuantizeLinear does it.
fn matmul_with_rounded_rows(call: &mut Call<'_>) -> Result<Last, OpError> {
    let a = call.input(0)?;
    let rounded = crate::import::adapters::quantize::dynamic(call, a)?;
    let a = centred(call, rounded.values, Some(rounded.zero), DType::I32)?;
    let b = centred(call, call.input(1)?, call.opt(3), DType::I32)?;
    call.scales(call.input(1)?, call.input(2)?, call.opt(3));
    let scale = call.emit("Mul", [rounded.scale, call.input(2)?], vec![])?;
    scaled_sums(call, a, b, scale, call.opt(4))
}

fn scaled_sums(
    call: &mut Call<'_>,
    a: ValueId,
    b: ValueId,
    scale: ValueId,
    bias: Option<ValueId>,
) -> Result<Last, OpError> {
    let sums = call.emit("MatMul", [a, b], vec![])?;
    let sums = call.cast(sums, DType::F32)?;
    let Some(bias) = bias else { return call.finish("Mul", [sums, scale], vec![]) };
    let scaled = call.emit("Mul", [sums, scale], vec![])?;
    call.finish("Add", [scaled, bias], vec![])
}
