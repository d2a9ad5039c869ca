//! Numbers of few bits with a scale for each block, held to a loop that is written from the operators' texts.

use crate::testing::{Onnx, int, run, value};
use crate::{BuildOptions, build};
use engine_format::Tensor;

/// A type that floats are rounded into: ONNX's number of it, and how.
struct Kind {
    number: i64,
    round: fn(f64) -> f64,
    low: f64,
    high: f64,
    /// Whether there are zero points other than 0.
    zeros: bool,
}

/// Rounded to so many bits behind the first one, which is worth 2^`least` at least.
fn binary(x: f64, bits: i32, least: i32) -> f64 {
    let exponent = if x == 0.0 { least } else { (x.abs().log2().floor() as i32).max(least) };
    let step = 2f64.powi(exponent - bits);
    (x / step).round_ties_even() * step
}

const fn whole(number: i64, low: f64, high: f64) -> Kind {
    Kind { number, round: f64::round_ties_even, low, high, zeros: true }
}

const fn float(number: i64, round: fn(f64) -> f64, high: f64) -> Kind {
    Kind { number, round, low: -high, high, zeros: false }
}

const KINDS: [Kind; 11] = [
    whole(22, -8.0, 7.0),
    whole(21, 0.0, 15.0),
    whole(26, -2.0, 1.0),
    whole(25, 0.0, 3.0),
    whole(3, -128.0, 127.0),
    whole(2, 0.0, 255.0),
    float(17, |x| binary(x, 3, -6), 448.0),
    float(18, |x| binary(x, 3, -7), 240.0),
    float(19, |x| binary(x, 2, -14), 57344.0),
    float(20, |x| binary(x, 2, -15), 57344.0),
    float(23, |x| binary(x, 1, 0), 6.0),
];

#[test]
fn blocks_of_every_type_have_scales_of_their_own() {
    let (rows, columns) = (5usize, 6usize);
    for (kind, axis, block) in
        KINDS.iter().flat_map(|kind| [(kind, 0, 2), (kind, 1, 4), (kind, -1, 3)])
    {
        let mut shape = [rows, columns];
        let along = if axis == 0 { 0 } else { 1 };
        shape[along] = shape[along].div_ceil(block);
        let n = shape[0] * shape[1];
        let scales: Vec<f32> = (0..n).map(|i| 0.25 + (i * 7 % 5) as f32 * 0.375).collect();
        let zeros: Vec<f32> = match kind.zeros {
            true => (0..n).map(|i| kind.low.max(-1.0) as f32 + (i % 3) as f32).collect(),
            false => vec![0.0; n],
        };
        let x: Vec<f32> =
            (0..rows * columns).map(|i| ((i * 37 + 11) % 101) as f32 / 9.0 - 4.0).collect();
        let parameter = |i: usize| {
            let mut at = [i / columns, i % columns];
            at[along] /= block;
            at[0] * shape[1] + at[1]
        };
        let expected: Vec<f32> = (0..rows * columns)
            .map(|i| {
                let (scale, zero) = (scales[parameter(i)], zeros[parameter(i)]);
                let code = (kind.round)(f64::from(x[i] / scale)) + f64::from(zero);
                (code.clamp(kind.low, kind.high) as f32 - zero) * scale
            })
            .collect();
        let attrs = || vec![int("axis", axis), int("block_size", block as i64)];
        let mut quantize = attrs();
        let zero = if kind.zeros { ", z" } else { "" };
        if !kind.zeros {
            quantize.push(int("output_dtype", kind.number));
        }
        let parameters =
            |name: &str, values: &[f32]| value(name, &Tensor::from_slice(&shape, values));
        let model = Onnx::new(25)
            .input("x: f32[5, 6]")
            .constant(parameters("s", &scales))
            .constant(parameters("zf", &zeros))
            .node("z = Cast(zf)", vec![int("to", kind.number)])
            .node(&format!("q = QuantizeLinear(x, s{zero})"), quantize)
            .node(&format!("y = DequantizeLinear(q, s{zero})"), attrs())
            .output("y")
            .model();
        for optimise in [true, false] {
            let options = BuildOptions { optimise, ..BuildOptions::default() };
            let label = format!("type {} in blocks of {block} along {axis}", kind.number);
            let engine = build(&model, &options).unwrap_or_else(|error| panic!("{label}: {error}"));
            let y = run(&engine, &[("x", Tensor::from_slice(&[5, 6], &x))]).remove(0);
            assert_eq!(y.as_slice::<f32>().unwrap(), expected, "{label}, passes: {optimise}");
        }
    }
}
