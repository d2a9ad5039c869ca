//! Numbers as small integers with a scale, as compositions: where a scale and a tensor are weights, what they make is
//! prepared once.

use super::{ALL, Adapter, row};
use crate::import::attrs;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("QuantizeLinear", ALL, quantize),
    row("DequantizeLinear", ALL, dequantize),
    row("DynamicQuantizeLinear", ALL, dynamic_quantize),
    row("MatMulInteger", ALL, matmul_integer),
    row("ConvInteger", ALL, conv_integer),
    row("QLinearMatMul", ALL, qlinear_matmul),
    row("QLinearConv", ALL, qlinear_conv),
];

/// Ends of an integer type that values are rounded into.
fn range(dtype: DType) -> Result<(f64, f64), OpError> {
    Ok(match dtype {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        DType::U16 => (0.0, 65535.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U4 => (0.0, 15.0),
        DType::I4 => (-8.0, 7.0),
        DType::U2 => (0.0, 3.0),
        DType::I2 => (-2.0, 1.0),
        other => {
            return Err(OpError::new(format!(
                "quantised type {other}, expected an integer of at most 16 bits"
            )));
        }
    })
}

/// `saturate(round(x / scale) + zero)` in `to`; `zero` is there already in the type of `x`, or absent.
pub(super) fn rounded(
    call: &mut Call<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
) -> Result<ValueId, OpError> {
    let (low, high) = range(to)?;
    let ratio = call.emit("Div", [x, scale], vec![])?;
    let mut whole = call.emit("Round", [ratio], vec![])?;
    if let Some(zero) = zero {
        let dtype = call.facts(whole).dtype;
        let zero = call.cast(zero, dtype)?;
        whole = call.emit("Add", [whole, zero], vec![])?;
    }
    let (low, high) = (call.scalar_like(whole, low)?, call.scalar_like(whole, high)?);
    let inside = call.emit("Clip", [whole, low, high], vec![])?;
    call.cast(inside, to)
}

/// x, scale, zero: one for all, or one for each index or block of an axis.
pub(super) fn quantize(call: &mut Call<'_>) -> Result<Last, OpError> {
    let saturate = call.int("saturate", 1)?;
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let along = Along::read(call)?;
    let asked = call.element_type("output_dtype")?;
    let to = match call.opt(2) {
        Some(zero) => call.facts(zero).dtype,
        None => asked.unwrap_or(DType::U8),
    };
    let precision = match call.element_type("precision")? {
        Some(precision) => precision,
        None => call.facts(scale).dtype,
    };
    // f16 does not hold every 16-bit integer; f32 holds all that a result can be.
    let precision = if precision == DType::F64 { precision } else { DType::F32 };
    let scale = along.spread(call, scale, x)?;
    let zero = along.spread_all(call, call.opt(2), x)?;
    let (x, scale) = (call.cast(x, precision)?, call.cast(scale, precision)?);
    if to.is_compact() && range(to).is_err() {
        // Small floats have no zero point but 0, and their conversion rounds and saturates by itself.
        let ratio = call.emit("Div", [x, scale], vec![])?;
        let to = ("to", Attr::Int(attrs::element_number(to)));
        return call.finish("Cast", [ratio], vec![to, ("saturate", Attr::Int(saturate))]);
    }
    let y = rounded(call, x, scale, zero, to)?;
    call.finish("Identity", [y], vec![])
}

/// The inverse of [`quantize`], over the same operands.
pub(super) fn dequantize(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, scale) = (call.input(0)?, call.input(1)?);
    call.scales(x, scale, call.opt(2));
    let along = Along::read(call)?;
    let to = match call.element_type("output_dtype")? {
        Some(to) => to,
        None => call.facts(scale).dtype,
    };
    let scale = along.spread(call, scale, x)?;
    let zero = along.spread_all(call, call.opt(2), x)?;
    let centred = centred(call, x, zero, DType::F32)?;
    let scale = call.cast(scale, DType::F32)?;
    let y = call.emit("Mul", [centred, scale], vec![])?;
    let y = call.cast(y, to)?;
    call.finish("Identity", [y], vec![])
}

/// `x - zero` as floats or wide integers, exactly.
pub(super) fn centred(
    call: &mut Call<'_>,
    x: ValueId,
    zero: Option<ValueId>,
    dtype: DType,
) -> Result<ValueId, OpError> {
    // Whole numbers are asked for by products that are summed in 32 bits.
    let own = call.facts(x).dtype;
    if dtype == DType::I32 && !matches!(own, DType::I8 | DType::U8) {
        return Err(OpError::new(format!("a factor is {own}, expected i8 or u8")));
    }
    let Some(zero) = zero else { return call.cast(x, dtype) };
    // Differences of 32-bit integers need not fit a float; those of smaller ones do.
    let exact = if call.facts(x).dtype == DType::I32 { DType::I32 } else { dtype };
    let (x, zero) = (call.cast(x, exact)?, call.cast(zero, exact)?);
    let difference = call.emit("Sub", [x, zero], vec![])?;
    call.cast(difference, dtype)
}

/// How scales lie along a tensor: one for all, one for each index of an axis, or one for each block along an axis.
struct Along {
    axis: i64,
    block: i64,
}

impl Along {
    fn read(call: &mut Call<'_>) -> Result<Self, OpError> {
        Ok(Self { axis: call.int("axis", 1)?, block: call.int("block_size", 0)? })
    }

    fn spread_all(
        &self,
        call: &mut Call<'_>,
        parameter: Option<ValueId>,
        x: ValueId,
    ) -> Result<Option<ValueId>, OpError> {
        parameter.map(|parameter| self.spread(call, parameter, x)).transpose()
    }

    /// `parameter` so that it broadcasts to `x`.
    fn spread(
        &self,
        call: &mut Call<'_>,
        parameter: ValueId,
        x: ValueId,
    ) -> Result<ValueId, OpError> {
        let rank = call.rank(parameter)?;
        if rank == 0 {
            return Ok(parameter);
        }
        if self.block > 0 {
            let axis = engine_ops::infer::axis(self.axis, rank)? as i64;
            return self.repeat(call, parameter, x, axis, rank as i64);
        }
        // A vector of one element is one for all.
        if rank == 1 && call.facts(parameter).concrete().is_some_and(|shape| shape == [1]) {
            return Ok(parameter);
        }
        let of_x = call.rank(x)?;
        let axis = engine_ops::infer::axis(self.axis, of_x)?;
        let behind: Vec<i64> = (1..(of_x - axis) as i64).collect();
        if behind.is_empty() {
            return Ok(parameter);
        }
        let behind = call.vector(&behind);
        call.emit("Unsqueeze", [parameter, behind], vec![])
    }

    /// Each element `block` times along `axis`, cut to the size of `x` there.
    fn repeat(
        &self,
        call: &mut Call<'_>,
        parameter: ValueId,
        x: ValueId,
        axis: i64,
        rank: i64,
    ) -> Result<ValueId, OpError> {
        let (before, own) =
            (call.sizes(parameter, 0, axis + 1)?, call.sizes(parameter, axis + 1, rank)?);
        let joined = |call: &mut Call<'_>, parts| {
            call.last("Concat", parts, vec![("axis", Attr::Int(0))])
                .and_then(|last| call.emit_last(last))
        };
        let block = call.vector(&[self.block]);
        let wide = joined(call, vec![Some(before), Some(block), Some(own)])?;
        let outer = call.sizes(parameter, 0, axis)?;
        let flat = call.vector(&[-1]);
        let shape = joined(call, vec![Some(outer), Some(flat), Some(own)])?;
        let place = call.vector(&[axis + 1]);
        let apart = call.emit("Unsqueeze", [parameter, place], vec![])?;
        let apart = call.emit("Expand", [apart, wide], vec![])?;
        let all = call.emit("Reshape", [apart, shape], vec![])?;
        let (zero, end) = (call.vector(&[0]), call.sizes(x, axis, axis + 1)?);
        let axis = call.vector(&[axis]);
        call.emit("Slice", [all, zero, end, axis], vec![])
    }
}

/// A tensor as u8, with scale and zero so that its range, with zero in it, fits.
pub(super) struct Rounded {
    pub(super) values: ValueId,
    pub(super) scale: ValueId,
    pub(super) zero: ValueId,
}

/// Rounds a tensor by its own range.
pub(super) fn dynamic(call: &mut Call<'_>, x: ValueId) -> Result<Rounded, OpError> {
    let flat = || vec![("keepdims", Attr::Int(0))];
    let zero = call.scalar_like(x, 0.0)?;
    let all = call.scalar_like(x, 255.0)?;
    let high = call.emit("ReduceMax", [x], flat())?;
    let high = call.emit("Max", [high, zero], vec![])?;
    let low = call.emit("ReduceMin", [x], flat())?;
    let low = call.emit("Min", [low, zero], vec![])?;
    let width = call.emit("Sub", [high, low], vec![])?;
    let scale = call.emit("Div", [width, all], vec![])?;
    let lowest = call.emit("Neg", [low], vec![])?;
    let zero = rounded(call, lowest, scale, None, DType::U8)?;
    let values = rounded(call, x, scale, Some(zero), DType::U8)?;
    Ok(Rounded { values, scale, zero })
}

fn dynamic_quantize(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let Rounded { values, scale, zero } = dynamic(call, x)?;
    call.give(1, scale);
    call.give(2, zero);
    call.finish("Identity", [values], vec![])
}

/// A zero for each row of a matrix, as a column.
fn per_row(call: &mut Call<'_>, zero: Option<ValueId>) -> Result<Option<ValueId>, OpError> {
    let Some(zero) = zero else { return Ok(None) };
    if call.rank(zero)? != 1 || call.facts(zero).concrete().is_some_and(|shape| shape == [1]) {
        return Ok(Some(zero));
    }
    let axis = call.vector(&[1]);
    call.emit("Unsqueeze", [zero, axis], vec![]).map(Some)
}

/// Products of 8-bit integers summed exactly, in 32 bits.
fn matmul_integer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let rows = per_row(call, call.opt(2))?;
    let a = centred(call, call.input(0)?, rows, DType::I32)?;
    let b = centred(call, call.input(1)?, call.opt(3), DType::I32)?;
    call.finish("MatMul", [a, b], vec![])
}

/// A convolution's attributes, taken over as they are.
fn convolution(call: &mut Call<'_>, inputs: Vec<Option<ValueId>>) -> Result<ValueId, OpError> {
    let conv = call.same_as("Conv", inputs)?;
    call.emit_last(conv)
}

/// Convolutions of 8-bit integers, summed exactly in 32 bits.
fn conv_integer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = centred(call, call.input(0)?, call.opt(2), DType::I32)?;
    let filters = channels_first(call, call.opt(3), call.input(1)?)?;
    let w = centred(call, call.input(1)?, filters, DType::I32)?;
    call.same_as("Conv", vec![Some(x), Some(w)])
}

/// One parameter for each filter, so that it meets the first axis of the weight.
fn channels_first(
    call: &mut Call<'_>,
    parameter: Option<ValueId>,
    weight: ValueId,
) -> Result<Option<ValueId>, OpError> {
    let Some(parameter) = parameter else { return Ok(None) };
    if call.rank(parameter)? == 0 {
        return Ok(Some(parameter));
    }
    let behind: Vec<i64> = (1..call.rank(weight)? as i64).collect();
    let behind = call.vector(&behind);
    call.emit("Unsqueeze", [parameter, behind], vec![]).map(Some)
}

/// a, its scale and zero, b, its scale and zero, the result's scale and zero.
fn qlinear_matmul(call: &mut Call<'_>) -> Result<Last, OpError> {
    let rows = per_row(call, call.opt(2))?;
    let a = centred(call, call.input(0)?, rows, DType::I32)?;
    let b = centred(call, call.input(3)?, call.opt(5), DType::I32)?;
    let sums = call.emit("MatMul", [a, b], vec![])?;
    let sums = call.cast(sums, DType::F32)?;
    call.scales(call.input(3)?, call.input(4)?, call.opt(5));
    let (a_scale, b_scale) = (per_row(call, call.opt(1))?, call.input(4)?);
    let a_scale = a_scale.ok_or_else(|| OpError::new("operand 1 is missing"))?;
    requantized(call, sums, a_scale, b_scale, 6)
}

/// `round(sums · a_scale · b_scale / y_scale) + y_zero`, the result's scale and zero being operands `at` and `at + 1`.
fn requantized(
    call: &mut Call<'_>,
    sums: ValueId,
    a_scale: ValueId,
    b_scale: ValueId,
    at: usize,
) -> Result<Last, OpError> {
    let (y_scale, y_zero) = (call.input(at)?, call.input(at + 1)?);
    let [a_scale, b_scale, y_scale] = [
        call.cast(a_scale, DType::F32)?,
        call.cast(b_scale, DType::F32)?,
        call.cast(y_scale, DType::F32)?,
    ];
    let scale = call.emit("Mul", [a_scale, b_scale], vec![])?;
    let values = call.emit("Mul", [sums, scale], vec![])?;
    let to = call.facts(y_zero).dtype;
    let y = rounded(call, values, y_scale, Some(y_zero), to)?;
    call.finish("Identity", [y], vec![])
}

/// x, its scale and zero, w, its scale and zero, the result's scale and zero, and a shift in units of both scales.
fn qlinear_conv(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, w) = (call.input(0)?, call.input(3)?);
    let filters = channels_first(call, call.opt(5), w)?;
    let (x_zero, shift) = (call.opt(2), call.opt(8));
    let x = centred(call, x, x_zero, DType::I32)?;
    let centred_w = centred(call, w, filters, DType::I32)?;
    let mut operands = vec![Some(x), Some(centred_w)];
    if let Some(shift) = shift {
        operands.push(Some(call.cast(shift, DType::I32)?));
    }
    let sums = convolution(call, operands)?;
    let sums = call.cast(sums, DType::F32)?;
    let w_scale = call.input(4)?;
    call.scales(w, w_scale, call.opt(5));
    let w_scale = match call.rank(w_scale)? {
        0 => w_scale,
        _ => {
            let behind: Vec<i64> = (1..call.rank(w)? as i64 - 1).collect();
            let behind = call.vector(&behind);
            call.emit("Unsqueeze", [w_scale, behind], vec![])?
        }
    };
    requantized(call, sums, call.input(1)?, w_scale, 6)
}
