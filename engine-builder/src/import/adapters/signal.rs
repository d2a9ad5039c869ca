//! Signals: window functions, and the older form of the transform.

use super::attention::iota;
use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{DType, Tensor};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("DFT", (17, 19), transform_along_attribute),
    row("HannWindow", ALL, |call| window(call, &[0.5, -0.5])),
    row("HammingWindow", ALL, |call| window(call, &[25.0 / 46.0, -21.0 / 46.0])),
    row("BlackmanWindow", ALL, |call| window(call, &[0.42, -0.5, 0.08])),
];

/// Until opset 19 the axis was an attribute.
fn transform_along_attribute(call: &mut Call<'_>) -> Result<Last, OpError> {
    let axis = call.int("axis", 1)?;
    let axis = call.literal(Tensor::from_slice(&[], &[axis]));
    call.same(vec![Some(call.input(0)?), call.opt(1), Some(axis)])
}

/// `Σ terms[k] · cos(2πk·i/N)`, with N one less than the size if the window is symmetric.
fn window(call: &mut Call<'_>, terms: &[f64]) -> Result<Last, OpError> {
    let size = call.input(0)?;
    let to = call.element_type("output_datatype")?.unwrap_or(DType::F32);
    let periodic = call.int("periodic", 1)? != 0;
    let size = call.cast(size, DType::I64)?;
    let one = call.vector(&[1]);
    let size = call.emit("Reshape", [size, one], vec![])?;
    let index = iota(call, size)?;
    let period = if periodic { size } else { call.emit("Sub", [size, one], vec![])? };
    let (index, period) = (call.cast(index, DType::F64)?, call.cast(period, DType::F64)?);
    let turn = call.emit("Div", [index, period], vec![])?;
    let first = call.literal(Tensor::from_slice(&[], &[terms[0]]));
    let mut sum = first;
    for (k, &term) in terms.iter().enumerate().skip(1) {
        let rate = call.literal(Tensor::from_slice(&[], &[std::f64::consts::TAU * k as f64]));
        let term = call.literal(Tensor::from_slice(&[], &[term]));
        let angle = call.emit("Mul", [turn, rate], vec![])?;
        let wave = call.emit("Cos", [angle], vec![])?;
        let wave = call.emit("Mul", [wave, term], vec![])?;
        sum = call.emit("Add", [wave, sum], vec![])?;
    }
    let y = call.cast(sum, to)?;
    call.finish("Identity", [y], vec![])
}
