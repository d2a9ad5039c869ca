//! Operators in element types that ONNX gives them and their kernels do not calculate in: in a wider type, and back. Import comes
//! here only for an operand that the table's row does not take.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Col2Im", ALL, in_wider_type),
    row("GridSample", ALL, in_wider_type),
    row("ReduceLogSumExp", (18, ALL.1), in_wider_type),
    row("Shrink", ALL, in_wider_type),
    row("GRU", (7, ALL.1), in_wider_type),
    row("LSTM", (7, ALL.1), in_wider_type),
    row("RNN", (7, ALL.1), in_wider_type),
];

/// The type that holds all of another one's numbers, if kernels calculate in it.
fn wider(op: &str, dtype: DType) -> Result<DType, OpError> {
    match dtype {
        DType::F16 | DType::BF16 => Ok(DType::F32),
        DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 | DType::U32 => Ok(DType::F64),
        // Rounding the logarithm loses more than rounding its operand.
        DType::I64 | DType::U64 if op == "ReduceLogSumExp" => Ok(DType::F64),
        other => Err(OpError::new(format!("{op} is not calculated in {other}"))),
    }
}

fn in_wider_type(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, op) = (call.input(0)?, call.op());
    let own = call.facts(x).dtype;
    let wide = wider(op, own)?;
    let mut inputs = call.inputs();
    for (i, input) in inputs.iter_mut().enumerate() {
        // Integers beside the first operand are axes and sizes.
        let same = i == 0 || own.is_float();
        if let Some(id) = input.filter(|&id: &ValueId| same && call.facts(id).dtype == own) {
            *input = Some(call.cast(id, wide)?);
        }
    }
    let node = call.same(inputs)?;
    let most = node.def.outputs.len();
    let asked = (1..most).rev().find(|&i| call.asks_for(i)).map_or(1, |i| i + 1);
    let results = call.emit_all(node, asked)?;
    for (i, &result) in results.iter().enumerate().skip(1) {
        let back = call.cast(result, own)?;
        call.give(i, back);
    }
    call.finish_cast(results[0], own)
}
