//! The floats of 8 and 4 bits: codes ↔ numbers.
//!
//! Layouts and special values follow the Open Compute Project's OFP8 and MX formats, and Graphcore's and AMD's formats with
//! one NaN and no negative zero (`fnuz`).

use engine_format::DType;

/// How a type spends its bits.
pub(crate) struct Layout {
    pub(crate) mantissa: u32,
    pub(crate) bias: i32,
    /// The greatest finite code, without sign.
    pub(crate) max: u8,
    /// The code that is infinity, without sign.
    pub(crate) infinity: Option<u8>,
    /// The code that NaN becomes; the sign is kept unless the type has only one NaN.
    pub(crate) nan: u8,
    pub(crate) sign: u8,
    /// Whether there is one NaN, where a negative zero would be.
    pub(crate) unsigned_zero: bool,
}

/// How this type does.
pub(crate) const fn layout(dtype: DType) -> Layout {
    let base = Layout {
        mantissa: 3,
        bias: 7,
        max: 0x7e,
        infinity: None,
        nan: 0x7f,
        sign: 0x80,
        unsigned_zero: false,
    };
    match dtype {
        DType::F8E4M3FN => base,
        DType::F8E4M3FNUZ => Layout { bias: 8, max: 0x7f, nan: 0x80, unsigned_zero: true, ..base },
        DType::F8E5M2 => {
            Layout { mantissa: 2, bias: 15, max: 0x7b, infinity: Some(0x7c), nan: 0x7e, ..base }
        }
        DType::F8E5M2FNUZ => {
            Layout { mantissa: 2, bias: 16, max: 0x7f, nan: 0x80, unsigned_zero: true, ..base }
        }
        // Without a NaN; what is none becomes negative zero, as in the implementation that the standard is tested with.
        DType::F4E2M1 => Layout { mantissa: 1, bias: 1, max: 0x7, nan: 0x8, sign: 0x8, ..base },
        _ => panic!("not a float of 8 or 4 bits"),
    }
}

/// What a float that lies between two codes, or beyond all, becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounding {
    /// Whether what is too large becomes the greatest number, instead of infinity or NaN.
    pub saturate: bool,
    /// Which way powers of two are rounded; the other types are rounded to nearest even.
    pub scale: ScaleRounding,
}

/// Which way a number becomes a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleRounding {
    Up,
    Down,
    Nearest,
}

impl Rounding {
    pub const SATURATING: Self = Self { saturate: true, scale: ScaleRounding::Up };
}

/// 2^`exponent`, for exponents of normal numbers.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The number that a code stands for.
pub(crate) fn decode(dtype: DType, code: u8) -> f32 {
    if dtype == DType::F8E8M0 {
        return if code == 0xff { f32::NAN } else { power(i32::from(code) - 127) as f32 };
    }
    let Layout { mantissa, bias, max, infinity, sign, unsigned_zero, .. } = layout(dtype);
    let negative = code & sign != 0;
    let magnitude = code & (sign - 1);
    let value = match magnitude {
        0 if negative && unsigned_zero => f64::NAN,
        m if Some(m) == infinity => f64::INFINITY,
        m if m > max => f64::NAN,
        m => {
            let (exponent, fraction) = (i32::from(m >> mantissa), m & ((1 << mantissa) - 1));
            let (leading, exponent) =
                if exponent == 0 { (0, 1) } else { (1 << mantissa, exponent) };
            f64::from(leading + fraction) * power(exponent - bias - mantissa as i32)
        }
    };
    (if negative { -value } else { value }) as f32
}

/// The code that is nearest to a number.
pub(crate) fn encode(dtype: DType, value: f64, rounding: Rounding) -> u8 {
    if dtype == DType::F8E8M0 {
        return encode_scale(value as f32, rounding);
    }
    let Layout { mantissa, bias, max, infinity, nan, sign, unsigned_zero } = layout(dtype);
    if value.is_nan() {
        return nan;
    }
    let sign = if value.is_sign_negative() { sign } else { 0 };
    let size = value.abs();
    let exponent = |v: f64| (((v.to_bits() >> 52) as i32) - 1023).max(1 - bias);
    let step = power(exponent(size) - mantissa as i32);
    let rounded = (size / step).round_ties_even() * step;
    if rounded > f64::from(decode(dtype, max)) {
        return match (rounding.saturate, infinity) {
            (true, _) => sign | max,
            (false, Some(infinity)) => sign | infinity,
            (false, None) if unsigned_zero => nan,
            (false, None) => sign | nan,
        };
    }
    if rounded == 0.0 {
        return if unsigned_zero { 0 } else { sign };
    }
    let exponent = exponent(rounded);
    // Counted in steps of its exponent; a subnormal number has fewer than a leading one, and exponent code 0.
    let steps = (rounded / power(exponent - mantissa as i32)) as u8;
    sign | (steps + (((exponent + bias - 1) as u8) << mantissa))
}

/// The power of two, by its exponent, for a number of any sign.
fn encode_scale(value: f32, rounding: Rounding) -> u8 {
    let bits = value.to_bits() & 0x7fff_ffff;
    let (exponent, fraction) = ((bits >> 23) as u8, bits & 0x7f_ffff);
    if exponent == 0xff {
        return 0xff;
    }
    let half = 0x40_0000;
    let up = match rounding.scale {
        ScaleRounding::Down => false,
        // Without an exponent of its own a number up to 2^-127 has the code 0, which stands for that power.
        ScaleRounding::Up => fraction > if exponent == 0 { half } else { 0 },
        // Ties go up, but for those between 0 and the smallest normal number.
        ScaleRounding::Nearest => fraction > half || (fraction == half && exponent > 0),
    };
    match exponent {
        0xfe if rounding.saturate => 0xfe,
        exponent => exponent + u8::from(up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [DType; 6] = [
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
    ];

    #[test]
    fn every_code_survives() {
        for dtype in FLOATS {
            for code in 0..=255u8 {
                let value = decode(dtype, code);
                if !dtype.is_code(code) || value.is_nan() {
                    continue;
                }
                let keeps = Rounding { saturate: false, ..Rounding::SATURATING };
                assert_eq!(encode(dtype, value.into(), keeps), code, "{dtype} {code:#x} {value}");
            }
        }
    }

    #[test]
    fn the_ends_of_each_type() {
        let ends = [448.0, 240.0, 57_344.0, 57_344.0, 2f32.powi(127), 6.0];
        for (dtype, end) in FLOATS.into_iter().zip(ends) {
            let code = encode(dtype, 1e300_f64.min(3e38), Rounding::SATURATING);
            assert_eq!(decode(dtype, code), end, "{dtype}");
        }
        let open = Rounding { saturate: false, ..Rounding::SATURATING };
        assert_eq!(encode(DType::F8E5M2, -1e6, open), 0xfc);
        assert_eq!(encode(DType::F8E4M3FN, -1e6, open), 0xff);
        assert_eq!(encode(DType::F8E4M3FNUZ, -1e6, open), 0x80);
    }

    #[test]
    fn ties_go_to_even_and_negative_zero_is_kept_where_there_is_one() {
        let nearest = |dtype, v| decode(dtype, encode(dtype, v, Rounding::SATURATING));
        assert_eq!(nearest(DType::F8E4M3FN, 0.468_75 + 1.0 / 64.0), 0.5);
        assert_eq!(nearest(DType::F4E2M1, 2.5), 2.0);
        assert_eq!(nearest(DType::F4E2M1, 0.25), 0.0);
        assert_eq!(encode(DType::F8E4M3FN, -1e-9, Rounding::SATURATING), 0x80);
        assert_eq!(encode(DType::F8E4M3FNUZ, -1e-9, Rounding::SATURATING), 0);
    }

    #[test]
    fn powers_of_two_are_rounded_as_asked() {
        let round = |v, scale| {
            decode(DType::F8E8M0, encode(DType::F8E8M0, v, Rounding { saturate: true, scale }))
        };
        assert_eq!(round(5.0, ScaleRounding::Up), 8.0);
        assert_eq!(round(5.0, ScaleRounding::Down), 4.0);
        assert_eq!(round(5.0, ScaleRounding::Nearest), 4.0);
        assert_eq!(round(6.0, ScaleRounding::Nearest), 8.0);
    }
}
