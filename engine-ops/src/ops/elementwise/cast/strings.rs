//! Numbers as strings and strings as numbers.

use super::rounding::rounding;
use crate::OpError;
use crate::convert::cast_rounded;
use crate::cpu::{CpuCtx, TensorMut, TensorRef};
use engine_format::{AlignedBuf, DType, Tensor};

/// A cast from or to strings.
pub(super) fn cast(ctx: &CpuCtx<'_>, to: DType) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let text = |texts: &[String]| Ok(vec![Tensor::from_strings(x.shape, texts)]);
    match (x.dtype, to) {
        (DType::String, DType::String) => Ok(vec![Tensor::from_strings(x.shape, &x.strings())]),
        (DType::String, _) => {
            let numbers = read(&x.strings(), to)?;
            Ok(vec![converted(ctx, (&numbers).into(), x.shape, to)?])
        }
        (DType::F64, _) => {
            text(&x.slice::<f64>().iter().map(|&v| written_f64(v)).collect::<Vec<_>>())
        }
        (dtype, _) if dtype.is_float() || is_small_float(dtype) => {
            let wide = converted(ctx, x, x.shape, DType::F32)?;
            let wide = wide.as_slice::<f32>().expect("converted to it");
            text(&wide.iter().map(|&v| written_f32(v)).collect::<Vec<_>>())
        }
        (DType::U64, _) => text(&x.slice::<u64>().iter().map(u64::to_string).collect::<Vec<_>>()),
        _ => {
            let wide = converted(ctx, x, x.shape, DType::I64)?;
            let wide = wide.as_slice::<i64>().expect("converted to it");
            text(&wide.iter().map(i64::to_string).collect::<Vec<_>>())
        }
    }
}

fn is_small_float(dtype: DType) -> bool {
    dtype.is_compact() && !matches!(dtype, DType::I4 | DType::U4 | DType::I2 | DType::U2)
}

/// Numbers in another type, by the rules of numbers.
fn converted(
    ctx: &CpuCtx<'_>,
    x: TensorRef<'_>,
    shape: &[usize],
    to: DType,
) -> Result<Tensor, OpError> {
    let len = x.len() * to.width();
    let mut bytes = AlignedBuf::try_zeroed(len).map_err(|why| OpError::new(why.to_string()))?;
    let mut y = TensorMut { dtype: to, shape, bytes: &mut bytes };
    cast_rounded(x, &mut y, rounding(ctx.attrs)?);
    Tensor::new(to, shape, bytes.into()).map_err(|error| OpError::new(error.to_string()))
}

/// The numbers that strings stand for, in the widest type of the kind of `to`. Bits of integers beyond `i64` wrap, as they
/// would on the way to a narrower type.
fn read(texts: &[&str], to: DType) -> Result<Tensor, OpError> {
    let wrong = |(i, text): (usize, &&str)| {
        OpError::new(format!("element {i} is {text:?}, expected a number to cast to {to}"))
    };
    let each = || texts.iter().enumerate();
    let shape = [texts.len()];
    let whole = to.is_int() || matches!(to, DType::I4 | DType::U4 | DType::I2 | DType::U2);
    if to == DType::F32 {
        let parse = |at: (usize, &&str)| at.1.trim().parse::<f32>().map_err(|_| wrong(at));
        return Ok(Tensor::from_slice(&shape, &each().map(parse).collect::<Result<Vec<_>, _>>()?));
    }
    if whole {
        let parse = |at: (usize, &&str)| integer(at.1.trim()).ok_or_else(|| wrong(at));
        return Ok(Tensor::from_slice(&shape, &each().map(parse).collect::<Result<Vec<_>, _>>()?));
    }
    let parse = |at: (usize, &&str)| at.1.trim().parse::<f64>().map_err(|_| wrong(at));
    Ok(Tensor::from_slice(&shape, &each().map(parse).collect::<Result<Vec<_>, _>>()?))
}

/// An integer, or a number with a fraction cut towards zero.
fn integer(text: &str) -> Option<i64> {
    if let Ok(value) = text.parse::<i128>() {
        let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value);
        return fits.then_some(value as i64);
    }
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
    let fits = (-(2f64.powi(63))..2f64.powi(64)).contains(&value);
    fits.then_some(value as i128 as i64)
}

/// Decimal exponents from which on `%g` of an f32, and of an f64, is scientific: the digits that are always kept.
const DIGITS_F32: i32 = 8;
const DIGITS_F64: i32 = 17;

fn written_f32(value: f32) -> String {
    written(f64::from(value), format!("{value:e}"), format!("{value}"), DIGITS_F32)
}

fn written_f64(value: f64) -> String {
    written(value, format!("{value:e}"), format!("{value}"), DIGITS_F64)
}

/// The plain or the scientific form, the exponent having a sign and at least two digits.
fn written(value: f64, scientific: String, plain: String, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF".to_owned() } else { "-INF".to_owned() };
    }
    let (mantissa, exponent) =
        scientific.split_once('e').expect("a finite number in scientific form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if (-4..digits).contains(&exponent) {
        return plain;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
