//! Elementwise functions of one float operand. An operator is one row: its formula for the CPU and for WGSL.

use crate::AttrsExt;
use crate::approx;
use crate::case::{Case, ramp};
use crate::convert::map_blocks;
use crate::cpu::CpuCtx;
use crate::dtypes::FLOATS;
use crate::gpu::elementwise::{Formula, PRELUDE, element_type, program, rounded};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::wide::{Loop, wide};
use crate::{OpDef, OpError, Operand, Tolerance};
use engine_format::{Attrs, DType, Tensor};
use half::{bf16, f16};

/// Declares one operator: constant, name, first opset of its present meaning, float attributes, docs, the function of the
/// operand `x` and the attributes `p` for `f32` and for `f64`, the WGSL expression of `x`, `p0`, `p1` and `p2`, and samples
/// of operand and result.
///
/// The function for `f32` and all it calls must be `#[inline(always)]` or a call into `libm`: it is compiled into loops for
/// wide vectors.
macro_rules! unary {
    (
        $id:ident, $name:literal, $since:literal, [$($attr:expr),*], $doc:expr,
        |$x:ident, $p:ident| $f32:expr, $f64:expr, $wgsl:literal, $samples:expr
    ) => {
        pub static $id: $crate::OpDef = {
            #[inline(always)]
            fn single($x: f32, $p: [f32; 3]) -> f32 {
                let _ = $p;
                $f32
            }
            fn double($x: f64, $p: [f64; 3]) -> f64 {
                let _ = $p;
                $f64
            }
            fn block(x: &[f32], y: &mut [f32], p: [f32; 3]) {
                super::unary::block(x, y, p, single);
            }
            $crate::OpDef {
            name: $name,
            doc: $doc,
            onnx: &[$crate::OnnxName::since($name, $since)],
            attrs: &[$($attr),*],
            function: Some($crate::Function { block, wgsl: $wgsl }),
            cpu: $crate::cpu::Cpu::kernel(|ctx| super::unary::map(ctx, &$id, block, double)),
            gpu: Some(|ctx| super::unary::gpu(ctx, &$id, $wgsl)),
            cases: || super::unary::cases(&$samples),
            ..super::unary::ROW
            }
        };
    };
}
pub(in crate::ops) use unary;

/// WGSL functions that the expressions of functions call.
pub(crate) const FUNCTIONS: &str =
    concat!(include_str!("unary.wgsl"), include_str!("trigonometry.wgsl"));

/// Neutral values of a row.
pub(in crate::ops) const ROW: OpDef = OpDef {
    inputs: &[Operand::data("X").of(FLOATS)],
    elementwise: true,
    infer,
    tolerance: Tolerance::ELEMENTWISE,
    ..OpDef::BASE
};

/// Not a number, and infinity, in samples.
pub(in crate::ops) const NAN: f32 = f32::NAN;
pub(in crate::ops) const INF: f32 = f32::INFINITY;

unary!(
    SIGMOID,
    "Sigmoid",
    6,
    [],
    "`1 / (1 + e^-x)`.",
    |x, p| approx::sigmoid(x),
    1.0 / (1.0 + libm::exp(-x)),
    "1.0 / (1.0 + exp(-x))",
    [(0.0, 0.5), (2.0, 0.880_797_1), (-100.0, 0.0), (INF, 1.0), (-INF, 0.0), (NAN, NAN)]
);
unary!(
    EXP,
    "Exp",
    6,
    [],
    "`e^x`.",
    |x, p| approx::exp(x),
    libm::exp(x),
    "exp(x)",
    [(0.0, 1.0), (1.0, std::f32::consts::E), (-INF, 0.0), (INF, INF), (NAN, NAN)]
);
unary!(
    LOG,
    "Log",
    6,
    [],
    "The natural logarithm; of 0 it is −∞, of negative numbers NaN.",
    |x, p| approx::ln(x),
    libm::log(x),
    "ln(x)",
    [(1.0, 0.0), (10.0, std::f32::consts::LN_10), (0.0, -INF), (-1.0, NAN), (INF, INF), (NAN, NAN)]
);
unary!(
    SQRT,
    "Sqrt",
    6,
    [],
    "The square root; of negative numbers it is NaN.",
    |x, p| x.sqrt(),
    x.sqrt(),
    "root(x)",
    [(4.0, 2.0), (2.25, 1.5), (-1.0, NAN), (INF, INF), (NAN, NAN)]
);
unary!(
    RECIPROCAL,
    "Reciprocal",
    6,
    [],
    "`1 / x`.",
    |x, p| 1.0 / x,
    1.0 / x,
    "1.0 / x",
    [(4.0, 0.25), (-0.5, -2.0), (0.0, INF), (INF, 0.0), (NAN, NAN)]
);
unary!(
    ERF,
    "Erf",
    9,
    [],
    "The Gauss error function.",
    |x, p| approx::erf(x),
    libm::erf(x),
    "erf(x)",
    [(0.5, 0.520_499_9), (-3.0, -0.999_977_9), (INF, 1.0), (-INF, -1.0), (NAN, NAN)]
);
unary!(
    CEIL,
    "Ceil",
    6,
    [],
    "Rounds up.",
    |x, p| x.ceil(),
    x.ceil(),
    "ceil(x)",
    [(1.2, 2.0), (-1.2, -1.0), (3.0, 3.0), (INF, INF), (NAN, NAN)]
);
unary!(
    FLOOR,
    "Floor",
    6,
    [],
    "Rounds down.",
    |x, p| x.floor(),
    x.floor(),
    "floor(x)",
    [(1.2, 1.0), (-1.2, -2.0), (3.0, 3.0), (-INF, -INF), (NAN, NAN)]
);
unary!(
    ROUND,
    "Round",
    11,
    [],
    "Rounds to the nearest whole number, halves to the even one.",
    |x, p| x.round_ties_even(),
    x.round_ties_even(),
    "round(x)",
    [(0.5, 0.0), (1.5, 2.0), (-2.5, -2.0), (2.7, 3.0), (INF, INF), (NAN, NAN)]
);

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if !x.dtype.is_float() {
        return Err(InferError::invalid(format!(
            "operand X is {}, expected a float type",
            x.dtype
        )));
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// The float attributes in the order of the table, then zeros.
fn parameters(def: &OpDef, attrs: &Attrs) -> [f32; 3] {
    let mut values = [0.0; 3];
    for (value, attr) in values.iter_mut().zip(def.attrs) {
        *value = attrs.float(attr.name);
    }
    values
}

/// Maps a slice, in wide vectors.
struct Map<'a, F> {
    x: &'a [f32],
    y: &'a mut [f32],
    p: [f32; 3],
    f: F,
}

impl<F: Fn(f32, [f32; 3]) -> f32> Loop for Map<'_, F> {
    #[inline(always)]
    fn run(self) {
        for (&x, y) in self.x.iter().zip(self.y) {
            *y = (self.f)(x, self.p);
        }
    }
}

/// Writes `f` of every element of `x` to `y`, in wide vectors.
pub(in crate::ops) fn block(
    x: &[f32],
    y: &mut [f32],
    p: [f32; 3],
    f: impl Fn(f32, [f32; 3]) -> f32,
) {
    wide(Map { x, y, p, f });
}

/// Applies a function to the operand, block by block; 16-bit floats are computed in `f32` and rounded.
pub(in crate::ops) fn map(
    ctx: &mut CpuCtx<'_>,
    def: &OpDef,
    single: fn(&[f32], &mut [f32], [f32; 3]),
    double: impl Fn(f64, [f64; 3]) -> f64 + Sync,
) -> Result<(), OpError> {
    let p = parameters(def, ctx.attrs);
    map_with(ctx, p, single, double)
}

/// As [`map`], with parameters that are not the float attributes of the row.
pub(in crate::ops) fn map_with(
    ctx: &mut CpuCtx<'_>,
    p: [f32; 3],
    single: fn(&[f32], &mut [f32], [f32; 3]),
    double: impl Fn(f64, [f64; 3]) -> f64 + Sync,
) -> Result<(), OpError> {
    let run = |x: &[f32], y: &mut [f32]| single(x, y, p);
    let x = ctx.input(0);
    match x.dtype {
        DType::F64 => {
            let p = p.map(f64::from);
            map_blocks(x, ctx.output(), &|x: &[f64], y: &mut [f64]| {
                x.iter().zip(y).for_each(|(&x, y)| *y = double(x, p));
            });
        }
        _ => map_blocks(x, ctx.output(), &run),
    }
    Ok(())
}

/// The program of an expression of `x` and the attributes.
pub(in crate::ops) fn gpu(
    ctx: &GpuCtx<'_>,
    def: &'static OpDef,
    expression: &str,
) -> Result<Option<GpuProgram>, OpError> {
    gpu_with(ctx, def.name, expression, parameters(def, ctx.attrs))
}

/// As [`gpu`], with parameters that are not the float attributes of a row.
pub(in crate::ops) fn gpu_with(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    expression: &str,
    parameters: [f32; 3],
) -> Result<Option<GpuProgram>, OpError> {
    let dtype = ctx.input(0).dtype;
    if element_type(dtype) != Some("f32") {
        return Ok(None);
    }
    let function =
        format!("fn f(x: f32, p0: f32, p1: f32, p2: f32) -> f32 {{ return {expression}; }}\n");
    let call = "f(a, bitcast<f32>(params.p0), bitcast<f32>(params.p1), bitcast<f32>(params.p2))";
    let formula = Formula {
        label,
        operands: [0],
        functions: &[PRELUDE, FUNCTIONS, &function],
        y: &rounded(dtype, call),
        params: parameters.map(f32::to_bits),
    };
    program(ctx, &formula)
}

/// Cases of an operator, given samples.
pub(in crate::ops) fn cases(samples: &[(f32, f32)]) -> Vec<Case> {
    let (x, y): (Vec<f32>, Vec<f32>) = samples.iter().copied().unzip();
    let shape = [x.len()];
    let halves = |v: &[f32]| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
    let brains = |v: &[f32]| v.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>();
    let doubles = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    vec![
        Case::new("samples", vec![Tensor::from_slice(&shape, &x)])
            .expect(vec![Tensor::from_slice(&shape, &y)]),
        Case::new("f16", vec![Tensor::from_slice(&shape, &halves(&x))]),
        Case::new("bf16", vec![Tensor::from_slice(&shape, &brains(&x))]),
        Case::new("f64", vec![Tensor::from_slice(&shape, &doubles(&x))]),
        Case::new("matrix", vec![ramp(&[3, 50])]),
        Case::new("longer than one workgroup", vec![ramp(&[700])]),
        Case::new("empty", vec![ramp(&[0, 4])]),
    ]
}
