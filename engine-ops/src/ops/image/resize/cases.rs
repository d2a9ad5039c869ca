//! Cases of a resize. Expected values were computed with ONNX Runtime 1, but for aligned corners of a fractional length, which
//! the reference implementation of the standard sees otherwise.

use crate::case::{Case, ints, ramp};
use engine_format::{Attr, Tensor};

fn str(value: &str) -> Attr {
    Attr::Str(value.to_owned())
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

fn halves(values: &[f32]) -> Tensor {
    let values: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
    Tensor::from_slice(&[values.len()], &values)
}

/// 1, 2, 3 … in this shape.
fn counted(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (1..=n).map(|v| v as f32).collect();
    Tensor::from_slice(shape, &values)
}

fn scaled(name: &'static str, mode: &str, x: Tensor, scales: &[f32]) -> Case {
    Case::new(name, vec![x]).input(None).input(Some(vector(scales))).attr("mode", str(mode))
}

fn sized(name: &'static str, mode: &str, x: Tensor, sizes: &[i64]) -> Case {
    let case = Case::new(name, vec![x]).input(None).input(None);
    case.input(Some(ints(sizes))).attr("mode", str(mode))
}

/// 1, 2, 3, 4 at 1.75 times the length.
fn line(name: &'static str, mode: &str, transformation: &str, expected: &[f32]) -> Case {
    scaled(name, mode, counted(&[4]), &[1.75])
        .attr("coordinate_transformation_mode", str(transformation))
        .expect(vec![vector(expected)])
}

/// 1, 2, 3, 4, 5 at 1.5 times the length, nearest.
fn rounded(name: &'static str, rounding: &str, transformation: &str, expected: &[f32]) -> Case {
    scaled(name, "nearest", counted(&[5]), &[1.5])
        .attr("nearest_mode", str(rounding))
        .attr("coordinate_transformation_mode", str(transformation))
        .expect(vec![vector(expected)])
}

pub(super) fn cases() -> Vec<Case> {
    [nearest(), mixtures(), shapes()].concat()
}

fn nearest() -> Vec<Case> {
    let doubled =
        &[1f32, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 3.0, 3.0, 4.0, 4.0];
    vec![
        rounded(
            "floor preferred",
            "round_prefer_floor",
            "half_pixel",
            &[1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0],
        ),
        rounded(
            "ceiling preferred",
            "round_prefer_ceil",
            "half_pixel",
            &[1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0],
        ),
        rounded("floor", "floor", "half_pixel", &[1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0]),
        rounded("ceiling", "ceil", "asymmetric", &[1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 5.0]),
        rounded(
            "floor of aligned corners",
            "floor",
            "align_corners",
            &[1.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0],
        ),
        scaled("doubled picture", "nearest", counted(&[1, 1, 2, 2]), &[1.0, 1.0, 2.0, 2.0])
            .attr("nearest_mode", str("floor"))
            .attr("coordinate_transformation_mode", str("asymmetric"))
            .expect(vec![Tensor::from_slice(&[1, 1, 4, 4], doubled)]),
        // 1/0.6 = 1.67 and 2/0.6 = 3.33 are rounded up, 0.33 … 3.67 along the other axis down.
        scaled("without a choice, shrunk and stretched", "nearest", counted(&[5, 2]), &[0.6, 1.5])
            .attr("coordinate_transformation_mode", str("asymmetric"))
            .attr("nearest_mode", str("simple"))
            .expect(vec![Tensor::from_slice(
                &[3, 3],
                &[1.0f32, 1.0, 2.0, 5.0, 5.0, 6.0, 9.0, 9.0, 10.0],
            )]),
        scaled("bytes", "nearest", Tensor::from_slice(&[2], &[7u8, 9]), &[2.0])
            .expect(vec![Tensor::from_slice(&[4], &[7u8, 7, 9, 9])]),
        scaled("i64", "nearest", ints(&[7, -9]), &[1.5]).expect(vec![ints(&[7, 7, -9])]),
        scaled("channels", "nearest", ramp(&[2, 3, 10, 11]), &[1.0, 1.0, 0.5, 3.0]),
    ]
}

fn mixtures() -> Vec<Case> {
    let picture = || counted(&[4, 4]);
    let half_pixel = &[1.0, 1.357_142_9, 1.928_571_5, 2.5, 3.071_428_5, 3.642_857, 4.0];
    let shrunk = |name, mode, expected: &[f32]| {
        scaled(name, mode, picture(), &[0.6, 0.6])
            .attr("antialias", Attr::Int(1))
            .expect(vec![Tensor::from_slice(&[2, 2], expected)])
    };
    vec![
        line("linear", "linear", "half_pixel", half_pixel),
        line("linear, symmetric", "linear", "half_pixel_symmetric", half_pixel),
        line("linear, as PyTorch", "linear", "pytorch_half_pixel", half_pixel),
        line(
            "linear, corners aligned",
            "linear",
            "align_corners",
            &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
        ),
        line(
            "linear, asymmetric",
            "linear",
            "asymmetric",
            &[1.0, 1.571_428_5, 2.142_857, 2.714_285_6, 3.285_714_4, 3.857_143, 4.0],
        ),
        line(
            "cubic",
            "cubic",
            "half_pixel",
            &[0.900_783_8, 1.279_245_6, 1.896_591_9, 2.5, 3.103_407_4, 3.720_755, 4.099_214_6],
        ),
        line(
            "cubic, corners aligned",
            "cubic",
            "align_corners",
            &[1.0, 1.406_25, 2.0, 2.5, 3.0, 3.593_75, 4.0],
        ),
        scaled("cubic without what lies outside", "cubic", picture(), &[0.8, 0.8])
            .attr("exclude_outside", Attr::Int(1))
            .attr("cubic_coeff_a", Attr::Float(-0.5))
            .expect(vec![Tensor::from_slice(
                &[3, 3],
                &[
                    1.368_126_7,
                    2.669_501_3,
                    4.013_336_7,
                    6.573_626,
                    7.875,
                    9.218_836,
                    11.948_967,
                    13.250_341,
                    14.594_176f32,
                ],
            )]),
        shrunk("linear, smoothed", "linear", &[2.875, 4.5, 9.375, 11.0]),
        shrunk("cubic, smoothed", "cubic", &[2.518_071_2, 4.285_886, 9.589_33, 11.357_143]),
        shrunk("linear, smoothed inside", "linear", &[3.142_857, 4.714_286, 9.428_572, 11.0])
            .attr("exclude_outside", Attr::Int(1)),
        scaled("halves", "linear", halves(&[1.0, 2.0]), &[2.0])
            .expect(vec![halves(&[1.0, 1.25, 1.75, 2.0])]),
        scaled("linear channels", "linear", ramp(&[2, 3, 10, 11]), &[1.0, 1.0, 0.5, 3.0]),
        scaled("a volume", "linear", ramp(&[1, 2, 3, 4, 5]), &[1.0, 1.0, 2.0, 1.5, 0.5]),
        scaled("nothing to do", "linear", ramp(&[3, 4]), &[1.0, 1.0]).expect(vec![ramp(&[3, 4])]),
        scaled("nothing at all", "linear", ramp(&[0, 4]), &[1.0, 2.0]).expect(vec![ramp(&[0, 8])]),
    ]
}

fn shapes() -> Vec<Case> {
    let two_rows = || counted(&[2, 4]);
    let kept = |name, policy, sizes: &[i64], shape: &[usize], expected: &[f32]| {
        sized(name, "nearest", two_rows(), sizes)
            .attr("keep_aspect_ratio_policy", str(policy))
            .attr("axes", Attr::Ints(vec![-2, -1]))
            .expect(vec![Tensor::from_slice(shape, expected)])
    };
    let region = vector(&[0.4, 0.6, 0.6, 1.7]);
    vec![
        sized("sizes of some axes", "linear", ramp(&[2, 3, 4]), &[5, 2])
            .attr("axes", Attr::Ints(vec![2, 0])),
        kept(
            "not larger",
            "not_larger",
            &[3, 4],
            &[2, 4],
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        ),
        kept("not smaller", "not_smaller", &[1, 3], &[2, 3], &[1.0, 2.0, 4.0, 5.0, 6.0, 8.0]),
        Case::new("a region that reaches outside", vec![counted(&[4, 4]), region])
            .input(None)
            .input(Some(ints(&[3, 3])))
            .attr("mode", str("linear"))
            .attr("coordinate_transformation_mode", str("tf_crop_and_resize"))
            .attr("extrapolation_value", Attr::Float(10.0))
            .expect(vec![Tensor::from_slice(
                &[3, 3],
                &[7.6, 10.0, 10.0, 8.8, 10.0, 10.0, 10.0, 10.0, 10.0f32],
            )]),
        Case::new(
            "empty operands count as omitted",
            vec![counted(&[2]), vector(&[]), vector(&[2.0])],
        )
        .expect(vec![vector(&[1.0, 1.0, 2.0, 2.0])]),
    ]
}
