//! How far two results may differ, and the one comparison that every suite holds results to.

use crate::small_float::decode;
use engine_format::{DType, Tensor};
use half::{bf16, f16};
use std::fmt;

/// |a − b| ≤ atol + rtol·|b|, elementwise; what [`compare`] holds results to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Relative part.
    pub rtol: f64,
}

impl Tolerance {
    /// Bit for bit, the sign of a zero too; NaN alone equals every NaN.
    pub const EXACT: Self = Self { atol: 0.0, rtol: 0.0 };
    /// A few roundings of f32: elementwise functions.
    pub const ELEMENTWISE: Self = Self { atol: 1e-6, rtol: 1e-5 };
    /// Sums of many f32 products in different orders.
    pub const SUMS: Self = Self { atol: 1e-5, rtol: 1e-4 };

    /// The tolerance of results of an element type. Two correct roundings of nearly equal numbers may differ by one unit in
    /// the last place, which is more than most tolerances where the type is of 16 bits. Integers, bools and codes are exact.
    fn of(self, dtype: DType) -> Self {
        let unit = match dtype {
            _ if self == Self::EXACT || !dtype.is_float() => return Self::EXACT,
            DType::F16 => 1.0 / 1024.0,
            DType::BF16 => 1.0 / 128.0,
            _ => 0.0,
        };
        Self { rtol: self.rtol + unit, ..self }
    }
}

/// How far apart two tensors that agree are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest relative difference among elements above the absolute tolerance.
    pub max_rel: f64,
}

impl Agreement {
    /// The worse of two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { max_abs: self.max_abs.max(other.max_abs), max_rel: self.max_rel.max(other.max_rel) }
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max |a-b| {:.2e}, max |a-b|/|b| {:.2e}", self.max_abs, self.max_rel)
    }
}

/// Why two tensors do not agree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// Type or shape differ.
    #[error("found {found}, expected {expected}")]
    Type {
        /// The tensor's.
        found: String,
        /// The oracle's.
        expected: String,
    },
    /// Elements differ; the worst one is shown.
    #[error(
        "{count} of {total} elements differ; worst at {index:?}: found {found}, expected {expected} \
         (atol {atol:e}, rtol {rtol:e})"
    )]
    Elements {
        /// Elements out of tolerance.
        count: usize,
        /// Elements compared.
        total: usize,
        /// Coordinates of the worst one.
        index: Vec<usize>,
        /// Its value.
        found: f64,
        /// The oracle's value there.
        expected: f64,
        /// Absolute tolerance.
        atol: f64,
        /// Relative tolerance.
        rtol: f64,
    },
    /// Strings differ; the first one is shown.
    #[error(
        "{count} of {total} elements differ; the first at {index:?}: found {found:?}, expected {expected:?}"
    )]
    Strings {
        /// Elements that differ.
        count: usize,
        /// Elements compared.
        total: usize,
        /// Coordinates of the first one.
        index: Vec<usize>,
        /// What it is.
        found: String,
        /// The oracle's string there.
        expected: String,
    },
}

/// What is said of strings that are not the same.
fn strings(found: &[&str], expected: &[&str], shape: &[usize]) -> Mismatch {
    let differ = |(_, (a, b)): &(usize, (&&str, &&str))| a != b;
    let pairs = || found.iter().zip(expected).enumerate().filter(differ);
    let (at, (a, b)) = pairs().next().expect("strings of other bytes are other strings");
    Mismatch::Strings {
        count: pairs().count(),
        total: found.len(),
        index: coordinates(at, shape),
        found: (*a).to_owned(),
        expected: (*b).to_owned(),
    }
}

/// Holds `found` against `expected`. NaN agrees with NaN and infinity with itself alone; integers, bools, codes of small floats
/// and strings must be equal. 16-bit floats may besides differ by one unit in the last place, unless `tolerance` is
/// [`Tolerance::EXACT`].
///
/// # Errors
/// They do not agree.
pub fn compare(
    found: &Tensor,
    expected: &Tensor,
    tolerance: Tolerance,
) -> Result<Agreement, Mismatch> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        return Err(Mismatch::Type {
            found: format!("{found:?}"),
            expected: format!("{expected:?}"),
        });
    }
    if found.bytes() == expected.bytes() {
        return Ok(Agreement::default());
    }
    if let (Ok(a), Ok(b)) = (found.strings(), expected.strings()) {
        return Err(strings(&a, &b, found.shape()));
    }
    let Tolerance { atol, rtol } = tolerance.of(expected.dtype());
    let exact = atol == 0.0 && rtol == 0.0;
    // A zero is a zero unless bits were asked for.
    let signed = tolerance == Tolerance::EXACT;
    let (a, b) = (to_f64s(found), to_f64s(expected));
    let mut agreement = Agreement::default();
    let mut worst: Option<(usize, f64)> = None;
    let mut count = 0;
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        let same = if exact { same_bits(found, expected, i) } else { x == y };
        if same || (x.is_nan() && y.is_nan()) || (!signed && x == 0.0 && y == 0.0) {
            continue;
        }
        let difference = (x - y).abs();
        let excess = difference - (atol + rtol * y.abs());
        // A difference that is NaN (one side is, or infinities differ) is no agreement.
        if excess <= 0.0 && !exact {
            agreement.max_abs = agreement.max_abs.max(difference);
            if difference > atol {
                agreement.max_rel = agreement.max_rel.max(difference / y.abs());
            }
            continue;
        }
        count += 1;
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if worst.is_none_or(|(_, w)| excess > w) {
            worst = Some((i, excess));
        }
    }
    let Some((at, _)) = worst else { return Ok(agreement) };
    Err(Mismatch::Elements {
        count,
        total: a.len(),
        index: coordinates(at, found.shape()),
        found: a[at],
        expected: b[at],
        atol,
        rtol,
    })
}

/// Every element as `f64`, for differences and reports; 64-bit integers beyond 2^53 lose bits, and strings, which are no numbers,
/// have none.
pub fn to_f64s(tensor: &Tensor) -> Vec<f64> {
    macro_rules! widen {
        ($t:ty, $f:expr) => {
            tensor.as_slice::<$t>().expect("matched on the type").iter().map(|&v| $f(v)).collect()
        };
    }
    let dtype = tensor.dtype();
    match dtype.storage() {
        DType::F32 => widen!(f32, f64::from),
        DType::F64 => widen!(f64, f64::from),
        DType::F16 => widen!(f16, f64::from),
        DType::BF16 => widen!(bf16, f64::from),
        DType::I8 => widen!(i8, f64::from),
        DType::I16 => widen!(i16, f64::from),
        DType::I32 => widen!(i32, f64::from),
        DType::U16 => widen!(u16, f64::from),
        DType::U32 => widen!(u32, f64::from),
        DType::I64 => widen!(i64, |v: i64| v as f64),
        DType::U64 => widen!(u64, |v: u64| v as f64),
        DType::String => Vec::new(),
        _ if matches!(dtype, DType::U8 | DType::Bool | DType::U4 | DType::U2) => {
            widen!(u8, f64::from)
        }
        _ => widen!(u8, |code| f64::from(decode(dtype, code))),
    }
}

/// Whether the elements at `i` are the same bits.
fn same_bits(a: &Tensor, b: &Tensor, i: usize) -> bool {
    let width = a.dtype().width();
    let range = i * width..(i + 1) * width;
    a.bytes()[range.clone()] == b.bytes()[range]
}

/// Where the element `index` of a tensor of this shape is, along each axis.
pub fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for (slot, &size) in out.iter_mut().zip(shape).rev() {
        *slot = index % size;
        index /= size;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::Bytes;

    const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_slice(&[values.len()], values)
    }

    #[test]
    fn the_tolerance_is_relative_to_the_expected_value() {
        assert!(compare(&f32s(&[100.009]), &f32s(&[100.0]), TOLERANCE).is_ok());
        assert!(compare(&f32s(&[100.02]), &f32s(&[100.0]), TOLERANCE).is_err());
        assert!(compare(&f32s(&[0.000_009]), &f32s(&[0.0]), TOLERANCE).is_ok());
    }

    #[test]
    fn nan_and_infinity_agree_only_with_themselves() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert!(compare(&f32s(&odd), &f32s(&odd), TOLERANCE).is_ok());
        for (x, y) in [
            (f32::NAN, 1.0),
            (1.0, f32::NAN),
            (f32::INFINITY, f32::NEG_INFINITY),
            (1.0, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
            (f32::INFINITY, f32::MAX),
        ] {
            assert!(compare(&f32s(&[x]), &f32s(&[y]), TOLERANCE).is_err(), "{x} against {y}");
        }
    }

    #[test]
    fn the_sign_of_a_zero_counts_where_bits_were_asked_for() {
        for dtype in [DType::F32, DType::F16, DType::F8E4M3FN] {
            let [zero, negative] = [[0u8; 4], [0, 0, 0, 0x80]].map(|bytes| {
                let bytes = &bytes[4 - dtype.width()..];
                Tensor::new(dtype, &[1], Bytes::copy_from(bytes)).unwrap()
            });
            assert!(compare(&zero, &negative, TOLERANCE).is_ok(), "{dtype}");
            assert!(compare(&zero, &negative, Tolerance::EXACT).is_err(), "{dtype}");
        }
    }

    #[test]
    fn the_worst_element_is_named_by_its_coordinates() {
        let expected = Tensor::zeros(DType::F32, &[2, 3]);
        let found = Tensor::from_slice(&[2, 3], &[0.0f32, 1.0, 0.0, 0.0, 0.0, 5.0]);
        match compare(&found, &expected, TOLERANCE) {
            Err(Mismatch::Elements { count: 2, index, .. }) => assert_eq!(index, [1, 2]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn types_shapes_and_integers_are_exact() {
        assert!(compare(&f32s(&[1.0]), &Tensor::from_slice(&[1, 1], &[1f32]), TOLERANCE).is_err());
        let words = |v: &[&str]| Tensor::from_strings(&[2, 1], v);
        assert!(compare(&words(&["a", "b"]), &words(&["a", "b"]), TOLERANCE).is_ok());
        let error = compare(&words(&["a", "b"]), &words(&["a", "ß"]), TOLERANCE).unwrap_err();
        let expected = "1 of 2 elements differ; the first at [1, 0]: found \"b\", expected \"ß\"";
        assert_eq!(error.to_string(), expected);
        let (a, b) =
            (Tensor::from_slice(&[1], &[100_000i64]), Tensor::from_slice(&[1], &[100_001i64]));
        assert!(compare(&a, &b, Tolerance { atol: 10.0, rtol: 1.0 }).is_err());
        let (a, b) = (
            Tensor::from_slice(&[1], &[1i64 << 60]),
            Tensor::from_slice(&[1], &[(1i64 << 60) + 1]),
        );
        assert!(compare(&a, &b, TOLERANCE).is_err(), "equal as f64 and yet different");
    }
    #[test]
    fn exact_is_bit_for_bit_in_every_type() {
        let halves = |v: f32| Tensor::from_slice(&[1], &[f16::from_f32(v)]);
        let (one, next) = (halves(1.0), halves(1.0 + 1.0 / 1024.0));
        assert!(compare(&next, &one, Tolerance::EXACT).is_err());
        assert!(compare(&next, &one, Tolerance { atol: 0.0, rtol: 1e-9 }).is_ok(), "one unit");
        let after = halves(1.0 + 2.0 / 1024.0);
        assert!(compare(&after, &one, Tolerance { atol: 0.0, rtol: 1e-9 }).is_err(), "two units");
        assert!(compare(&f32s(&[-0.0]), &f32s(&[0.0]), Tolerance::EXACT).is_err());
        assert!(compare(&f32s(&[-0.0]), &f32s(&[0.0]), TOLERANCE).is_ok());
        let other_nan = f32::from_bits(f32::NAN.to_bits() ^ 1 | 1 << 31);
        assert!(compare(&f32s(&[other_nan]), &f32s(&[f32::NAN]), Tolerance::EXACT).is_ok());
        let codes = |code: u8| Tensor::new(DType::F8E4M3FN, &[1], vec![code].into());
        let (one, next) = (codes(0x38).expect("a code"), codes(0x39).expect("a code"));
        assert!(compare(&one, &next, Tolerance { atol: 1.0, rtol: 1.0 }).is_err());
    }
}
