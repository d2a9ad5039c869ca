//! Discrete Fourier transforms, of a signal and of frames of it.

mod fast;
mod gpu;
mod sizes;

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::dtypes::FLOATS;
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::filled;
use crate::operand::{INTEGERS, ONE};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Dim, Tensor};
use fast::Transform;
use sizes::{other_side, wrong_window};

pub static DFT: OpDef = OpDef {
    name: "DFT",
    doc: "`Y[k] = Σ X[n] · e^(∓2πi·kn/N)` along `axis`, cut or filled with zeros to `dft_length`; the last axis holds real and \
          imaginary parts. `inverse` turns the sign and divides by N; `onesided` keeps, or takes, the first half alone.",
    onnx: &[OnnxName::since("DFT", 20)],
    attrs: &[AttrDef::int("inverse", 0), AttrDef::int("onesided", 0)],
    inputs: &[
        Operand::data("input").of(FLOATS),
        Operand::opt_shape("dft_length").of(INTEGERS).shaped(ONE),
        Operand::opt_shape("axis").of(INTEGERS).shaped(ONE),
    ],
    outputs: &["output"],
    infer: infer_dft,
    cpu: Cpu::kernel(run_dft),
    gpu: Some(gpu::dft),
    tolerance: Tolerance::SUMS,
    cases: || {
        let x = Tensor::from_slice(&[1, 4, 1], &[1.0f32, 2.0, 3.0, 4.0]);
        let y = [10.0f32, 0.0, -2.0, 2.0, -2.0, 0.0];
        let y = Tensor::from_slice(&[1, 3, 2], &y);
        let axis = || number(1);
        let of = |name, shape: &[usize]| {
            Case::new(name, vec![ramp(shape)]).input(None).input(Some(number(1)))
        };
        vec![
            Case::new("one-sided", vec![x.clone()])
                .input(None)
                .input(Some(axis()))
                .attr("onesided", Attr::Int(1))
                .expect(vec![y.clone()]),
            Case::new("back from one side", vec![y])
                .input(None)
                .input(Some(axis()))
                .attr("onesided", Attr::Int(1))
                .attr("inverse", Attr::Int(1))
                .expect(vec![x]),
            of("a prime length", &[2, 13, 2]),
            of("a length of many factors", &[1, 360, 1]),
            of("between other axes", &[3, 12, 5, 2]),
            of("one element", &[2, 1, 2]),
            of("back", &[2, 30, 3, 2]).attr("inverse", Attr::Int(1)),
            of("nothing", &[0, 4, 1]),
            Case::new("filled with zeros", vec![ramp(&[2, 20, 1]), number(32), number(1)])
                .attr("onesided", Attr::Int(1)),
            Case::new("cut", vec![ramp(&[2, 20, 2]), number(7), number(-2)]),
            Case::new(
                "back from more than one side",
                vec![ramp(&[2, 9, 2]), number(10), number(1)],
            )
            .attr("onesided", Attr::Int(1))
            .attr("inverse", Attr::Int(1)),
        ]
    },
    ..OpDef::BASE
};

pub static STFT: OpDef = OpDef {
    name: "STFT",
    doc: "The transform of frames of a signal, `frame_step` apart, each times `window`; `onesided` keeps the first half.",
    onnx: &[OnnxName::since("STFT", 17)],
    attrs: &[AttrDef::int("onesided", 1)],
    inputs: &[
        Operand::data("signal").of(FLOATS),
        Operand::shape("frame_step").of(INTEGERS).shaped(ONE),
        Operand::opt_data("window").of(FLOATS).shaped("_"),
        Operand::opt_shape("frame_length").of(INTEGERS).shaped(ONE),
    ],
    outputs: &["output"],
    infer: infer_stft,
    cpu: Cpu::kernel(run_stft),
    gpu: Some(gpu::stft),
    tolerance: Tolerance::SUMS,
    cases: || {
        let x = Tensor::from_slice(&[1, 6, 1], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = [10.0f32, 0.0, -2.0, 2.0, -2.0, 0.0, 18.0, 0.0, -2.0, 2.0, -2.0, 0.0];
        vec![
            Case::new("two frames", vec![x, number(2)])
                .input(None)
                .input(Some(number(4)))
                .expect(vec![Tensor::from_slice(&[1, 2, 3, 2], &y)]),
            Case::new("windows", vec![ramp(&[2, 300, 1]), number(25), ramp(&[40])]),
            Case::new("both sides, complex", vec![ramp(&[2, 50, 2]), number(10)])
                .input(Some(ramp(&[20])))
                .input(Some(number(20)))
                .attr("onesided", Attr::Int(0)),
            Case::new("a signal of two axes", vec![ramp(&[1, 64]), number(8)])
                .input(None)
                .input(Some(number(16))),
        ]
    },
    ..OpDef::BASE
};

/// A scalar operand.
fn number(n: i64) -> Tensor {
    Tensor::from_slice(&[], &[n])
}

fn one(values: Vec<i64>, what: &str) -> Result<i64, OpError> {
    match values.as_slice() {
        [one] => Ok(*one),
        many => Err(OpError::new(format!("operand {what} holds {many:?}, expected one number"))),
    }
}

/// Numbers are real, or real and imaginary parts side by side.
fn check_parts(x: &Facts, parts: Option<&Dim>) -> Result<(), InferError> {
    match parts.and_then(Dim::known) {
        None | Some(1 | 2) => Ok(()),
        Some(n) => {
            Err(InferError::invalid(format!("the last axis of {x} is {n}, expected 1 or 2")))
        }
    }
}

fn infer_dft(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    check_parts(x, shape.last())?;
    let along = match ctx.opt(2) {
        Some(_) => one(ctx.ints(2)?, "axis")?,
        None => -2,
    };
    let at = axis(along, shape.len())?;
    if at + 1 == shape.len() {
        return Err(InferError::invalid("axis is the last, which holds real and imaginary parts"));
    }
    let given = match ctx.opt(1) {
        Some(_) => Some(one(ctx.ints(1)?, "dft_length")?),
        None => None,
    };
    if let Some(length) = given.filter(|&length| length < 1) {
        return Err(InferError::invalid(format!("dft_length is {length}, expected 1 or more")));
    }
    let (inverse, onesided) = (ctx.attrs.int("inverse") != 0, ctx.attrs.int("onesided") != 0);
    let length = shape[at].known().ok_or(InferError::NeedsValue(0))?;
    let mut out = shape.to_vec();
    out[at] = Dim::from(other_side(length, inverse, onesided, given).1);
    out[shape.len() - 1] = Dim::from(if inverse && onesided { 1i64 } else { 2 });
    Ok(vec![Facts::new(x.dtype, out)])
}

fn infer_stft(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    if !(2..=3).contains(&shape.len()) {
        return Err(InferError::invalid(format!("signal is {x}, expected rank 2 or 3")));
    }
    check_parts(x, shape.get(2))?;
    let length = match (ctx.opt(3), ctx.opt(2)) {
        (Some(_), _) => one(ctx.ints(3)?, "frame_length")?,
        (None, Some(_)) => ctx.shape(2)?[0].known().ok_or(InferError::NeedsValue(2))?,
        (None, None) => {
            return Err(InferError::invalid("neither window nor frame_length is there"));
        }
    };
    let step = one(ctx.ints(1)?, "frame_step")?;
    let signal = shape.get(1).and_then(Dim::known).ok_or(InferError::NeedsValue(0))?;
    if step <= 0 || length <= 0 || signal < length {
        return Err(InferError::invalid(format!(
            "frames of {length} every {step} of a signal of {signal}, expected positive numbers that fit"
        )));
    }
    let bins = if ctx.attrs.int("onesided") != 0 { length / 2 + 1 } else { length };
    let sizes = [(signal - length) / step + 1, bins, 2].map(Dim::from);
    let out = std::iter::once(shape[0].clone()).chain(sizes).collect();
    Ok(vec![Facts::new(x.dtype, out)])
}

fn all(x: TensorRef<'_>) -> Result<Vec<f64>, OpError> {
    let mut values = filled(x.len(), 0.0)?;
    f64::load(x.dtype, x.bytes, 0, &mut values);
    Ok(values)
}

fn run_dft(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let rank = x.shape.len();
    let number = |i: usize| ctx.opt_input(i).map(|t| integer(t));
    let at = axis(number(2).unwrap_or(-2), rank)?;
    let (inverse, onesided) = (ctx.attrs.int("inverse") != 0, ctx.attrs.int("onesided") != 0);
    let length = x.shape[at];
    let (n, bins) = other_side(length as i64, inverse, onesided, number(1));
    let (n, bins) = (n as usize, bins as usize);
    let parts = x.shape[rank - 1];
    let values = all(x)?;
    let mut transform = Transform::new(n, inverse)?;
    let inner: usize = x.shape[at + 1..rank - 1].iter().product();
    let outer: usize = x.shape[..at].iter().product();
    let y = ctx.output();
    let out_parts = y.shape[rank - 1];
    let mut out = filled(y.shape.iter().product(), 0.0)?;
    let mut signal = filled(n, (0.0, 0.0))?;
    for row in 0..outer * inner {
        let (o, i) = (row / inner, row % inner);
        signal.fill((0.0, 0.0));
        for (t, slot) in signal.iter_mut().enumerate().take(length) {
            let at = ((o * length + t) * inner + i) * parts;
            *slot = (values[at], if parts == 2 { values[at + 1] } else { 0.0 });
        }
        if inverse && onesided {
            // The other half is the mirror image.
            for t in length.max(1)..n {
                let (re, im) = signal[n - t];
                signal[t] = (re, -im);
            }
        }
        transform.run(&mut signal);
        for (k, &(re, im)) in signal.iter().enumerate().take(bins) {
            let at = ((o * bins + k) * inner + i) * out_parts;
            out[at] = re;
            if out_parts == 2 {
                out[at + 1] = im;
            }
        }
    }
    f64::store(y.dtype, &out, y.bytes);
    Ok(())
}

fn integer(t: TensorRef<'_>) -> i64 {
    let mut one = [0i64];
    i64::load(t.dtype, t.bytes, 0, &mut one);
    one[0]
}

fn run_stft(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, step) = (ctx.input(0), integer(ctx.input(1)) as usize);
    let window = ctx.opt_input(2).map(all).transpose()?;
    let n = match (ctx.opt_input(3), &window) {
        (Some(length), _) => integer(length) as usize,
        (None, Some(window)) => window.len(),
        (None, None) => return Err(OpError::new("neither window nor frame_length is there")),
    };
    if window.as_ref().is_some_and(|window| window.len() != n) {
        return Err(wrong_window(n));
    }
    let parts = if x.shape.len() == 3 { x.shape[2] } else { 1 };
    let values = all(x)?;
    let mut transform = Transform::new(n, false)?;
    let mut signal = filled(n, (0.0, 0.0))?;
    let y = ctx.output();
    let (frames, bins) = (y.shape[1], y.shape[2]);
    let mut out = filled(y.shape.iter().product(), 0.0)?;
    for row in 0..y.shape[0] * frames {
        let start = row / frames * x.shape[1] + row % frames * step;
        let sample = |t: usize| {
            let (at, weight) = ((start + t) * parts, window.as_ref().map_or(1.0, |w| w[t]));
            (values[at] * weight, if parts == 2 { values[at + 1] * weight } else { 0.0 })
        };
        signal.iter_mut().enumerate().for_each(|(t, slot)| *slot = sample(t));
        transform.run(&mut signal);
        for (k, &(re, im)) in signal.iter().enumerate().take(bins) {
            out[(row * bins + k) * 2] = re;
            out[(row * bins + k) * 2 + 1] = im;
        }
    }
    f64::store(y.dtype, &out, y.bytes);
    Ok(())
}
