//! Numbers drawn by chance. Like, Bernoulli, Multinomial and Dropout are compositions over these two.
//!
//! A draw with a seed is the same in every run and on every device; one without follows from the seed of the run, if that has one. Neither is folded,
//! merged or moved into `prepare` ([`OpDef::random`]), and both are drawn on the host, in one order.

use crate::AttrsExt;
use crate::case::{Case, ints};
use crate::convert::Calc;
use crate::cpu::Mersenne;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::onnx_dtype;
use crate::{AttrDef, AttrKind, Default, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Tensor};

/// The seed of a draw: absent for the run's next stream ([`Draws`](crate::cpu::Draws)).
const SEED: AttrDef = AttrDef { name: "seed", kind: AttrKind::Int, default: Default::Absent };

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef {
    inputs: &[Operand::shape("shape")],
    outputs: &["output"],
    infer,
    random: true,
    tolerance: Tolerance::ELEMENTWISE,
    ..OpDef::BASE
};

/// RandomUniform.
pub static RANDOM_UNIFORM: OpDef = OpDef {
    name: "RandomUniform",
    doc: "A tensor of the given shape, of type `dtype` (ONNX's number of it), drawn evenly from `low..high`: the stream of \
          MT19937 for `seed` as NumPy's RandomState gives it, or a fresh one in every run without a seed.",
    attrs: &[
        AttrDef::int("dtype", 1),
        AttrDef::float("high", 1.0),
        AttrDef::float("low", 0.0),
        SEED,
    ],
    cpu: Cpu::kernel(|ctx| {
        let (low, high) = (f64::from(ctx.attrs.float("low")), f64::from(ctx.attrs.float("high")));
        draw(ctx, Mersenne::uniform, high - low, low)
    }),
    cases: || {
        let seeded =
            |name, seed| Case::new(name, vec![ints(&[2, 2])]).attr("seed", Attr::Int(seed));
        // numpy.random.RandomState(seed).rand(2, 2)
        let zero = [0.548_813_5f32, 0.715_189_4, 0.602_763_4, 0.544_883_2];
        let seven = [0.076_308_289, 0.779_918_79, 0.438_409_23, 0.723_465_18f64];
        let between = seven.map(|u| -2.0 + 5.0 * u);
        vec![
            seeded("seed 0", 0).expect(vec![Tensor::from_slice(&[2, 2], &zero)]),
            seeded("between bounds", 7)
                .attr("dtype", Attr::Int(11))
                .attr("low", Attr::Float(-2.0))
                .attr("high", Attr::Float(3.0))
                .expect(vec![Tensor::from_slice(&[2, 2], &between)]),
            Case::new("nothing", vec![ints(&[0, 3])]).attr("seed", Attr::Int(1)),
        ]
    },
    ..ROW
};

/// RandomNormal.
pub static RANDOM_NORMAL: OpDef = OpDef {
    name: "RandomNormal",
    doc: "A tensor of the given shape, of type `dtype` (ONNX's number of it), drawn from the normal distribution of mean `mean` \
          and standard deviation `scale`: the stream of MT19937 for `seed` as NumPy's RandomState gives it, or a fresh one in \
          every run without a seed.",
    attrs: &[
        AttrDef::int("dtype", 1),
        AttrDef::float("mean", 0.0),
        AttrDef::float("scale", 1.0),
        SEED,
    ],
    cpu: Cpu::kernel(|ctx| {
        let (mean, scale) =
            (f64::from(ctx.attrs.float("mean")), f64::from(ctx.attrs.float("scale")));
        draw(ctx, Mersenne::normal, scale, mean)
    }),
    cases: || {
        let seeded = |name, seed| Case::new(name, vec![ints(&[3])]).attr("seed", Attr::Int(seed));
        // numpy.random.RandomState(0).randn(3)
        let zero = [1.764_052_3f32, 0.400_157_2, 0.978_738];
        vec![
            seeded("seed 0", 0).expect(vec![Tensor::from_slice(&[3], &zero)]),
            seeded("moved", 0)
                .attr("mean", Attr::Float(1.0))
                .attr("scale", Attr::Float(-2.0))
                .expect(vec![Tensor::from_slice(&[3], &zero.map(|z| 1.0 - 2.0 * z))]),
        ]
    },
    ..ROW
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = onnx_dtype(ctx.attrs.int("dtype"))?;
    if !dtype.is_float() {
        return Err(InferError::invalid(format!("dtype is {dtype}, expected a float type")));
    }
    Ok(vec![Facts::new(dtype, ctx.dims(0)?)])
}

/// Numbers drawn one after the other, each times `scale` plus `shift`.
fn draw(
    ctx: &mut CpuCtx<'_>,
    next: fn(&mut Mersenne) -> f64,
    scale: f64,
    shift: f64,
) -> Result<(), OpError> {
    /// Elements that are written together.
    const BLOCK: usize = 256;
    let mut stream = match ctx.attrs.opt_int("seed") {
        Some(seed) => Mersenne::new(seed as u32),
        None => ctx.draws.stream(),
    };
    let y = ctx.output();
    let mut block = [0.0f64; BLOCK];
    for bytes in y.bytes.chunks_mut(BLOCK * y.dtype.width()) {
        let block = &mut block[..bytes.len() / y.dtype.width()];
        block.iter_mut().for_each(|slot| *slot = next(&mut stream) * scale + shift);
        f64::store(y.dtype, block, bytes);
    }
    Ok(())
}
