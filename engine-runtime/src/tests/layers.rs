//! Single operators against the same thing written out.

use super::toy::{close, floats, poisoned, seeded};
use crate::layer::{Conv, ConvOptions, Layer, LayerError, LayerNorm, Linear};
use crate::{LoadError, RunErrorKind};
use engine_format::{Attr, Attrs, Tensor};
use engine_ops::case::ramp;

fn attrs(name: &str, value: Attr) -> Attrs {
    Attrs::from([(name.to_owned(), value)])
}

/// `x · Wᵀ + b`, in the obvious order.
fn product(x: &Tensor, w: &Tensor, b: &[f32]) -> Vec<f32> {
    let (x_data, w_data) = (floats(x), floats(w));
    let width = w.shape()[1];
    x_data
        .chunks(width)
        .flat_map(|row| {
            w_data
                .chunks(width)
                .zip(b)
                .map(move |(w, b)| b + row.iter().zip(w).map(|(x, w)| x * w).sum::<f32>())
        })
        .collect()
}

#[test]
fn a_linear_layer_takes_new_weights() {
    let (w, b) = (seeded("w", 0, &[5, 4]), seeded("b", 0, &[5]));
    let mut layer = Linear::new(w.clone(), Some(b.clone()), &poisoned()).unwrap();
    for shape in [&[3, 4][..], &[2, 3, 4], &[4], &[0, 4]] {
        let x = ramp(shape);
        let y = layer.run(&x).unwrap();
        assert_eq!(y.shape()[..shape.len() - 1], shape[..shape.len() - 1]);
        assert_eq!(y.shape().last(), Some(&5));
        close(&floats(&y), &product(&x, &w, &floats(&b)));
    }
    let other = seeded("w", 1, &[5, 4]);
    layer.set_weight(other.clone()).unwrap();
    let x = ramp(&[3, 4]);
    close(&floats(&layer.run(&x).unwrap()), &product(&x, &other, &floats(&b)));
    let wider = seeded("w", 1, &[5, 7]);
    layer.set_weight(wider.clone()).unwrap();
    let x = ramp(&[2, 7]);
    close(&floats(&layer.run(&x).unwrap()), &product(&x, &wider, &floats(&b)));
}

/// A 1-D convolution, in the obvious order: `x: [1, c, n]`, `w: [o, c, 3]`, stride 2, one zero on each side.
fn convolved(x: &Tensor, w: &Tensor, b: &[f32]) -> Vec<f32> {
    let (c, n) = (x.shape()[1], x.shape()[2]);
    let (x, w) = (floats(x), floats(w));
    let mut y = Vec::new();
    for (o, b) in b.iter().enumerate() {
        for at in 0..n.div_ceil(2) {
            let taps = (0..c).flat_map(|c| (0..3).map(move |t| (c, t)));
            let term = |(ch, t): (usize, usize)| {
                let from = (2 * at + t).checked_sub(1).filter(|&i| i < n);
                from.map_or(0.0, |i| x[ch * n + i] * w[(o * c + ch) * 3 + t])
            };
            y.push(b + taps.map(term).sum::<f32>());
        }
    }
    y
}

#[test]
fn a_convolution_takes_new_weights() {
    let options = ConvOptions { strides: vec![2], pads: vec![1, 1], ..ConvOptions::default() };
    let (w, b) = (seeded("w", 0, &[4, 2, 3]), seeded("b", 0, &[4]));
    let mut layer = Conv::new(w.clone(), Some(b.clone()), &options, &poisoned()).unwrap();
    let x = ramp(&[1, 2, 9]);
    let y = layer.run(&x).unwrap();
    assert_eq!(y.shape(), [1, 4, 5]);
    close(&floats(&y), &convolved(&x, &w, &floats(&b)));
    let (w, b) = (seeded("w", 1, &[4, 2, 3]), seeded("b", 1, &[4]));
    layer.set_weight(w.clone()).unwrap();
    layer.set_bias(b.clone()).unwrap();
    close(&floats(&layer.run(&x).unwrap()), &convolved(&x, &w, &floats(&b)));
}

#[test]
fn a_normalisation_takes_new_weights() {
    let mut layer = LayerNorm::new(seeded("s", 0, &[6]), None, -1, 1e-5, &poisoned()).unwrap();
    let (scale, bias) = (seeded("s", 1, &[6]), seeded("b", 1, &[6]));
    layer.set_scale(scale.clone()).unwrap();
    layer.set_bias(bias.clone()).unwrap();
    let x = ramp(&[2, 3, 6]);
    let y = layer.run(&x).unwrap();
    assert_eq!(y.shape(), x.shape());
    let expected: Vec<f32> = floats(&x)
        .chunks(6)
        .flat_map(|row| {
            let mean = row.iter().sum::<f32>() / 6.0;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 6.0;
            let row = row.iter().map(move |x| (x - mean) / (variance + 1e-5).sqrt());
            let affine = floats(&scale).into_iter().zip(floats(&bias));
            row.zip(affine).map(|(x, (s, b))| x * s + b).collect::<Vec<_>>()
        })
        .collect();
    close(&floats(&y), &expected);
}

#[test]
fn set_operands_may_be_weights_or_part_of_the_program() {
    let mut reshape = Layer::new("Reshape", Attrs::new(), &poisoned()).unwrap();
    let x = ramp(&[2, 6]);
    for shape in [[3i64, 4], [4, 3]] {
        reshape.set("shape", Tensor::from_slice(&[2], &shape)).unwrap();
        let y = reshape.run(std::slice::from_ref(&x)).unwrap();
        assert_eq!(y[0], x.reshaped(&shape.map(|d| d as usize)).unwrap());
    }
    // The same operand given per run.
    let reshape = Layer::new("Reshape", Attrs::new(), &poisoned()).unwrap();
    let y = reshape.run(&[x.clone(), Tensor::from_slice(&[1], &[12i64])]).unwrap();
    assert_eq!(y[0], x.reshaped(&[12]).unwrap());
}

#[test]
fn operands_that_repeat_are_numbered() {
    let mut concat = Layer::new("Concat", attrs("axis", Attr::Int(0)), &poisoned()).unwrap();
    let one = |value: f32| Tensor::from_slice(&[1], &[value]);
    concat.set("inputs.1", one(5.0)).unwrap();
    let y = concat.run(&[one(1.0), one(2.0)]).unwrap();
    assert_eq!(floats(&y[0]), [1.0, 5.0, 2.0]);
    concat.set("inputs.1", one(6.0)).unwrap();
    let y = concat.run(&[one(1.0)]).unwrap();
    assert_eq!(floats(&y[0]), [1.0, 6.0]);
}

#[test]
fn several_results_are_asked_for() {
    let split = Layer::new("Split", attrs("axis", Attr::Int(1)), &poisoned()).unwrap();
    let y = split.with_outputs(3).run(&[ramp(&[2, 6])]).unwrap();
    let x = floats(&ramp(&[2, 6]));
    assert_eq!(floats(&y[2]), [x[4], x[5], x[10], x[11]]);
}

#[test]
fn misuse_is_told() {
    let new = |op: &str, attrs| Layer::new(op, attrs, &poisoned());
    assert!(matches!(new("Nonsense", Attrs::new()), Err(LayerError::UnknownOperator(_))));
    assert!(matches!(new("If", Attrs::new()), Err(LayerError::UnknownOperator(_))));
    let unknown = new("Relu", attrs("slope", Attr::Int(1)));
    assert!(matches!(unknown, Err(LayerError::Attributes { op: "Relu", .. })));
    let mut relu = new("Relu", Attrs::new()).unwrap();
    let set = relu.set("Y", ramp(&[1])).unwrap_err();
    assert_eq!(set.to_string(), "Relu has no operand \"Y\", it has [\"X\"]");
    let many = relu.run(&[ramp(&[1]), ramp(&[1])]).unwrap_err();
    assert_eq!(many.to_string(), "Relu was given 2 inputs, but only 1 operands are not set");
    let none = relu.run(&[]).unwrap_err();
    assert!(matches!(none, LayerError::Load(LoadError::Unsupported(_))), "{none}");
    let exp = new("Exp", Attrs::new()).unwrap();
    let ints = exp.run(&[Tensor::from_slice(&[1], &[1i64])]).unwrap_err();
    let LayerError::Run(error) = ints else { panic!("{ints}") };
    assert_eq!(error.kind(), RunErrorKind::Node);
}
