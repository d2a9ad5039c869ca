//! Probabilities of classes from those of pairs of classes.

use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::parallel;
use crate::{OpDef, OpError, Operand, Tolerance};
use engine_format::{DType, Dim, Tensor};

/// PairwiseCoupling.
pub static PAIRWISE_COUPLING: OpDef = OpDef {
    name: "PairwiseCoupling",
    doc: "For each row of `R`, which holds for every pair of classes `i < j`, in that order, how probable `i` is where it is one of \
          the two, the probabilities of the classes: the second method of Wu, Lin and Weng (Probability Estimates for Multi-class \
          Classification by Pairwise Coupling, 2004), as LIBSVM has it: at most max(100, classes) rounds, until no class is further \
          than 0.005/classes from the optimum.",
    inputs: &[Operand::data("R").of(&[DType::F32])],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    // The rounds end up to 0.005/classes before the optimum, which is what the cases expect.
    tolerance: Tolerance { atol: 1e-3, rtol: 1e-3 },
    cases: || {
        let even = Tensor::from_slice(&[1, 3], &[0.5f32; 3]);
        let sure = Tensor::from_slice(&[2, 1], &[0.75f32, 0.1]);
        vec![
            Case::new("equal classes", vec![even])
                .expect(vec![Tensor::from_slice(&[1, 3], &[1f32 / 3.0; 3])]),
            Case::new("two classes", vec![sure])
                .expect(vec![Tensor::from_slice(&[2, 2], &[0.75f32, 0.25, 0.1, 0.9])]),
            Case::new("six classes", {
                let share = |i: usize| (i * 7 % 29) as f32 / 30.0 + 0.02;
                let pairs: Vec<f32> = (0..75).map(share).collect();
                vec![Tensor::from_slice(&[5, 15], &pairs)]
            }),
            Case::new("no row", vec![Tensor::zeros(DType::F32, &[0, 3])]),
            // Pairs of p = (0.2, 0.3, 0.5) are pᵢ / (pᵢ + pⱼ).
            Case::new("pairs that agree", {
                vec![Tensor::from_slice(&[1, 3], &[0.4f32, 2.0 / 7.0, 0.375])]
            })
            .expect(vec![Tensor::from_slice(&[1, 3], &[0.2f32, 0.3, 0.5])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (dtype, shape) = (ctx.dtype(0)?, ctx.shape(0)?);
    let pairs = shape.get(1).and_then(Dim::known).and_then(|n| usize::try_from(n).ok());
    let classes = pairs.and_then(classes_of).filter(|_| shape.len() == 2 && dtype == DType::F32);
    let classes = classes.ok_or_else(|| {
        InferError::invalid(format!(
            "operand R is {dtype}{shape:?}, expected f32 of [rows, pairs], the pairs of 2, 3, … classes being 1, 3, …"
        ))
    })?;
    Ok(vec![Facts::new(DType::F32, vec![shape[0].clone(), Dim::from(classes)])])
}

/// The number of classes that have so many pairs.
fn classes_of(pairs: usize) -> Option<usize> {
    let n = pairs.checked_mul(8)?.isqrt().div_ceil(2) + 1;
    (2..=n).rev().take(2).find(|n| n * (n - 1) / 2 == pairs)
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let r = ctx.input(0);
    let pairs = r.shape[1];
    let classes = classes_of(pairs).expect("the rule takes numbers of pairs only");
    let rows = r.slice::<f32>();
    let y = ctx.output().slice::<f32>();
    parallel::rows(y, classes, classes.saturating_mul(FEW), |i, y| {
        couple(&rows[i * pairs..][..pairs], y)
    });
    Ok(())
}

/// Rounds that few rows take less than, for [`parallel::rows`].
const FEW: usize = 10;

/// Minimises Σᵢ Σⱼ (rⱼᵢ pᵢ − rᵢⱼ pⱼ)² over p ≥ 0, Σ p = 1, one class at a time.
fn couple(pairs: &[f32], out: &mut [f32]) {
    let n = out.len();
    let mut r = vec![0f64; n * n];
    let mut given = pairs.iter();
    for i in 0..n {
        for j in i + 1..n {
            let p = f64::from(*given.next().expect("there is one for each pair"));
            r[i * n + j] = p;
            r[j * n + i] = 1.0 - p;
        }
    }
    let mut q = vec![0f64; n * n];
    for i in 0..n {
        for j in (0..n).filter(|&j| j != i) {
            q[i * n + i] += r[j * n + i] * r[j * n + i];
            q[i * n + j] = -r[j * n + i] * r[i * n + j];
        }
    }
    let mut p = vec![1.0 / n as f64; n];
    for _ in 0..n.max(100) {
        let mut slopes: Vec<f64> = q.chunks_exact(n).map(|row| dot(row, &p)).collect();
        let mut all = dot(&p, &slopes);
        let furthest = slopes.iter().map(|slope| (slope - all).abs()).fold(0.0, f64::max);
        if furthest < 0.005 / n as f64 {
            break;
        }
        for t in 0..n {
            let qt = &q[t * n..][..n];
            let step = (all - slopes[t]) / qt[t];
            p[t] += step;
            all = (all + step * (step * qt[t] + 2.0 * slopes[t])) / ((1.0 + step) * (1.0 + step));
            for j in 0..n {
                slopes[j] = (slopes[j] + step * qt[j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    out.iter_mut().zip(p).for_each(|(out, p)| *out = p as f32);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One invocation couples one row.
fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (r, y) = (ctx.input(0), ctx.output());
    let (rows, classes, pairs) = (y.shape[0], y.shape[1], r.shape[1]);
    let most = classes.max(100);
    let square = classes * (1 + classes);
    let dispatch = Dispatch {
        rounds: square + most * (1 + classes + 2 * square),
        label: "PairwiseCoupling".into(),
        wgsl: include_str!("pairwise_coupling.wgsl").into(),
        binds: vec![Bind::In(0), Bind::Out(0), Bind::Scratch(0)],
        params: [rows, classes, pairs, most].map(|n| n as u32).to_vec(),
        groups: ctx.limits.linear(rows, 64),
    };
    Ok(Some(GpuProgram { dispatches: vec![dispatch], scratch: vec![(2 * y.len()).max(1)] }))
}
