//! Elementwise operators of older opsets: broadcasting by attributes, bounds as attributes, types as words.

use super::{Adapter, row};
use crate::import::attrs;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Add", (1, 6), binary),
    row("Sub", (1, 6), binary),
    row("Mul", (1, 6), binary),
    row("Div", (1, 6), binary),
    row("Pow", (1, 6), binary),
    row("And", (1, 6), binary),
    row("Or", (1, 6), binary),
    row("Xor", (1, 6), binary),
    row("Equal", (1, 6), binary),
    row("Greater", (1, 6), binary),
    row("Less", (1, 6), binary),
    row("PRelu", (1, 6), slope_per_channel),
    row("Gemm", (1, 6), gemm),
    row("Clip", (1, 10), clip),
    row("Cast", (1, 5), cast),
    row("CastLike", (15, engine_ops::OnnxName::LATEST), cast_like),
    row("PRelu", (7, 8), in_place_hint),
    row("ArgMax", (1, 12), in_place_hint),
    row("ArgMin", (1, 12), in_place_hint),
    row("Max", (1, 7), in_place_hint),
    row("Mean", (1, 7), in_place_hint),
    row("Min", (1, 7), in_place_hint),
    row("Sum", (1, 7), in_place_hint),
    row("SwiGLU", (28, engine_ops::OnnxName::LATEST), gated_swish),
    row("Abs", (1, 5), in_place_hint),
    row("Ceil", (1, 5), in_place_hint),
    row("Elu", (1, 5), in_place_hint),
    row("Exp", (1, 5), in_place_hint),
    row("Floor", (1, 5), in_place_hint),
    row("HardSigmoid", (1, 5), in_place_hint),
    row("LeakyRelu", (1, 5), in_place_hint),
    row("Log", (1, 5), in_place_hint),
    row("Neg", (1, 5), in_place_hint),
    row("Reciprocal", (1, 5), in_place_hint),
    row("Relu", (1, 5), in_place_hint),
    row("Selu", (1, 5), in_place_hint),
    row("Sigmoid", (1, 5), in_place_hint),
    row("Sqrt", (1, 5), in_place_hint),
    row("Tanh", (1, 5), in_place_hint),
];

/// Until opset 5 elementwise operators carried a hint about memory; what later opsets added is more types and
/// broadcasting, which old models do not use.
fn in_place_hint(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let inputs = call.inputs();
    call.same(inputs)
}

/// `Swish(a) · b`, both of one shape.
fn gated_swish(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (a, b) = (call.input(0)?, call.input(1)?);
    if let (Some(of_a), Some(of_b)) = (call.facts(a).concrete(), call.facts(b).concrete())
        && of_a != of_b
    {
        return Err(OpError::new(format!("A has shape {of_a:?}, B {of_b:?}, expected one shape")));
    }
    let alpha = ("alpha", Attr::Float(call.float("alpha", 1.0)?));
    let gate = call.emit("Swish", [a], vec![alpha])?;
    call.finish("Mul", [gate, b], vec![])
}

/// Until opset 6 the second operand was stretched only if `broadcast` said so, its axes lying at `axis` of the first.
fn binary(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let (a, b) = (call.input(0)?, call.input(1)?);
    let broadcast = call.int("broadcast", 0)? != 0;
    let axis = call.int("axis", -1)?;
    let b = if broadcast && axis >= 0 { at_axis(call, a, b, axis)? } else { b };
    call.same(vec![Some(a), Some(b)])
}

/// `b` with axes of size 1 after its own, so that these lie at `axis` of `a`.
fn at_axis(call: &mut Call<'_>, a: ValueId, b: ValueId, axis: i64) -> Result<ValueId, OpError> {
    let (outer, inner) = (call.rank(a)? as i64, call.rank(b)? as i64);
    let behind = outer - axis - inner;
    if behind < 0 {
        return Err(OpError::new(format!(
            "operand B of rank {inner} does not fit operand A of rank {outer} at axis {axis}"
        )));
    }
    if behind == 0 {
        return Ok(b);
    }
    let axes: Vec<i64> = (inner..inner + behind).collect();
    let axes = call.vector(&axes);
    call.emit("Unsqueeze", [b, axes], vec![])
}

/// Until opset 6 a slope with more than one element belonged to axis 1.
fn slope_per_channel(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let (x, slope) = (call.input(0)?, call.input(1)?);
    let shared = call.facts(slope).concrete().is_some_and(|shape| shape.iter().all(|&n| n == 1));
    let slope = if shared { slope } else { at_axis(call, x, slope, 1)? };
    call.same(vec![Some(x), Some(slope)])
}

/// Until opset 6 an attribute allowed C to be stretched, which it always may be since.
fn gemm(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("broadcast");
    let inputs = call.inputs();
    call.same(inputs)
}

fn clip(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("consumed_inputs");
    let x = call.input(0)?;
    let (min, max) = (call.float("min", f32::MIN)?, call.float("max", f32::MAX)?);
    // The defaults are the ends of f32, which other types may not have: no bound then.
    let bound = |call: &mut Call<'_>, value: f32, default: f32| match value == default {
        true => Ok(None),
        false => call.scalar_like(x, f64::from(value)).map(Some),
    };
    let min = bound(call, min, f32::MIN)?;
    let max = bound(call, max, f32::MAX)?;
    call.last("Clip", vec![Some(x), min, max], vec![])
}

/// Until opset 5 the type was a word.
fn cast(call: &mut Call<'_>) -> Result<Last, OpError> {
    let word = call.str("to", "")?;
    let row = TYPE_WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
    let (_, dtype) = row.ok_or_else(|| {
        let known: Vec<&str> = TYPE_WORDS.iter().map(|(known, _)| *known).collect();
        OpError::new(format!("attribute \"to\" is {word:?}, expected one of {known:?}"))
    })?;
    call.finish_cast(call.input(0)?, *dtype)
}

/// Types are known here, so that what is cast can be folded without the contents of the second operand.
fn cast_like(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, like) = (call.input(0)?, call.input(1)?);
    let to = attrs::element_number(call.facts(like).dtype);
    let mut cast = call.same_as("Cast", vec![Some(x)])?;
    cast.attrs.insert("to".to_owned(), Attr::Int(to));
    Ok(cast)
}

/// Element types as opset 5 wrote them.
static TYPE_WORDS: &[(&str, DType)] = &[
    ("FLOAT", DType::F32),
    ("DOUBLE", DType::F64),
    ("FLOAT16", DType::F16),
    ("INT8", DType::I8),
    ("INT16", DType::I16),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("UINT8", DType::U8),
    ("UINT16", DType::U16),
    ("UINT32", DType::U32),
    ("UINT64", DType::U64),
    ("BOOL", DType::Bool),
];
