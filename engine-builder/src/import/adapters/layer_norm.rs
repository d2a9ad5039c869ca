//! Normalisations of the last axes: of the standard since opsets 17 and 23, of ONNX Runtime's optimiser before. Scale and shift may be
//! stretched to what they meet, where the table takes one of each for an element of a row.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Dim, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("LayerNormalization", ALL, |call| plain(call, "LayerNormalization")),
    row("RMSNormalization", (23, ALL.1), |call| plain(call, "RMSNormalization")),
    // ONNX Runtime wrote this one into ONNX's own domain before the standard had RMSNormalization.
    row("SimplifiedLayerNormalization", ALL, |call| plain(call, "RMSNormalization")),
    Adapter {
        domain: super::microsoft::DOMAIN,
        ..row("SimplifiedLayerNormalization", (1, 1), |call| plain(call, "RMSNormalization"))
    },
];

fn plain(call: &mut Call<'_>, op: &'static str) -> Result<Last, OpError> {
    let (axis, epsilon) = (call.int("axis", -1)?, call.float("epsilon", 1e-5)?);
    call.ignore("stash_type");
    let (x, scale) = (call.input(0)?, call.input(1)?);
    let (own, asked) = (call.facts(x).dtype, call.facts(scale).dtype);
    let rows = Rows { op, axis, epsilon, scale, shift: call.opt(2) };
    let results = match rows.centres() {
        true => Statistics { mean: Some(1), inverse: 2 },
        false => Statistics { mean: None, inverse: 1 },
    };
    let standard = if op == "LayerNormalization" { 17 } else { 23 };
    if own == asked || (call.opset() >= standard && call.op() == op) {
        return rows.normalise(call, x, results);
    }
    // ONNX Runtime's form gives the type of the scale.
    let x = if asked == DType::F64 { call.cast(x, asked)? } else { call.cast(x, DType::F32)? };
    let last = rows.normalise(call, x, results)?;
    let y = call.emit_last(last)?;
    call.finish_cast(y, asked)
}

/// What is done with the rows of an operand, which are its axes from `axis` on.
pub(super) struct Rows {
    /// `LayerNormalization` or `RMSNormalization`, of the table.
    pub(super) op: &'static str,
    pub(super) axis: i64,
    pub(super) epsilon: f32,
    pub(super) scale: ValueId,
    pub(super) shift: Option<ValueId>,
}

impl Rows {
    /// The rows of `x` normalised, scaled and shifted.
    pub(super) fn normalise(
        &self,
        call: &mut Call<'_>,
        x: ValueId,
        statistics: Statistics,
    ) -> Result<Last, OpError> {
        let scale = self.beside(call, x, self.scale)?;
        let shift = self.shift.map(|shift| self.beside(call, x, shift)).transpose()?;
        let (of_row, after) = match (scale, shift) {
            (Beside::Row(scale), Some(Beside::Row(shift))) if self.centres() => {
                ((scale, Some(shift)), [None, None])
            }
            (Beside::Row(scale), shift) => ((scale, None), [None, shift]),
            (scale, shift) => {
                let one = call.scalar_like(self.scale, 1.0)?;
                ((self.stretched(call, x, one)?, None), [Some(scale), shift])
            }
        };
        let attrs = vec![("axis", Attr::Int(self.axis)), ("epsilon", Attr::Float(self.epsilon))];
        let mut last = call.last(self.op, vec![Some(x), Some(of_row.0), of_row.1], attrs)?;
        let Statistics { mean, inverse } = statistics;
        let mean = mean.filter(|&mean| call.asks_for(mean));
        if mean.is_some() || call.asks_for(inverse) {
            let given = if self.centres() {
                let all = call.emit_all(last, 3)?;
                last = call.finish("Identity", [all[0]], vec![])?;
                (all[1], all[2])
            } else {
                self.uncentred(call, x)?
            };
            if let Some(mean) = mean {
                call.give(mean, given.0);
            }
            call.give(inverse, given.1);
        }
        for (op, operand) in ["Mul", "Add"].into_iter().zip(after) {
            if let Some(Beside::Row(operand) | Beside::All(operand)) = operand {
                let y = call.emit_last(last)?;
                last = call.finish(op, [y, operand], vec![])?;
            }
        }
        Ok(last)
    }

    /// Whether the mean is taken away, and a shift belongs to the operator.
    fn centres(&self) -> bool {
        self.op == "LayerNormalization"
    }

    /// A scale or shift as it meets `x`.
    fn beside(&self, call: &mut Call<'_>, x: ValueId, operand: ValueId) -> Result<Beside, OpError> {
        let (Some(x_shape), Some(shape)) =
            (call.facts(x).shape.clone(), call.facts(operand).shape.clone())
        else {
            return Ok(Beside::Row(operand));
        };
        let row = &x_shape[engine_ops::infer::axis(self.axis, x_shape.len())?..];
        let (row, own) = (without_ones(row), without_ones(&shape));
        // A size that is known and not 1 is that of the row, or the operand does not fit it at all.
        let fits = |(row, own): (&Dim, &Dim)| {
            row == own || (row.known().is_none() && own.known().is_some_and(|size| size != 1))
        };
        if row.len() == own.len() && row.iter().zip(own).all(fits) {
            return Ok(Beside::Row(operand));
        }
        match own.len() <= row.len() {
            true => self.stretched(call, x, operand).map(Beside::Row),
            false => Ok(Beside::All(operand)),
        }
    }

    /// `operand` in the shape of a row of `x`.
    fn stretched(
        &self,
        call: &mut Call<'_>,
        x: ValueId,
        operand: ValueId,
    ) -> Result<ValueId, OpError> {
        let row = call.sizes(x, self.axis, i64::MAX)?;
        call.emit("Expand", [operand, row], vec![])
    }

    /// 0 as the mean of each row, and `1 / √(mean of squares + ε)`, not in less than f32.
    fn uncentred(&self, call: &mut Call<'_>, x: ValueId) -> Result<(ValueId, ValueId), OpError> {
        let rank = call.rank(x)?;
        let from = engine_ops::infer::axis(self.axis, rank)? as i64;
        let axes: Vec<i64> = (from..rank as i64).collect();
        let axes = call.vector(&axes);
        let wide = if call.facts(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let x = call.cast(x, wide)?;
        let squares = call.emit("Mul", [x, x], vec![])?;
        let mean = call.emit("ReduceMean", [squares, axes], vec![])?;
        let epsilon = call.scalar_of(wide, f64::from(self.epsilon))?;
        let shifted = call.emit("Add", [mean, epsilon], vec![])?;
        let deviation = call.emit("Sqrt", [shifted], vec![])?;
        let inverse = call.emit("Reciprocal", [deviation], vec![])?;
        let (zero, shape) = (call.scalar_of(wide, 0.0)?, call.emit("Shape", [inverse], vec![])?);
        Ok((call.emit("Expand", [zero, shape], vec![])?, inverse))
    }
}

/// Which results of an ONNX node are the mean of each row and the inverse of its deviation.
#[derive(Clone, Copy)]
pub(super) struct Statistics {
    pub(super) mean: Option<usize>,
    pub(super) inverse: usize,
}

/// A scale or shift.
enum Beside {
    /// An element for each element of a row, the same for all rows.
    Row(ValueId),
    /// To be stretched to the whole operand.
    All(ValueId),
}

/// A shape without the axes of size 1 in front, which change nothing where it is stretched.
fn without_ones(shape: &[Dim]) -> &[Dim] {
    let ones = shape.iter().take_while(|dim| dim.known() == Some(1)).count();
    &shape[ones..]
}
