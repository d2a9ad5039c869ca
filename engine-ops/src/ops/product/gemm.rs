//! One matrix product with scaling, transposed operands and an addend.

use crate::AttrsExt;
use crate::case::{Case, ramp, ramp_of};
use crate::chain::{self, Chain};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep};
use crate::dtypes::PRODUCTS;
use crate::gpu::product::{Algorithm, Candidates, Sizes, Tiled};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::blocked::{self, Mat, Term};
use crate::kernels::gemm::{Epilogue, Gemm, MatRef};
use crate::ops::product::matmul::GpuProduct;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{Attr, Attrs, DType, Dim, Element, Tensor};
use half::{bf16, f16};

pub static GEMM: OpDef = OpDef {
    name: "Gemm",
    doc: "`Y = alpha · A'·B' + beta · C`, where A' is A or, with `transA`, its transpose, likewise B', and C \
          broadcasts to the result.",
    onnx: &[OnnxName::since("Gemm", 7)],
    attrs: &[
        AttrDef::float("alpha", 1.0),
        AttrDef::float("beta", 1.0),
        AttrDef::int("transA", 0),
        AttrDef::int("transB", 0),
    ],
    inputs: &[
        Operand::data("A").of(PRODUCTS).shaped("_ _").learned(),
        Operand::data("B").like(0).shaped("_ _").learned(),
        Operand::opt_data("C").like(0).learned(),
    ],
    kind: Kind::Compute,
    infer,
    cpu: Cpu::Planned(|shapes| Ok(Box::new(Step::new(shapes)?))),
    gpu: Some(|ctx| OnGpu::program(ctx, Algorithm::OWN)),
    gpu_candidates: Candidates::<OnGpu>::ALL,
    multiplications: |attrs, inputs| {
        let [Some(a), Some(b), ..] = inputs else { return None };
        Some(Plan::new(attrs, &a.shape, &b.shape, None).gemm.multiplications())
    },
    tolerance: Tolerance::SUMS,
    cases,
    fused: Some(&FUSED_GEMM),
    ..OpDef::BASE
};

pub static FUSED_GEMM: OpDef = OpDef {
    name: "FusedGemm",
    doc: "Gemm with stages applied to every element of its result. Written by the builder's passes, never imported.",
    onnx: &[],
    attrs: &[
        GEMM.attrs[0],
        GEMM.attrs[1],
        GEMM.attrs[2],
        GEMM.attrs[3],
        chain::STAGES,
        chain::SCALARS,
    ],
    inputs: &[GEMM.inputs[0], GEMM.inputs[1].or_halves(), GEMM.inputs[2], chain::OPERANDS],
    variadic_input: true,
    infer: |ctx| chain::infer(ctx, OWN, infer(ctx)?),
    cases: fused_cases,
    fused: None,
    ..GEMM
};

/// Operands of Gemm itself.
const OWN: usize = 3;

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let (a, b) = (ctx.shape(0)?, ctx.shape(1)?);
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return Err(InferError::invalid(format!("A {a:?} and B {b:?}, expected matrices")));
    };
    let swap = |on: bool, x, y| if on { (y, x) } else { (x, y) };
    let (m, a_k) = swap(ctx.attrs.int("transA") != 0, a0, a1);
    let (b_k, n) = swap(ctx.attrs.int("transB") != 0, b0, b1);
    if let (Some(left), Some(right)) = (a_k.known(), b_k.known())
        && left != right
    {
        let message = format!("A {a:?} gives sums of {left} terms, B {b:?} of {right}");
        return Err(InferError::invalid(message));
    }
    if ctx.opt(2).is_some() {
        let c = ctx.shape(2)?;
        let fits = |(c, y): (&Dim, &Dim)| match (c.known(), y.known()) {
            (Some(1), _) | (None, _) | (_, None) => true,
            (c, y) => c == y,
        };
        if c.len() > 2 || !c.iter().rev().zip([n, m]).all(fits) {
            let message = format!("C {c:?} does not broadcast to [{m}, {n}]");
            return Err(InferError::invalid(message));
        }
    }
    Ok(vec![Facts::new(dtype, vec![m.clone(), n.clone()])])
}

/// Sizes, and strides from row to row and from column to column, from concrete shapes.
struct Plan {
    gemm: Gemm,
    a: [usize; 2],
    b: [usize; 2],
    c: Option<[usize; 2]>,
    alpha: f32,
    beta: f32,
}

impl Plan {
    fn new(attrs: &Attrs, a: &[usize], b: &[usize], c: Option<&[usize]>) -> Self {
        let matrix = |shape: &[usize], transposed: bool| match transposed {
            false => (shape[0], shape[1], [shape[1], 1]),
            true => (shape[1], shape[0], [1, shape[1]]),
        };
        let (m, k, a) = matrix(a, attrs.int("transA") != 0);
        let (_, n, b) = matrix(b, attrs.int("transB") != 0);
        let c = c.map(|c| {
            let size = |from_end: usize| c.len().checked_sub(from_end).map_or(1, |at| c[at]);
            let (rows, cols) = (size(2), size(1));
            [if rows == 1 { 0 } else { cols }, usize::from(cols != 1)]
        });
        let (alpha, beta) = (attrs.float("alpha"), attrs.float("beta"));
        // A beta of 0 means that C is not even read, so that its NaN does not show.
        let c = c.filter(|_| beta != 0.0);
        Self { gemm: Gemm { batch: 1, m, n, k }, a, b, c, alpha, beta }
    }
}

/// A Gemm of concrete shapes.
struct Step {
    dtype: DType,
    plan: Plan,
    scratch: usize,
}

impl Step {
    fn new(shapes: &CpuShapes<'_>) -> Result<Self, OpError> {
        let [Some(a), Some(b), rest @ ..] = shapes.inputs else {
            return Err(OpError::new("an operand is missing"));
        };
        let c = rest.first().and_then(Option::as_ref).map(|c| c.shape.as_slice());
        let plan = Plan::new(shapes.attrs, &a.shape, &b.shape, c);
        let scratch = if a.dtype == DType::F32 { plan.gemm.scratch() } else { 0 };
        Ok(Self { dtype: a.dtype, plan, scratch })
    }

    fn multiply(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let (a, b, c) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
        let (a, b) = (a.slice::<f32>(), b.slice::<f32>());
        let Plan { gemm, a: [a_row, a_col], b: [b_row, b_col], c: steps, alpha, beta } = self.plan;
        let c = steps.zip(c.map(|c| c.slice::<f32>()));
        let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
        let stage_operands = ctx.inputs.get(OWN..).unwrap_or_default();
        let chain = Chain::new(ctx.attrs, stage_operands, out.shape)?;
        let finish = |_: usize, row: usize, col: usize, run: &mut [f32]| {
            if alpha != 1.0 {
                run.iter_mut().for_each(|y| *y *= alpha);
            }
            match c {
                None => {}
                Some(([c_row, 1], c)) => {
                    let c = &c[row * c_row + col..][..run.len()];
                    run.iter_mut().zip(c).for_each(|(y, &c)| *y += beta * c);
                }
                Some(([c_row, _], c)) => run.iter_mut().for_each(|y| *y += beta * c[row * c_row]),
            }
            if let Some(chain) = &chain {
                chain.apply(row * gemm.n + col, run);
            }
        };
        let plain = c.is_none() && alpha == 1.0 && chain.is_none();
        let epilogue = (!plain).then_some(&finish as Epilogue<'_>);
        let left = MatRef { data: a, row: a_row, col: a_col };
        let operands = |_| (left, MatRef { data: b, row: b_row, col: b_col });
        gemm.run(operands, out.slice(), ctx.scratch, epilogue);
        Ok(())
    }
}

impl CpuStep for Step {
    fn scratch(&self) -> usize {
        self.scratch
    }

    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let (a, b, c) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
        for_dtype!(
            self.dtype,
            [F64 => f64, F16 => f16, BF16 => bf16, I32 => i32, I64 => i64, U32 => u32, U64 => u64, F32 => f32],
            T => {
                if T::DTYPE == DType::F32 {
                    return self.multiply(ctx);
                }
                let c = c.map(|c| c.slice::<T>());
                plain(&self.plan, a.slice::<T>(), b.slice::<T>(), c, ctx.output().slice::<T>());
                Ok(())
            }
        )
    }
}

fn plain<T: Term>(plan: &Plan, a: &[T], b: &[T], c: Option<&[T]>, out: &mut [T]) {
    let mat = |data, [row, col]: [usize; 2]| Mat { data, row, col };
    let c = plan.c.zip(c);
    let finish = |sum, row, col| {
        let c = c.map(|([c_row, c_col], c)| c[row * c_row + col * c_col]);
        T::finish(T::scale(sum, plan.alpha, plan.beta, c))
    };
    let Gemm { n, k, .. } = plan.gemm;
    blocked::multiply(mat(a, plan.a), mat(b, plan.b), (n, k), out, finish);
}

fn plan_of(ctx: &GpuCtx<'_>) -> Plan {
    let (a, b, c) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
    Plan::new(ctx.attrs, &a.shape, &b.shape, c.map(|c| c.shape.as_slice()))
}

fn on_gpu(ctx: &GpuCtx<'_>) -> GpuProduct<'static> {
    let plan = plan_of(ctx);
    GpuProduct {
        label: "Gemm",
        dtype: ctx.input(0).dtype,
        gemm: plan.gemm,
        a: plan.a,
        b: plan.b,
        c: plan.c,
        alpha: plan.alpha,
        beta: plan.beta,
        dims: &[],
    }
}

/// The GPU kernels of Gemm.
struct OnGpu;

impl Tiled for OnGpu {
    fn sizes(ctx: &GpuCtx<'_>) -> Option<Sizes> {
        Some(on_gpu(ctx).sizes(ctx))
    }

    fn program(ctx: &GpuCtx<'_>, algorithm: Algorithm) -> Result<Option<GpuProgram>, OpError> {
        on_gpu(ctx).program(ctx, OWN, algorithm)
    }
}

fn fused_cases() -> Vec<Case> {
    let stages = |names: &[&str]| Attr::Strs(names.iter().map(|&n| n.to_owned()).collect());
    let f = |shape: &[usize], values: &[f32]| Tensor::from_slice(shape, values);
    vec![
        // The product is −2 5; −4 11, with the addend −1 4; −3 10.
        Case::new(
            "worked by hand",
            vec![
                f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
                f(&[2, 2], &[0.0, 1.0, -1.0, 2.0]),
                f(&[2], &[1.0, -1.0]),
                f(&[2, 1], &[1.5, f32::NAN]),
            ],
        )
        .attr("stages", stages(&["Add", "Relu"]))
        .expect(vec![f(&[2, 2], &[0.5, 5.5, f32::NAN, f32::NAN])]),
        Case::new("a dense layer", vec![ramp(&[3, 128]), ramp(&[512, 128]), ramp(&[512])])
            .attr("transB", Attr::Int(1))
            .attr("stages", stages(&["Gelu"])),
        Case::new("halves, scaled", vec![ramp(&[20, 70]), ramp_of(DType::F16, &[70, 90])])
            .input(Some(ramp(&[90])))
            .attr("alpha", Attr::Float(0.25))
            .attr("stages", stages(&[])),
        Case::new(
            "a dense layer of halves",
            vec![ramp(&[1, 128]), ramp_of(DType::BF16, &[512, 128])],
        )
        .input(Some(ramp(&[512])))
        .attr("transB", Attr::Int(1))
        .attr("stages", stages(&["Relu"])),
        Case::new("no addend, scaled", vec![ramp(&[20, 70]), ramp(&[70, 90])])
            .input(None)
            .input(Some(ramp(&[20, 90])))
            .attr("alpha", Attr::Float(0.25))
            .attr("stages", stages(&["Sub", "Tanh"])),
    ]
}

fn cases() -> Vec<Case> {
    let matrix = || Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let other = || Tensor::from_slice(&[2, 2], &[0.0f32, 1.0, -1.0, 2.0]);
    let out = |values: &[f32]| vec![Tensor::from_slice(&[2, 2], values)];
    vec![
        Case::new("plain, worked by hand", vec![matrix(), other()])
            .expect(out(&[-2.0, 5.0, -4.0, 11.0])),
        Case::new(
            "transposed, scaled, a column added",
            vec![matrix(), other(), Tensor::from_slice(&[2, 1], &[10.0f32, 20.0])],
        )
        .attr("transA", Attr::Int(1))
        .attr("transB", Attr::Int(1))
        .attr("alpha", Attr::Float(2.0))
        .attr("beta", Attr::Float(0.5))
        // Aᵀ = [1 3; 2 4], Bᵀ = [0 −1; 1 2].
        .expect(out(&[11.0, 15.0, 18.0, 22.0])),
        Case::new(
            "a beta of 0 ignores what C holds",
            vec![matrix(), other(), Tensor::from_slice(&[2], &[f32::NAN, f32::INFINITY])],
        )
        .attr("beta", Attr::Float(0.0))
        .expect(out(&[-2.0, 5.0, -4.0, 11.0])),
        Case::new("no terms leave the addend", vec![ramp(&[2, 0]), ramp(&[0, 2]), matrix()])
            .expect(out(&[1.0, 2.0, 3.0, 4.0])),
        Case::new(
            "integers",
            vec![
                Tensor::from_slice(&[1, 2], &[3i64, 4]),
                Tensor::from_slice(&[2, 1], &[5i64, 6]),
                Tensor::from_slice(&[], &[7i64]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[1, 1], &[46i64])]),
        Case::new("a row added", vec![ramp(&[20, 70]), ramp(&[70, 90]), ramp(&[90])]),
        Case::new("a matrix added", vec![ramp(&[20, 70]), ramp(&[70, 90]), ramp(&[20, 90])])
            .attr("alpha", Attr::Float(0.25)),
        Case::new("a dense layer", vec![ramp(&[1, 128]), ramp(&[512, 128]), ramp(&[512])])
            .attr("transB", Attr::Int(1)),
        Case::new("left transposed", vec![ramp(&[40, 100]), ramp(&[40, 30]), ramp(&[1, 30])])
            .attr("transA", Attr::Int(1)),
    ]
}
