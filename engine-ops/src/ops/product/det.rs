//! Determinants.

use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx};
use crate::dtypes::FLOATS;
use crate::fill::filled;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::Tensor;

pub static DET: OpDef = OpDef {
    name: "Det",
    doc: "The determinant of each matrix, by elimination with row exchanges.",
    onnx: &[OnnxName::since("Det", 11)],
    inputs: &[Operand::data("X").of(FLOATS).shaped("... n n")],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let x = Tensor::from_slice(&[2, 2, 2], &[0.0f32, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0]);
        vec![
            Case::new("a row exchange, and a singular one", vec![x])
                .expect(vec![Tensor::from_slice(&[2], &[-6.0f32, 0.0])]),
            Case::new("of nothing", vec![Tensor::from_slice::<f32>(&[2, 0, 0], &[])])
                .expect(vec![Tensor::from_slice(&[2], &[1.0f32, 1.0])]),
            Case::new("no matrix", vec![Tensor::from_slice::<f32>(&[0, 2, 2], &[])]),
            Case::new(
                "not a number",
                vec![Tensor::from_slice(&[2, 2], &[1.0f32, f32::NAN, 0.0, 2.0])],
            )
            .expect(vec![Tensor::from_slice(&[], &[f32::NAN])]),
            Case::new("several of ten rows", vec![ramp(&[2, 3, 10, 10])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, shape) = (ctx.facts(0)?, ctx.shape(0)?);
    Ok(vec![Facts::new(x.dtype, shape[..shape.len() - 2].to_vec())])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let n = x.shape[x.shape.len() - 1];
    let y = ctx.output();
    let size = y.dtype.width();
    let mut matrix = vec![0.0f64; n * n];
    for (at, slot) in y.bytes.chunks_exact_mut(size).enumerate() {
        f64::load(x.dtype, x.bytes, at * n * n, &mut matrix);
        f64::store(y.dtype, &[determinant(&mut matrix, n)], slot);
    }
    Ok(())
}

fn determinant(m: &mut [f64], n: usize) -> f64 {
    let mut product = 1.0;
    for k in 0..n {
        let size = |row: usize, m: &[f64]| m[row * n + k].abs();
        let best = (k..n).max_by(|&a, &b| size(a, m).total_cmp(&size(b, m))).unwrap_or(k);
        if best != k {
            (0..n).for_each(|column| m.swap(k * n + column, best * n + column));
            product = -product;
        }
        let pivot = m[k * n + k];
        product *= pivot;
        if pivot == 0.0 {
            return product;
        }
        for row in k + 1..n {
            let factor = m[row * n + k] / pivot;
            for column in k..n {
                m[row * n + column] -= factor * m[k * n + column];
            }
        }
    }
    product
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let n = x.shape[x.shape.len() - 1];
    if element_type(x.dtype) != Some("f32") || i32::try_from(x.len()).is_err() {
        return Ok(None);
    }
    // The product of no factors.
    if n == 0 {
        return Ok(filled(ctx, [1f32.to_bits(), 0]));
    }
    let keys = [("functions", PRELUDE), ("y", &rounded(y.dtype, "product"))];
    let shared = (n * n).div_ceil(64);
    let dispatch = Dispatch {
        rounds: shared + n * (2 + n + n.div_ceil(64) + shared),
        label: "Det".into(),
        wgsl: render(include_str!("det.wgsl"), &keys).into(),
        binds: vec![Bind::In(0), Bind::Out(0), Bind::Scratch(0)],
        params: vec![y.len() as u32, n as u32],
        groups: ctx.limits.linear(y.len(), 1),
    };
    Ok(Some(GpuProgram { dispatches: vec![dispatch], scratch: vec![x.len().max(1)] }))
}
