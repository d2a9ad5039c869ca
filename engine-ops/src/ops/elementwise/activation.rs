//! Activation functions.

use super::unary::{self, INF, NAN, unary};
use crate::AttrsExt;
use crate::Function;
use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::InferError;
use crate::{AttrDef, OnnxName, OpDef, OpError, approx};
use engine_format::{Attr, Tensor};

unary!(
    SOFTPLUS,
    "Softplus",
    1,
    [],
    "`ln(1 + e^x)`, without overflow.",
    |x, p| approx::softplus(x),
    softplus(x),
    "softplus(x)",
    [
        (0.0, std::f32::consts::LN_2),
        (2.0, 2.126_928),
        (100.0, 100.0),
        (-100.0, 0.0),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN)
    ]
);
unary!(
    SOFTSIGN,
    "Softsign",
    1,
    [],
    "`x / (1 + |x|)`.",
    |x, p| x / (1.0 + x.abs()),
    x / (1.0 + x.abs()),
    "x / (1.0 + abs(x))",
    [(1.0, 0.5), (-3.0, -0.75), (0.0, 0.0), (NAN, NAN)]
);
unary!(
    HARD_SIGMOID,
    "HardSigmoid",
    6,
    [AttrDef::float("alpha", 0.2), AttrDef::float("beta", 0.5)],
    "`alpha · x + beta`, held between 0 and 1.",
    |x, p| (p[0] * x + p[1]).clamp(0.0, 1.0),
    (p[0] * x + p[1]).clamp(0.0, 1.0),
    "select(clamp(p0 * x + p1, 0.0, 1.0), x, is_nan(x))",
    [(0.0, 0.5), (1.0, 0.7), (9.0, 1.0), (-9.0, 0.0), (INF, 1.0), (NAN, NAN)]
);
unary!(
    HARD_SWISH,
    "HardSwish",
    14,
    [],
    "`x` times `x / 6 + 1/2` held between 0 and 1.",
    |x, p| x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0),
    x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
    "x * select(clamp(x / 6.0 + 0.5, 0.0, 1.0), x, is_nan(x))",
    [(1.0, 0.666_666_7), (3.0, 3.0), (-3.0, 0.0), (-1.0, -0.333_333_34), (INF, INF), (NAN, NAN)]
);
unary!(
    ELU,
    "Elu",
    6,
    [AttrDef::float("alpha", 1.0)],
    "`x < 0 ? alpha · (e^x − 1) : x`.",
    |x, p| if x < 0.0 { p[0] * approx::exp_m1(x) } else { x },
    if x < 0.0 { p[0] * libm::expm1(x) } else { x },
    "select(x, p0 * exp_minus_one(x), x < 0.0)",
    [
        (-1.0, -0.632_120_55),
        (-0.001, -0.000_999_5),
        (2.0, 2.0),
        (-INF, -1.0),
        (INF, INF),
        (NAN, NAN)
    ]
);
unary!(
    SELU,
    "Selu",
    6,
    [AttrDef::float("alpha", 1.673_263_2), AttrDef::float("gamma", 1.050_701)],
    "`gamma · (x < 0 ? alpha · (e^x − 1) : x)`.",
    |x, p| p[1] * if x < 0.0 { p[0] * approx::exp_m1(x) } else { x },
    p[1] * if x < 0.0 { p[0] * libm::expm1(x) } else { x },
    "p1 * select(x, p0 * exp_minus_one(x), x < 0.0)",
    [(-1.0, -1.111_330_7), (2.0, 2.101_402), (0.0, 0.0), (INF, INF), (NAN, NAN)]
);
unary!(
    CELU,
    "Celu",
    12,
    [AttrDef::float("alpha", 1.0)],
    "`x < 0 ? alpha · (e^(x/alpha) − 1) : x`.",
    |x, p| if x < 0.0 { p[0] * approx::exp_m1(x / p[0]) } else { x },
    if x < 0.0 { p[0] * libm::expm1(x / p[0]) } else { x },
    "select(x, p0 * exp_minus_one(x / p0), x < 0.0)",
    [(-1.0, -0.632_120_55), (2.0, 2.0), (-INF, -1.0), (NAN, NAN)]
);
unary!(
    LEAKY_RELU,
    "LeakyRelu",
    6,
    [AttrDef::float("alpha", 0.01)],
    "`x < 0 ? alpha · x : x`.",
    |x, p| if x < 0.0 { p[0] * x } else { x },
    if x < 0.0 { p[0] * x } else { x },
    "select(x, p0 * x, x < 0.0)",
    [(-2.0, -0.02), (3.5, 3.5), (-INF, -INF), (INF, INF), (NAN, NAN)]
);
unary!(
    THRESHOLDED_RELU,
    "ThresholdedRelu",
    10,
    [AttrDef::float("alpha", 1.0)],
    "`x > alpha ? x : 0`, of NaN too.",
    |x, p| if x > p[0] { x } else { 0.0 },
    if x > p[0] { x } else { 0.0 },
    "select(0.0, x, x > p0 && !is_nan(x))",
    [(1.0, 0.0), (1.5, 1.5), (-2.0, 0.0), (INF, INF), (-INF, 0.0), (NAN, 0.0)]
);
unary!(
    MISH,
    "Mish",
    18,
    [],
    "`x · tanh(ln(1 + e^x))`.",
    |x, p| x * approx::tanh(approx::softplus(x)),
    x * libm::tanh(softplus(x)),
    "mish(x)",
    [
        (1.0, 0.865_098_4),
        (-1.0, -0.303_401_47),
        (-10.0, -0.000_453_978_7),
        (0.0, 0.0),
        (30.0, 30.0),
        (INF, INF),
        (NAN, NAN)
    ]
);
unary!(
    SWISH,
    "Swish",
    24,
    [AttrDef::float("alpha", 1.0)],
    "`x / (1 + e^(−alpha · x))`.",
    |x, p| x * approx::sigmoid(p[0] * x),
    x / (1.0 + libm::exp(-p[0] * x)),
    "x / (1.0 + exp(-p0 * x))",
    [(1.0, 0.731_058_6), (-2.0, -0.238_405_85), (0.0, 0.0), (INF, INF), (NAN, NAN)]
);
unary!(
    SHRINK,
    "Shrink",
    9,
    [AttrDef::float("bias", 0.0), AttrDef::float("lambd", 0.5)],
    "`x + bias` below `−lambd`, `x − bias` above `lambd`, 0 between them and of NaN.",
    |x, p| if x < -p[1] {
        x + p[0]
    } else if x > p[1] {
        x - p[0]
    } else {
        0.0
    },
    if x < -p[1] {
        x + p[0]
    } else if x > p[1] {
        x - p[0]
    } else {
        0.0
    },
    "select(select(select(0.0, x - p0, x > p1), x + p0, x < -p1), 0.0, is_nan(x))",
    [(-2.0, -2.0), (0.25, 0.0), (3.5, 3.5), (-INF, -INF), (NAN, 0.0)]
);

pub static GELU: OpDef = OpDef {
    name: "Gelu",
    doc: "`x/2 · (1 + erf(x / √2))`, or with `approximate` = \"tanh\" `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.",
    onnx: &[OnnxName::since("Gelu", 20)],
    attrs: &[AttrDef::str("approximate", "none")],
    infer: |ctx| {
        let approximate = ctx.attrs.str("approximate");
        if !matches!(approximate, "none" | "tanh") {
            return Err(InferError::invalid(format!(
                "approximate is {approximate:?}, expected \"none\" or \"tanh\""
            )));
        }
        (unary::ROW.infer)(ctx)
    },
    function: Some(GELU_BY_ERF),
    cpu: Cpu::kernel(gelu),
    gpu: Some(|ctx| {
        let y = match ctx.attrs.str("approximate") {
            "tanh" => GELU_BY_TANH.wgsl,
            _ => GELU_BY_ERF.wgsl,
        };
        unary::gpu_with(ctx, "Gelu", y, [0.0; 3])
    }),
    cases: || {
        let samples =
            [(1.0, 0.841_344_8), (-1.0, -0.158_655_25), (0.0, 0.0), (INF, INF), (NAN, NAN)];
        let mut cases = unary::cases(&samples);
        let x = Tensor::from_slice(&[3], &[1.0f32, -2.0, NAN]);
        let y = Tensor::from_slice(&[3], &[0.841_192f32, -0.045_402_29, NAN]);
        let tanh = || Attr::Str("tanh".to_owned());
        let short = Case::new("by tanh", vec![x]).attr("approximate", tanh());
        cases.push(short.expect(vec![y]));
        cases.push(Case::new("matrix by tanh", vec![ramp(&[4, 90])]).attr("approximate", tanh()));
        cases
    },
    ..unary::ROW
};

const GELU_BY_ERF: Function = {
    #[inline(always)]
    fn single(x: f32, _: [f32; 3]) -> f32 {
        0.5 * x * (1.0 + approx::erf(x * std::f32::consts::FRAC_1_SQRT_2))
    }
    Function {
        block: |x, y, p| unary::block(x, y, p, single),
        wgsl: "0.5 * x * (1.0 + erf(x * 0.70710678118654752))",
    }
};

/// Gelu with `approximate` = "tanh".
pub(crate) const GELU_BY_TANH: Function = {
    #[inline(always)]
    fn single(x: f32, _: [f32; 3]) -> f32 {
        0.5 * x * (1.0 + approx::tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))
    }
    Function {
        block: |x, y, p| unary::block(x, y, p, single),
        wgsl: "0.5 * x * (1.0 + tangens_hyperbolicus(0.7978845608 * (x + 0.044715 * x * x * x)))",
    }
};

fn gelu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    if ctx.attrs.str("approximate") == "tanh" {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        return unary::map_with(ctx, [0.0; 3], GELU_BY_TANH.block, |x, _| {
            0.5 * x * (1.0 + libm::tanh(root * (x + 0.044_715 * x * x * x)))
        });
    }
    unary::map_with(ctx, [0.0; 3], GELU_BY_ERF.block, |x, _| {
        0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
    })
}

fn softplus(x: f64) -> f64 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + libm::log1p(libm::exp(-x.abs()))
}
