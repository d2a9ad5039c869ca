//! MelWeightMatrix: triangular filters, equally far apart on the mel scale.

use crate::AttrsExt;
use crate::case::Case;
use crate::convert::cast;
use crate::cpu::{Cpu, CpuCtx, TensorMut, TensorRef};
use crate::dtypes::FLOATS;
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::filled;
use crate::onnx_dtype;
use crate::operand::{INTEGERS, ONE};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Dim, Tensor};

/// MelWeightMatrix.
pub static MEL_WEIGHT_MATRIX: OpDef = OpDef {
    name: "MelWeightMatrix",
    doc: "The matrix [dft_length / 2 + 1, num_mel_bins] that turns a spectrum into mel bins: bin i is a triangle over \
          frequencies from edge i by way of edge i + 1 to edge i + 2 of num_mel_bins + 2 edges, equally far apart in mel \
          (`2595 · log₁₀(1 + hertz / 700)`) and rounded down to whole frequencies of the spectrum.",
    onnx: &[OnnxName::since("MelWeightMatrix", 17)],
    attrs: &[AttrDef::int("output_datatype", 1)],
    inputs: &[
        Operand::shape("num_mel_bins").of(INTEGERS).shaped(ONE),
        Operand::shape("dft_length").of(INTEGERS).shaped(ONE),
        Operand::shape("sample_rate").of(INTEGERS).shaped(ONE),
        Operand::shape("lower_edge_hertz").of(FLOATS).shaped(ONE),
        Operand::shape("upper_edge_hertz").of(FLOATS).shaped(ONE),
    ],
    outputs: &["output"],
    infer,
    cpu: Cpu::kernel(run),
    tolerance: Tolerance::ELEMENTWISE,
    cases: || {
        let number = |n: i64| Tensor::from_slice(&[], &[n]);
        let hertz = |v: f32| Tensor::from_slice(&[], &[v]);
        let inputs = vec![number(2), number(8), number(16), hertz(0.0), hertz(8.0)];
        // Edges at 0, 1, 2 and 3 of 5 frequencies.
        let y = [0.0f32, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let of_f64 = || Case::new("of f64", inputs.clone()).attr("output_datatype", Attr::Int(11));
        vec![
            Case::new("two bins", inputs.clone()).expect(vec![Tensor::from_slice(&[5, 2], &y)]),
            of_f64().expect(vec![Tensor::from_slice(&[5, 2], &y.map(f64::from))]),
        ]
    },
    ..OpDef::BASE
};

/// The one number of an operand, of any type.
fn number(t: TensorRef<'_>, what: &str) -> Result<f64, OpError> {
    if t.len() != 1 {
        let shape = t.shape;
        return Err(OpError::new(format!("operand {what} has shape {shape:?}, expected a scalar")));
    }
    let mut out = 0f64;
    let bytes = bytemuck::bytes_of_mut(&mut out);
    cast(t, &mut TensorMut { dtype: DType::F64, shape: &[], bytes });
    Ok(out)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = onnx_dtype(ctx.attrs.int("output_datatype"))?;
    if dtype.is_compact() || dtype == DType::Bool {
        return Err(InferError::invalid(format!("output_datatype is {dtype}, expected numbers")));
    }
    let one = |i: usize| {
        let name = MEL_WEIGHT_MATRIX.inputs[i].name;
        match ctx.ints(i)?.as_slice() {
            [n] if *n > 0 => Ok(*n),
            found => Err(InferError::invalid(format!(
                "operand {name} is {found:?}, expected one positive number"
            ))),
        }
    };
    let (bins, length) = (one(0)?, one(1)?);
    Ok(vec![Facts::new(dtype, vec![Dim::from(length / 2 + 1), Dim::from(bins)])])
}

/// `edges` whole frequencies of a spectrum, equally far apart in mel. The last edge lies one step before the upper end, as
/// the standard has it.
fn edges(count: usize, length: f64, rate: f64, low: f64, high: f64) -> Result<Vec<usize>, OpError> {
    let mel = |hertz: f64| 2595.0 * libm::log10(1.0 + hertz / 700.0);
    let step = (mel(high) - mel(low)) / count as f64;
    let hertz = |i: usize| {
        let mel = i as f64 * step + mel(low);
        700.0 * (libm::pow(10.0, mel / 2595.0) - 1.0)
    };
    let mut edges = filled(count, 0)?;
    for (i, edge) in edges.iter_mut().enumerate() {
        *edge = ((length + 1.0) * hertz(i) / rate).floor().max(0.0) as usize;
    }
    Ok(edges)
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let mut numbers = [0.0; 5];
    for (i, slot) in numbers.iter_mut().enumerate() {
        *slot = number(ctx.input(i), MEL_WEIGHT_MATRIX.inputs[i].name)?;
    }
    let [_, length, rate, low, high] = numbers;
    let y = ctx.output();
    let (spectrum, bins) = (y.shape[0], y.shape[1]);
    let edges = edges(bins + 2, length, rate, low, high)?;
    let ordered = edges.is_sorted() && edges.last().is_some_and(|&last| last <= spectrum);
    if !ordered || rate <= 0.0 || low < 0.0 {
        return Err(OpError::new(format!(
            "edges from {low} to {high} Hz at {rate} samples a second, expected them in order and within half the rate"
        )));
    }
    let mut out = filled(y.shape.iter().product(), 0.0f64)?;
    for (bin, edge) in edges.windows(3).enumerate() {
        let (left, centre, right) = (edge[0], edge[1], edge[2]);
        for at in left..=centre.min(spectrum - 1) {
            let rise = (centre - left) as f64;
            out[at * bins + bin] = if rise == 0.0 { 1.0 } else { (at - left) as f64 / rise };
        }
        for at in centre..right.min(spectrum) {
            out[at * bins + bin] = (right - at) as f64 / (right - centre) as f64;
        }
    }
    store(y, &out);
    Ok(())
}

/// Writes numbers in any type.
fn store(y: &mut TensorMut<'_>, values: &[f64]) {
    let bytes = bytemuck::cast_slice(values);
    cast(TensorRef { dtype: DType::F64, shape: y.shape, bytes }, y);
}
