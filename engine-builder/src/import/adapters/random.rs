//! Draws by chance, in terms of the two of the table: the shape as an operand, the seed as a whole number.

use super::{ALL, Adapter, row};
use crate::import::attrs;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("RandomUniform", ALL, |call| of_shape(call, "RandomUniform")),
    row("RandomNormal", ALL, |call| of_shape(call, "RandomNormal")),
    row("RandomUniformLike", ALL, |call| like(call, "RandomUniform")),
    row("RandomNormalLike", ALL, |call| like(call, "RandomNormal")),
    row("Bernoulli", ALL, bernoulli),
    row("Multinomial", ALL, multinomial),
    row("Dropout", ALL, dropout),
];

/// The attribute `seed`, a float for all but Dropout, cut to a whole number as the reference implementation does.
fn seed(call: &mut Call<'_>) -> Result<Option<i64>, OpError> {
    if !call.has("seed") {
        return Ok(None);
    }
    let seed = match call.op() {
        "Dropout" => call.int("seed", 0)?,
        _ => call.float("seed", 0.0)? as i64,
    };
    Ok(Some(seed))
}

/// A draw that gives the results; `low`, `high`, `mean` and `scale` are taken over.
fn drawn(call: &mut Call<'_>, op: &str, shape: ValueId, dtype: DType) -> Result<Last, OpError> {
    let seed = seed(call)?;
    let mut draw = call.same_as(op, vec![Some(shape)])?;
    draw.attrs.insert("dtype".to_owned(), Attr::Int(attrs::element_number(dtype)));
    if let Some(seed) = seed {
        draw.attrs.insert("seed".to_owned(), Attr::Int(seed));
    }
    Ok(draw)
}

fn of_shape(call: &mut Call<'_>, op: &str) -> Result<Last, OpError> {
    let shape = call.required_ints("shape")?;
    let shape = call.vector(shape);
    let dtype = call.element_type("dtype")?.unwrap_or(DType::F32);
    drawn(call, op, shape, dtype)
}

fn like(call: &mut Call<'_>, op: &str) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let shape = call.emit("Shape", [x], vec![])?;
    let dtype = call.element_type("dtype")?.unwrap_or(call.facts(x).dtype);
    drawn(call, op, shape, dtype)
}

/// 1 with the probability that the operand says, as the standard's own composition has it: where an even draw is less.
fn bernoulli(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let own = call.facts(x).dtype;
    let to = call.element_type("dtype")?.unwrap_or(own);
    let shape = call.emit("Shape", [x], vec![])?;
    let draw = drawn(call, "RandomUniform", shape, own)?;
    let draw = call.emit_last(draw)?;
    let hit = call.emit("Less", [draw, x], vec![])?;
    call.finish_cast(hit, to)
}

/// For each row of logarithms of probabilities as many classes as asked for: how many running sums of the probabilities an
/// even draw has passed.
fn multinomial(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let samples = call.int("sample_size", 1)?;
    let to = call.element_type("dtype")?.unwrap_or(DType::I32);
    let dtype = call.facts(x).dtype;
    let shares = call.emit("Softmax", [x], vec![("axis", Attr::Int(-1))])?;
    let axis = call.literal(Tensor::from_slice(&[], &[1i64]));
    let sums = call.emit("CumSum", [shares, axis], vec![])?;
    let middle = call.vector(&[1]);
    let sums = call.emit("Unsqueeze", [sums, middle], vec![])?;
    let (batch, each) = (call.sizes(x, 0, 1)?, call.vector(&[samples, 1]));
    let shape = call.emit("Concat", [batch, each], vec![("axis", Attr::Int(0))])?;
    let draw = drawn(call, "RandomUniform", shape, dtype)?;
    let draw = call.emit_last(draw)?;
    let passed = call.emit("GreaterOrEqual", [draw, sums], vec![])?;
    let passed = call.cast(passed, DType::I64)?;
    let last = call.vector(&[-1]);
    let class = call.emit("ReduceSum", [passed, last], vec![("keepdims", Attr::Int(0))])?;
    // The last sum may be less than 1 by its rounding.
    let (classes, one) = (call.sizes(x, 1, 2)?, call.vector(&[1]));
    let most = call.emit("Sub", [classes, one], vec![])?;
    let class = call.emit("Min", [class, most], vec![])?;
    call.finish_cast(class, to)
}

/// In training each element is dropped with the probability `ratio`, and what stays is scaled up; in inference all stay.
fn dropout(call: &mut Call<'_>) -> Result<Last, OpError> {
    for name in ["is_test", "consumed_inputs"] {
        call.ignore(name);
    }
    let training = match call.opt(2) {
        None => None,
        Some(training) => match call.decide(training).and_then(|t| t.to_i64s()).as_deref() {
            Some([0]) => None,
            _ => Some(training),
        },
    };
    let x = call.input(0)?;
    let Some(training) = training else {
        call.ignore("ratio");
        call.ignore("seed");
        if call.asks_for(1) {
            let mask = whole_mask(call, x)?;
            call.give(1, mask);
        }
        return call.finish("Identity", [x], vec![]);
    };
    let dtype = call.facts(x).dtype;
    let ratio = match call.opt(1) {
        Some(ratio) => ratio,
        None => call.scalar_of(dtype, 0.5)?,
    };
    let shape = call.emit("Shape", [x], vec![])?;
    let draw = drawn(call, "RandomUniform", shape, DType::F64)?;
    let draw = call.emit_last(draw)?;
    let exact = call.cast(ratio, DType::F64)?;
    let lucky = call.emit("GreaterOrEqual", [draw, exact], vec![])?;
    let inference = call.emit("Not", [training], vec![])?;
    let kept = call.emit("Or", [lucky, inference], vec![])?;
    call.give(1, kept);
    let (one, zero) = (call.scalar_of(DType::F64, 1.0)?, call.scalar_of(dtype, 0.0)?);
    let rest = call.emit("Sub", [one, exact], vec![])?;
    let stretch = call.emit("Div", [one, rest], vec![])?;
    let stretch = call.emit("Where", [training, stretch, one], vec![])?;
    let stretch = call.cast(stretch, dtype)?;
    let scaled = call.emit("Mul", [x, stretch], vec![])?;
    call.finish("Where", [kept, scaled, zero], vec![])
}

/// The mask of an inference, in which nothing is dropped.
fn whole_mask(call: &mut Call<'_>, x: ValueId) -> Result<ValueId, OpError> {
    let (all, rank) = (call.literal(Tensor::from_bools(&[], &[true])), call.rank(x)? as i64);
    let shape = call.sizes(x, 0, rank)?;
    let mask = call.emit("Expand", [all, shape], vec![])?;
    // Until opset 9 it had the type of the operand.
    let dtype = if call.opset() < 10 { call.facts(x).dtype } else { DType::Bool };
    call.cast(mask, dtype)
}
