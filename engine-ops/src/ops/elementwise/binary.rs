//! Arithmetic of two operands with broadcasting. An operator is one row: its formula for the CPU and for WGSL.

use crate::AttrsExt;
use crate::broadcast::{Shaped, zip2};
use crate::case::{Case, ramp};
use crate::convert::{Calc, zip_blocks};
use crate::cpu::{Cpu, CpuCtx};
use crate::dtypes::NUMBERS;
use crate::gpu::elementwise::{DIVIDE64, Formula, INT64, PRELUDE, program, rounded};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError, Known, broadcast};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Dim, Element, Tensor};
use half::f16;

/// The WGSL expression of `a` and `b` by kind of element; `""` runs on the CPU.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Wgsl {
    pub float: &'static str,
    pub signed: &'static str,
    pub unsigned: &'static str,
    pub signed64: &'static str,
    pub unsigned64: &'static str,
    pub boolean: &'static str,
}

impl Wgsl {
    /// Nothing on the GPU.
    pub const NONE: Self =
        Self { float: "", signed: "", unsigned: "", signed64: "", unsigned64: "", boolean: "" };

    /// The same text for every type of one word, another for two words.
    pub const fn numeric(word: &'static str, pair: &'static str) -> Self {
        Self {
            float: word,
            signed: word,
            unsigned: word,
            signed64: pair,
            unsigned64: pair,
            boolean: "",
        }
    }

    /// The expression for operands of this type.
    pub fn of(&self, dtype: DType) -> Option<&'static str> {
        let text = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => self.float,
            DType::I8 | DType::I16 | DType::I32 => self.signed,
            DType::U8 | DType::U16 | DType::U32 => self.unsigned,
            DType::I64 => self.signed64,
            DType::U64 => self.unsigned64,
            DType::Bool => self.boolean,
            _ => "",
        };
        (!text.is_empty()).then_some(text)
    }
}

/// `a + b`.
pub(in crate::ops) const SUM: Wgsl = Wgsl::numeric("a + b", "add64(a, b)");
/// `a * b`.
pub(in crate::ops) const PRODUCT: Wgsl = Wgsl::numeric("a * b", "mul64(a, b)");

/// Applies an expression of `a` and `b` to operands of any numeric type: one for floats, one for integers, which are
/// calculated in 64 bits and wrap to their type.
macro_rules! arithmetic {
    ($ctx:expr, |$a:ident, $b:ident| float $float:expr, int $int:expr) => {
        match $ctx.input(0).dtype {
            DType::F32 => pairs($ctx, |$a: f32, $b: f32| -> f32 { $float }),
            DType::F16 | DType::BF16 => wide_pairs($ctx, |$a: f32, $b: f32| -> f32 { $float }),
            DType::F64 => wide_pairs($ctx, |$a: f64, $b: f64| -> f64 { $float }),
            DType::U64 => wide_pairs($ctx, |$a: u64, $b: u64| -> u64 { $int }),
            _ => wide_pairs($ctx, |$a: i64, $b: i64| -> i64 { $int }),
        }
    };
}

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    inputs: &[Operand::data("A").of(NUMBERS), Operand::data("B").like(0)],
    outputs: &["C"],
    elementwise: true,
    infer: same_types,
    tolerance: Tolerance::ELEMENTWISE,
    ..OpDef::BASE
};

pub static ADD: OpDef = OpDef {
    name: "Add",
    doc: "`a + b` with broadcasting; integers wrap.",
    onnx: &[OnnxName::since("Add", 7)],
    infer: |ctx| with_dims(ctx, |a, b| Some(a + b)),
    cpu: Cpu::kernel(|ctx| arithmetic!(ctx, |a, b| float a + b, int a.wrapping_add(b))),
    gpu: Some(|ctx| gpu(ctx, "Add", &SUM)),
    cases: || cases([7.5, 2.0, -1.5, -7.0], [-56, -67], [4_294_967_301, -1]),
    ..ROW
};

pub static SUB: OpDef = OpDef {
    name: "Sub",
    doc: "`a - b` with broadcasting; integers wrap.",
    onnx: &[OnnxName::since("Sub", 7)],
    infer: |ctx| with_dims(ctx, |a, b| Some(a - b)),
    cpu: Cpu::kernel(|ctx| arithmetic!(ctx, |a, b| float a - b, int a.wrapping_sub(b))),
    gpu: Some(|ctx| gpu(ctx, "Sub", &Wgsl::numeric("a - b", "sub64(a, b)"))),
    cases: || cases([4.5, 10.0, -4.5, 1.0], [0, -73], [4_294_967_295, -9]),
    ..ROW
};

pub static MUL: OpDef = OpDef {
    name: "Mul",
    doc: "`a * b` with broadcasting; integers wrap.",
    onnx: &[OnnxName::since("Mul", 7)],
    infer: |ctx| with_dims(ctx, |a, b| Some(a * b)),
    cpu: Cpu::kernel(|ctx| arithmetic!(ctx, |a, b| float a * b, int a.wrapping_mul(b))),
    gpu: Some(|ctx| gpu(ctx, "Mul", &PRODUCT)),
    cases: || cases([9.0, -24.0, -4.5, 12.0], [16, 46], [12_884_901_894, -20]),
    ..ROW
};

pub static DIV: OpDef = OpDef {
    name: "Div",
    doc: "`a / b` with broadcasting; integers are rounded towards zero, and `a / 0` is 0 as in NumPy.",
    onnx: &[OnnxName::since("Div", 7)],
    infer: |ctx| {
        // The quotient of sizes is only known to be rounded down where the divisor is a positive number.
        with_dims(ctx, |a, b| b.known().filter(|&b| b > 0).map(|_| a.floor_div(b)))
    },
    cpu: Cpu::kernel(
        |ctx| arithmetic!(ctx, |a, b| float a / b, int if b == 0 { 0 } else { a.wrapping_div(b) }),
    ),
    gpu: Some(|ctx| {
        let signed = "div_i32(a, b)";
        let unsigned = "select(a / max(b, 1u), 0u, b == 0u)";
        let (signed64, unsigned64) = ("div_i64(a, b)", "div_u64(a, b)");
        let wgsl = Wgsl { float: "a / b", signed, unsigned, signed64, unsigned64, boolean: "" };
        gpu(ctx, "Div", &wgsl)
    }),
    cases: || {
        let mut cases = cases([4.0, -1.5, -2.0, 0.75], [1, -23], [1_431_655_766, -1]);
        cases.push(
            Case::new(
                "integers round towards zero, and by zero is zero",
                vec![
                    Tensor::from_slice(&[5], &[7i32, -7, 7, 5, i32::MIN]),
                    Tensor::from_slice(&[5], &[2i32, 2, -2, 0, -1]),
                ],
            )
            .expect(vec![Tensor::from_slice(&[5], &[3i32, -3, -3, 0, i32::MIN])]),
        );
        let wide = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
        let (a, b) = ([7 << 40, -7, i64::MIN, i64::MIN, 5], [-3, 1 << 33, -1, 10, 0]);
        let quotients = [-((7i64 << 40) / 3), 0, i64::MIN, -922_337_203_685_477_580, 0];
        cases.push(
            Case::new("long integers", vec![wide(&a), wide(&b)]).expect(vec![wide(&quotients)]),
        );
        let unsigned = |v: &[u64]| Tensor::from_slice(&[v.len()], v);
        cases.push(
            Case::new("u64", vec![unsigned(&[u64::MAX, 9, 9]), unsigned(&[1 << 63, u64::MAX, 0])])
                .expect(vec![unsigned(&[1, 0, 0])]),
        );
        cases
    },
    ..ROW
};

pub static MOD: OpDef = OpDef {
    name: "Mod",
    doc: "The remainder of `a / b` with broadcasting: with the sign of `b`, or with the sign of `a` if `fmod` is 1, as C's fmod. \
          `a mod 0` of integers is 0.",
    onnx: &[OnnxName::since("Mod", 10)],
    attrs: &[AttrDef::int("fmod", 0)],
    cpu: Cpu::kernel(|ctx| {
        if ctx.attrs.int("fmod") != 0 {
            return arithmetic!(ctx, |a, b| float a % b, int if b == 0 { 0 } else { a.wrapping_rem(b) });
        }
        // The remainder takes the sign of `b`: move it by `b` where its own differs.
        arithmetic!(ctx, |a, b| float {
            let r = a % b;
            match (r == 0.0, r.is_sign_negative() == b.is_sign_negative()) {
                (true, _) => r.copysign(b),
                (false, true) => r,
                (false, false) => r + b,
            }
        }, int if b == 0 { 0 } else {
            let r = a.wrapping_rem(b);
            if r != 0 && (r > 0) != (b > 0) { r.wrapping_add(b) } else { r }
        })
    }),
    gpu: Some(|ctx| {
        let (signed, signed64) = match ctx.attrs.int("fmod") {
            0 => ("mod_i32(a, b)", "mod_i64(a, b)"),
            _ => {
                ("a - div_i32(a, b) * select(b, 1, b == 0) - select(0, a, b == 0)", "rem_i64(a, b)")
            }
        };
        let unsigned = "select(a % max(b, 1u), 0u, b == 0u)";
        let float = if ctx.attrs.int("fmod") == 0 { "floor_mod(a, b)" } else { "fmod(a, b)" };
        let unsigned64 = "rem_u64(a, b)";
        gpu(ctx, "Mod", &Wgsl { float, signed, unsigned, signed64, unsigned64, boolean: "" })
    }),
    cases: || {
        let operands = vec![
            Tensor::from_slice(&[6], &[-4i32, 7, 5, 4, -7, 8]),
            Tensor::from_slice(&[6], &[2i32, -3, 8, -2, 3, 0]),
        ];
        let floats = vec![
            Tensor::from_slice(&[3], &[-4.3f32, 7.2, 5.0]),
            Tensor::from_slice(&[3], &[2.1f32, -3.4, 8.0]),
        ];
        let long = vec![
            Tensor::from_slice(&[5], &[3i64 << 40, -7, i64::MIN, 5, 9]),
            Tensor::from_slice(&[5], &[-(2i64 << 40), 10, -1, 1 << 50, 0]),
        ];
        let (n, inf) = (f32::NAN, f32::INFINITY);
        let edges = (
            [1e30f32, 5.5, -5.5, 1.0, 3.0, inf, 6.0, n],
            [3.0f32, inf, 2.0, 0.0, 1e-40, 2.0, -3.0, 1.0],
            [1e30f32 % 3.0, 5.5, -1.5, n, 3.0 % 1e-40, n, 0.0, n],
        );
        vec![
            Case::new("sign of the divisor", operands.clone())
                .expect(vec![Tensor::from_slice(&[6], &[0i32, -2, 5, 0, 2, 0])]),
            Case::new("sign of the dividend", operands)
                .attr("fmod", Attr::Int(1))
                .expect(vec![Tensor::from_slice(&[6], &[0i32, 1, 5, 0, -1, 0])]),
            Case::new("floats", floats)
                .attr("fmod", Attr::Int(1))
                .expect(vec![Tensor::from_slice(&[3], &[-0.1f32, 0.4, 5.0])]),
            Case::new(
                "bytes",
                vec![Tensor::from_slice(&[3], &[200u8, 7, 255]), Tensor::from_slice(&[1], &[16u8])],
            )
            .expect(vec![Tensor::from_slice(&[3], &[8u8, 7, 15])]),
            Case::new("long integers, sign of the divisor", long.clone())
                .expect(vec![Tensor::from_slice(&[5], &[-(1i64 << 40), 3, 0, 5, 0])]),
            Case::new("long integers, sign of the dividend", long)
                .attr("fmod", Attr::Int(1))
                .expect(vec![Tensor::from_slice(&[5], &[1i64 << 40, -7, 0, 5, 0])]),
            Case::new(
                "floats at the edges",
                vec![Tensor::from_slice(&[8], &edges.0), Tensor::from_slice(&[8], &edges.1)],
            )
            .attr("fmod", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[8], &edges.2)]),
            Case::new(
                "floats, sign of the divisor",
                vec![
                    Tensor::from_slice(&[7], &[-4.5f32, 4.5, 7.25, -6.0, 6.0, 0.25, -0.25]),
                    Tensor::from_slice(&[7], &[2.0f32, -2.0, 3.0, 3.0, -3.0, 1.0, 1.0]),
                ],
            )
            .expect(vec![Tensor::from_slice(&[7], &[1.5f32, -1.5, 1.25, 0.0, -0.0, 0.25, 0.75])]),
            Case::new(
                "floats at the edges, sign of the divisor",
                vec![
                    Tensor::from_slice(&[9], &[0.0f32, -0.0, inf, 1.0, 5.0, -5.0, 5.0, n, 1.0]),
                    Tensor::from_slice(&[9], &[-2.0f32, 2.0, 2.0, 0.0, inf, inf, -inf, 1.0, n]),
                ],
            )
            .expect(vec![Tensor::from_slice(&[9], &[-0.0f32, 0.0, n, n, 5.0, inf, -inf, n, n])]),
        ]
    },
    ..ROW
};

pub static PRELU: OpDef = OpDef {
    name: "PRelu",
    doc: "`x < 0 ? slope * x : x`; the slope broadcasts to `x`.",
    onnx: &[OnnxName::since("PRelu", 9)],
    inputs: &[Operand::data("X").of(NUMBERS), Operand::data("slope").like(0).learned()],
    outputs: &["Y"],
    infer: |ctx| {
        let (x, slope) = (ctx.facts(0)?, ctx.facts(1)?);
        if let (Some(own), Some(given)) = (&x.shape, &slope.shape) {
            let stretched = broadcast(&[own, given])?;
            let (front, rest) = stretched.split_at(stretched.len() - own.len());
            let grown = |(own, all): (&Dim, &Dim)| {
                own.known().zip(all.known()).is_some_and(|(own, all)| own != all)
            };
            let longer = front.iter().any(|dim| dim.known() != Some(1));
            if longer || own.iter().zip(rest).any(grown) {
                return Err(InferError::invalid(format!(
                    "operand slope is {slope}, expected a shape that broadcasts to {x}"
                )));
            }
        }
        Ok(vec![Facts { value: None, ..x.clone() }])
    },
    cpu: Cpu::kernel(|ctx| {
        arithmetic!(ctx, |x, slope| float if x < 0.0 { slope * x } else { x }, int {
            if PartialOrd::lt(&x, &Default::default()) { slope.wrapping_mul(x) } else { x }
        })
    }),
    gpu: Some(|ctx| {
        let float = "select(a, b * a, a < 0.0)";
        let signed = "select(a, b * a, a < 0)";
        let signed64 = "select(a, mul64(b, a), negative64(a))";
        let (unsigned, unsigned64) = ("a", "a");
        gpu(ctx, "PRelu", &Wgsl { float, signed, unsigned, signed64, unsigned64, boolean: "" })
    }),
    cases: || {
        vec![
            Case::new(
                "a slope for each channel",
                vec![
                    Tensor::from_slice(
                        &[1, 2, 3],
                        &[-1.0f32, 2.0, -3.0, -4.0, f32::NAN, f32::NEG_INFINITY],
                    ),
                    Tensor::from_slice(&[2, 1], &[0.5f32, 0.25]),
                ],
            )
            .expect(vec![Tensor::from_slice(
                &[1, 2, 3],
                &[-0.5f32, 2.0, -1.5, -1.0, f32::NAN, f32::NEG_INFINITY],
            )]),
            Case::new("image", vec![ramp(&[2, 3, 9, 11]), ramp(&[3, 1, 1])]),
            Case::new(
                "long integers",
                vec![
                    Tensor::from_slice(&[2], &[-3i64 << 33, 4]),
                    Tensor::from_slice(&[1], &[2i64]),
                ],
            )
            .expect(vec![Tensor::from_slice(&[2], &[-6i64 << 33, 4])]),
        ]
    },
    ..ROW
};

fn check_same(a: DType, b: DType) -> Result<(), InferError> {
    if a != b {
        return Err(InferError::invalid(format!("operands of {a} and {b}, expected one type")));
    }
    Ok(())
}

/// The rule of operators whose operands and result have one type.
pub(in crate::ops) fn same_types(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    check_same(dtype, ctx.dtype(1)?)?;
    broadcast_of(ctx, dtype)
}

/// Facts of a result of type `dtype` that the two operands broadcast to.
pub(in crate::ops) fn broadcast_of(
    ctx: &InferCtx<'_>,
    dtype: DType,
) -> Result<Vec<Facts>, InferError> {
    if ctx.facts(0)?.shape.is_none() || ctx.facts(1)?.shape.is_none() {
        return Ok(vec![Facts::unranked(dtype)]);
    }
    Ok(vec![Facts::new(dtype, broadcast(&[ctx.shape(0)?, ctx.shape(1)?])?)])
}

/// Elements up to which contents of a vector are followed symbolically; shapes are shorter.
pub(in crate::ops) const MAX_DIMS: usize = 64;

/// Contents of operand `i` as expressions, if it is a short vector or scalar of `i64` whose contents are known.
pub(in crate::ops) fn dims_of(ctx: &InferCtx<'_>, i: usize) -> Option<Vec<Dim>> {
    let facts = ctx.opt(i)?;
    let vector = facts.shape.as_ref().is_some_and(|s| s.len() <= 1);
    if facts.dtype != DType::I64 || !vector {
        return None;
    }
    ctx.dims(i).ok().filter(|d| d.len() <= MAX_DIMS)
}

/// As [`same_types`], and follows shape arithmetic: `f` on the expressions of each pair of elements.
fn with_dims(
    ctx: &InferCtx<'_>,
    f: impl Fn(&Dim, &Dim) -> Option<Dim>,
) -> Result<Vec<Facts>, InferError> {
    let mut facts = same_types(ctx)?;
    if let (Some(a), Some(b)) = (dims_of(ctx, 0), dims_of(ctx, 1)) {
        let dims: Option<Vec<Dim>> = zip_dims(&a, &b).map(|(a, b)| f(a, b)).collect();
        facts[0].value = dims.map(Known::Dims);
    }
    Ok(facts)
}

/// Pairs of elements of two vectors of which either may be a single element.
pub(in crate::ops) fn zip_dims<'a>(
    a: &'a [Dim],
    b: &'a [Dim],
) -> impl Iterator<Item = (&'a Dim, &'a Dim)> {
    let n = if a.len() == 1 { b.len() } else { a.len() };
    let pick = |v: &'a [Dim], i: usize| if v.len() == 1 { &v[0] } else { &v[i] };
    (0..n).map(move |i| (pick(a, i), pick(b, i)))
}

/// Runs `f` over both operands, broadcast to the result.
pub(in crate::ops) fn pairs<A: Element, B: Element, Y: Element>(
    ctx: &mut CpuCtx<'_>,
    f: impl Fn(A, B) -> Y + Sync,
) -> Result<(), OpError> {
    let (a, b) = (ctx.input(0), ctx.input(1));
    let (a, b) = (
        Shaped { shape: a.shape, data: a.slice::<A>() },
        Shaped { shape: b.shape, data: b.slice::<B>() },
    );
    let y = ctx.output();
    let shape = y.shape;
    zip2(shape, y.slice::<Y>(), a, b, f)
}

/// As [`pairs`], calculating in another type than the one in memory.
pub(in crate::ops) fn wide_pairs<W: Calc, Y: Calc>(
    ctx: &mut CpuCtx<'_>,
    f: impl Fn(W, W) -> Y + Sync,
) -> Result<(), OpError> {
    let (a, b) = (ctx.input(0), ctx.input(1));
    zip_blocks(a, b, ctx.output(), &|a: &[W], b: &[W], y: &mut [Y]| {
        a.iter().zip(b).zip(y).for_each(|((&a, &b), y)| *y = f(a, b));
    })
}

/// The program of a row whose result has the operands' type.
fn gpu(ctx: &GpuCtx<'_>, label: &'static str, wgsl: &Wgsl) -> Result<Option<GpuProgram>, OpError> {
    let dtype = ctx.input(0).dtype;
    let Some(text) = wgsl.of(dtype) else { return Ok(None) };
    formula(ctx, label, &rounded(dtype, text))
}

/// The program of a row whose result is bool: `wgsl` gives a WGSL `bool`.
pub(in crate::ops) fn gpu_bool(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    wgsl: &Wgsl,
) -> Result<Option<GpuProgram>, OpError> {
    let Some(text) = wgsl.of(ctx.input(0).dtype) else { return Ok(None) };
    formula(ctx, label, &format!("u32({text})"))
}

/// The program of an expression of `a` and `b`.
pub(in crate::ops) fn formula(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    y: &str,
) -> Result<Option<GpuProgram>, OpError> {
    let functions = &[PRELUDE, INT64, DIVIDE64, include_str!("binary.wgsl")];
    program(ctx, &Formula { label, operands: [0, 1], functions, y, params: [0; 3] })
}

/// Cases of an operator on numbers, given its results for the operands written here.
fn cases(floats: [f32; 4], bytes: [i8; 2], wide: [i64; 2]) -> Vec<Case> {
    let (a, b) =
        (Tensor::from_slice(&[2, 1], &[6.0f32, -3.0]), Tensor::from_slice(&[2], &[1.5f32, -4.0]));
    let halves = |t: &[f32], shape: &[usize]| {
        Tensor::from_slice(shape, &t.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>())
    };
    vec![
        Case::new("column and row", vec![a, b]).expect(vec![Tensor::from_slice(&[2, 2], &floats)]),
        Case::new("f16", vec![halves(&[6.0, -3.0], &[2, 1]), halves(&[1.5, -4.0], &[2])])
            .expect(vec![halves(&floats, &[2, 2])]),
        Case::new(
            "i8",
            vec![Tensor::from_slice(&[2], &[100i8, -70]), Tensor::from_slice(&[2], &[100i8, 3])],
        )
        .expect(vec![Tensor::from_slice(&[2], &bytes)]),
        Case::new(
            "i64",
            vec![
                Tensor::from_slice(&[2], &[4_294_967_298i64, -5]),
                Tensor::from_slice(&[2], &[3i64, 4]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2], &wide)]),
        Case::new(
            "not a number",
            vec![
                Tensor::from_slice(&[2], &[f32::NAN, 1.0]),
                Tensor::from_slice(&[2], &[1.0, f32::NAN]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2], &[f32::NAN, f32::NAN])]),
        Case::new("bias of channels", vec![ramp(&[2, 3, 4, 5]), ramp(&[3, 1, 1])]),
        Case::new("scalar", vec![ramp(&[]), ramp(&[3, 700])]),
        Case::new(
            "five axes that do not merge",
            vec![ramp(&[2, 1, 3, 1, 2]), ramp(&[1, 4, 1, 5, 1])],
        ),
        Case::new("empty", vec![ramp(&[0, 4]), ramp(&[4])]),
    ]
}
