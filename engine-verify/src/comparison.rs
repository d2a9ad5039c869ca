//! How far two results are apart, in numbers that people ask for.

use engine_format::{DType, Tensor};
use engine_ops::{Mismatch, Tolerance, compare, coordinates, to_f64s};

/// One result held against what it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Type and shape of what was found, and of what was expected.
    pub types: [String; 2],
    /// Whether every element is within the tolerance.
    pub agrees: bool,
    /// Elements that are not; none if shapes differ, so that elements have no partner.
    pub differing: Option<usize>,
    /// Elements that are not a number in what was found, and in what was expected.
    pub nan: [usize; 2],
    /// What numbers say; none for strings and where shapes differ.
    pub numbers: Option<Numbers>,
}

/// How far numbers are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// Largest |found − expected|; infinite if a number stands against none, or against infinity.
    pub max_abs: f64,
    /// Largest |found − expected| / |expected|, where that is not 0.
    pub max_rel: f64,
    /// Cosine of the angle between the two as vectors, of the elements that are finite in both; none if one of them is 0.
    pub cosine: Option<f64>,
    /// The element with the largest difference; none if all are the same.
    pub worst: Option<Worst>,
}

/// An element that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Its coordinates.
    pub index: Vec<usize>,
    /// Its value.
    pub found: f64,
    /// What it should be.
    pub expected: f64,
}

impl Comparison {
    /// Holds `found` against `expected` as [`compare`] does; floats of different widths by their values.
    pub fn new(found: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Self {
        let types = [found, expected].map(|t| format!("{}{:?}", t.dtype(), t.shape()));
        let of_text = |tensor: &Tensor| tensor.dtype() == DType::String;
        if found.shape() != expected.shape() || of_text(found) != of_text(expected) {
            let nan = [found, expected].map(nan_count);
            return Self { types, agrees: false, differing: None, nan, numbers: None };
        }
        let of_floats = found.dtype().is_float() && expected.dtype().is_float();
        let compared = match of_floats && found.dtype() != expected.dtype() {
            true => compare(&widened(found), &widened(expected), tolerance),
            false => compare(found, expected, tolerance),
        };
        let differing = match &compared {
            Ok(_) => Some(0),
            Err(Mismatch::Elements { count, .. } | Mismatch::Strings { count, .. }) => Some(*count),
            Err(Mismatch::Type { .. }) => None,
        };
        let agrees = compared.is_ok();
        if of_text(found) {
            return Self { types, agrees, differing, nan: [0; 2], numbers: None };
        }
        let (a, b) = (to_f64s(found), to_f64s(expected));
        let nan = [&a, &b].map(|values| values.iter().filter(|v| v.is_nan()).count());
        let numbers = Some(Numbers::new(&a, &b, found.shape()));
        Self { types, agrees, differing, nan, numbers }
    }
}

impl Numbers {
    fn new(a: &[f64], b: &[f64], shape: &[usize]) -> Self {
        let (mut max_abs, mut max_rel, mut worst) = (0.0f64, 0.0f64, None);
        let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (at, (&x, &y)) in a.iter().zip(b).enumerate() {
            if x.is_finite() && y.is_finite() {
                dot += x * y;
                aa += x * x;
                bb += y * y;
            }
            if x == y || (x.is_nan() && y.is_nan()) {
                continue;
            }
            let difference = (x - y).abs();
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            if y != 0.0 {
                let relative = difference / y.abs();
                max_rel = max_rel.max(if relative.is_nan() { f64::INFINITY } else { relative });
            }
            if difference > max_abs {
                max_abs = difference;
                worst = Some(at);
            }
        }
        let worst =
            worst.map(|at| Worst { index: coordinates(at, shape), found: a[at], expected: b[at] });
        let norms = (aa * bb).sqrt();
        let cosine = (norms > 0.0).then(|| (dot / norms).clamp(-1.0, 1.0));
        Self { max_abs, max_rel, cosine, worst }
    }
}

/// Elements that are no number.
pub(crate) fn nan_count(tensor: &Tensor) -> usize {
    match tensor.dtype() {
        DType::String => 0,
        _ => to_f64s(tensor).iter().filter(|value| value.is_nan()).count(),
    }
}

/// The same values as f64.
fn widened(tensor: &Tensor) -> Tensor {
    Tensor::from_slice(tensor.shape(), &to_f64s(tensor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_slice(&[2, values.len() / 2], values)
    }

    #[test]
    fn the_worst_element_is_named() {
        let one =
            Comparison::new(&f32s(&[1.0, 2.0, 3.5, 4.25]), &f32s(&[1.0, 2.0, 3.0, 4.0]), TOLERANCE);
        let numbers = one.numbers.unwrap();
        assert_eq!((one.agrees, one.differing, one.nan), (false, Some(2), [0, 0]));
        assert_eq!(numbers.worst, Some(Worst { index: vec![1, 0], found: 3.5, expected: 3.0 }));
        assert_eq!((numbers.max_abs, numbers.max_rel), (0.5, 0.5 / 3.0));
        assert!(numbers.cosine.is_some_and(|cosine| cosine > 0.99 && cosine < 1.0));
    }

    #[test]
    fn what_is_the_same_is_not_apart() {
        for values in [[0.0; 4], [f32::NAN, f32::INFINITY, 1.0, -0.0]] {
            let one = Comparison::new(&f32s(&values), &f32s(&values), Tolerance::EXACT);
            let numbers = one.numbers.unwrap();
            assert!(one.agrees && one.differing == Some(0), "{values:?}");
            assert_eq!((numbers.max_abs, numbers.worst), (0.0, None), "{values:?}");
        }
    }

    #[test]
    fn no_number_is_worse_than_any() {
        let one = Comparison::new(
            &f32s(&[f32::NAN, 1e30, 1.0, 1.0]),
            &f32s(&[1.0, 1.0, 1.0, 1.0]),
            TOLERANCE,
        );
        let numbers = one.numbers.unwrap();
        assert_eq!((one.nan, one.differing), ([1, 0], Some(2)));
        assert_eq!(numbers.worst.map(|worst| worst.index), Some(vec![0, 0]));
        assert_eq!(numbers.max_abs, f64::INFINITY);
    }

    #[test]
    fn other_shapes_have_no_partners_and_other_widths_have() {
        let floats = f32s(&[0.5, 1.0, 1.5, 2.0]);
        let flat = Tensor::from_slice(&[4], &[0.5f32, 1.0, 1.5, f32::NAN]);
        let one = Comparison::new(&flat, &floats, TOLERANCE);
        assert!(!one.agrees && one.differing.is_none() && one.numbers.is_none());
        assert_eq!((one.nan, &*one.types[0]), ([1, 0], "f32[4]"));
        let halves = Tensor::from_slice(&[2, 2], &[0.5, 1.0, 1.5, 2.0].map(f16::from_f32));
        assert!(Comparison::new(&halves, &floats, TOLERANCE).agrees);
        let integers = Tensor::from_slice(&[2, 2], &[0i64, 1, 2, 3]);
        let one = Comparison::new(&integers, &floats, TOLERANCE);
        assert!(!one.agrees && one.differing.is_none() && one.numbers.is_some(), "{one:?}");
    }

    #[test]
    fn strings_are_counted() {
        let words = |last: &str| Tensor::from_strings(&[2], &["a", last]);
        let one = Comparison::new(&words("b"), &words("c"), TOLERANCE);
        assert_eq!((one.agrees, one.differing), (false, Some(1)));
        assert!(Comparison::new(&words("b"), &words("b"), TOLERANCE).agrees);
    }
}
