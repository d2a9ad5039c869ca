//! Transcendental functions of `f32` that compilers can vectorise, with the same bits on every machine.
//!
//! Each is additions and multiplications in a fixed order (never fused) and selections instead of branches. The
//! coefficients were fitted for this file: weighted least squares at Chebyshev nodes, reweighted towards the least largest
//! error (Lawson's method), then rounded to `f32`. The bounds in ulp (units in the last place of the result) are held by
//! tests against `f64`. Functions that are not worth this come from the `libm` crate.

/// Horner's scheme, the constant coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum * x + coefficients[i];
    }
    sum
}

/// `(e^r − 1 − r) / r²` for `|r| ≤ ln 2 / 2`.
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_2, 0.041_668_408, 0.008_368_914, 0.001_381_418_7];

/// `ln 2` in two parts.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `1.5 · 2^23`: adding it leaves the nearest whole number in the low bits.
const SHIFT: f32 = 12_582_912.0;

/// `2^n` for `n` from −126 to 127; infinite for 128.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `e^x` within 2 ulp, subnormal results included.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2` (Cody and Waite's reduction: `ln 2` in two parts, the first with trailing
/// zeros so that its product with `n` is exact), then `1 + r + r² P(r)`, scaled by `2^n` in two steps, because `n` may
/// be outside the exponents of `f32` where the result is not.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these the result is infinite or 0. Comparisons are false for NaN, which so stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * LN_2[0];
    let r = r - n * LN_2[1];
    let p = polynomial(r, EXP);
    let y = p * (r * r) + r + 1.0;
    let whole = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let half = whole >> 1;
    y * power(half) * power(whole.wrapping_sub(half))
}

/// `1 / (1 + e^-x)` within 3 ulp where the result is normal, 0 below.
///
/// As [`exp`] of `−x`, with the signs in the constants. Powers of two beyond the exponents of `f32` are infinite here or too small to
/// count beside 1, so that one step scales.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let x = if x > 87.0 { 87.0 } else { x };
    let x = if x < -89.0 { -89.0 } else { x };
    let shifted = x * -std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x + n * LN_2[0];
    let r = r + n * LN_2[1];
    let p = polynomial(r, [EXP[0], -EXP[1], EXP[2], -EXP[3], EXP[4]]);
    let y = p * (r * r) - r + 1.0;
    1.0 / (1.0 + y * power((shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)))
}

/// `e^x − 1` within 4 ulp: `x + x² P(x)` with the polynomial of [`exp`] near zero, the difference beyond.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let near = polynomial(x, EXP) * (x * x) + x;
    let far = exp(x) - 1.0;
    if x.abs() < 0.34 { near } else { far }
}

/// `ln(1 + e^x)` without overflow, within 4 ulp: the larger of `x` and 0 plus `ln(1 + u)`, `u = e^-|x|`, where what
/// rounding takes from `1 + u` is put back.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let u = exp(-x.abs());
    let sum = 1.0 + u;
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + (ln(sum) + (u - (sum - 1.0)) / sum)
}

/// The hyperbolic tangent within 3 ulp: `x P(x²)` near zero, `1 − 2 / (e^2|x| + 1)` with the sign of `x` beyond.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let s = x * x;
    let p = polynomial(
        s,
        [1.0, -0.333_332_6, 0.133_311_29, -0.053_721_134, 0.020_591_16, -0.005_660_149],
    );
    let magnitude = x.abs();
    let far = (1.0 - 2.0 / (exp(magnitude + magnitude) + 1.0)).copysign(x);
    if magnitude < 0.625 { x * p } else { far }
}

/// The Gauss error function within 3 ulp: `x P(x²)` up to 1, `1 − e^Q(|x|)` with the sign of `x` beyond, where `Q` fits
/// `ln erfc`; from 4 on the result is 1.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let near = polynomial(
        x * x,
        [
            std::f32::consts::FRAC_2_SQRT_PI,
            -0.376_126_26,
            0.112_835_854,
            -0.026_853_817,
            0.005_188_334_3,
            -0.000_801_024_7,
            7.854_025e-5,
        ],
    );
    let magnitude = x.abs();
    let held = if magnitude > 4.0 { 4.0 } else { magnitude };
    let q = polynomial(
        held,
        [
            -0.000_353_708_92,
            -1.127_04,
            -0.638_225_6,
            -0.103_037_43,
            0.021_805_352,
            -0.002_939_615_6,
            0.000_185_574_9,
        ],
    );
    let far = (1.0 - exp(q)).copysign(x);
    if magnitude < 1.0 { x * near } else { far }
}

/// The natural logarithm within 2 ulp, subnormal operands included.
///
/// `x = 2^e (1 + f)` with `1 + f` between `√½` and `√2`, then `e ln 2 + f − f²/2 + f³ P(f)` with `ln 2` in two parts.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let root = 0x3f35_04f3u32;
    let above = scaled.to_bits().wrapping_sub(root);
    let exponent = ((above as i32) >> 23) as f32 - if tiny { 23.0 } else { 0.0 };
    let f = f32::from_bits((above & 0x007f_ffff).wrapping_add(root)) - 1.0;
    let p = polynomial(
        f,
        [
            0.333_333_3,
            -0.250_008_23,
            0.200_012_27,
            -0.166_233_57,
            0.142_017_62,
            -0.131_601_94,
            0.127_615_5,
            -0.076_344_3,
        ],
    );
    let s = f * f;
    let y = s * f * p + exponent * LN_2[1] - 0.5 * s + f + exponent * LN_2[0];
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { x } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in ulp of the result over numbers of all sizes in `from..to`, and where.
    fn worst(from: f32, to: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> (f64, f32) {
        let steps = 400_000;
        let all = (0..=steps).map(|i| from + (to - from) * (i as f32 / steps as f32));
        let small = (0..2000u32).map(|i| f32::from_bits(i * 530_000));
        let small = small.flat_map(|v| [v, -v]).filter(|v| (from..=to).contains(v));
        all.chain(small).fold((0.0, 0.0), |worst, x| {
            let (found, exact) = (f(x), exact(f64::from(x)));
            let nearest = exact as f32;
            if found == nearest || nearest.is_infinite() {
                return worst;
            }
            let exponent = nearest.abs().max(f32::MIN_POSITIVE).log2().floor() as i32;
            let error = (f64::from(found) - exact).abs() / 2f64.powi(exponent - 23);
            if error > worst.0 || error.is_nan() { (error, x) } else { worst }
        })
    }

    #[test]
    fn errors_stay_within_their_bounds() {
        let checks = [
            ("exp", 2.0, worst(-103.0, 88.7, exp, libm::exp)),
            ("sigmoid", 3.0, worst(-87.0, 40.0, sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)))),
            ("tanh", 3.0, worst(-20.0, 20.0, tanh, libm::tanh)),
            ("erf", 3.0, worst(-5.0, 5.0, erf, libm::erf)),
            ("exp_m1", 4.0, worst(-20.0, 80.0, exp_m1, libm::expm1)),
            ("softplus", 4.0, worst(-80.0, 80.0, softplus, |x| libm::log1p(libm::exp(x)))),
            ("ln", 2.0, worst(1e-40, 20.0, ln, libm::log)),
            ("ln of large numbers", 2.0, worst(20.0, 3e38, ln, libm::log)),
        ];
        for (name, bound, (error, at)) in checks {
            assert!(error <= bound, "{name}({at}) is {error} ulp off, at most {bound}");
        }
    }

    #[test]
    fn what_is_not_finite_survives() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for f in [exp, exp_m1, sigmoid, softplus, tanh, erf, ln] {
            assert!(f(nan).is_nan());
        }
        assert_eq!([exp(inf), exp(-inf), exp(200.0), exp(-200.0)], [inf, 0.0, inf, 0.0]);
        assert_eq!([sigmoid(inf), sigmoid(-inf)], [1.0, 0.0]);
        assert_eq!([tanh(inf), tanh(-inf), erf(inf), erf(-inf)], [1.0, -1.0, 1.0, -1.0]);
        assert_eq!([ln(inf), ln(0.0), ln(1.0)], [inf, -inf, 0.0]);
        assert!(ln(-1.0).is_nan() && ln(-inf).is_nan());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    }
}
