//! WGSL of the floats of 8 and 4 bits: what `cpu::small_float` is on the host.

use super::program::render;
use crate::cpu::small_float::{Layout, Rounding, ScaleRounding, decode, layout};
use engine_format::DType;

/// WGSL of the function `decoded`, which is [`decode`] for this type. It calls functions of the prelude.
pub(crate) fn decoder(dtype: DType) -> String {
    if dtype == DType::F8E8M0 {
        return include_str!("small_float/decode_scale.wgsl").to_owned();
    }
    let Layout { mantissa, bias, max, infinity, sign, unsigned_zero, .. } = layout(dtype);
    let keys = [
        ("mantissa", mantissa.to_string()),
        ("bias", bias.to_string()),
        ("max", max.to_string()),
        ("has_infinity", infinity.is_some().to_string()),
        ("infinity", infinity.unwrap_or_default().to_string()),
        ("sign", sign.to_string()),
        ("unsigned_zero", unsigned_zero.to_string()),
    ];
    let keys = keys.each_ref().map(|(key, value)| (*key, value.as_str()));
    render(include_str!("small_float/decode.wgsl"), &keys)
}

/// WGSL of the function `encoded`, which is [`encode`] for this type. It calls functions of the prelude.
pub(crate) fn encoder(dtype: DType, rounding: Rounding) -> String {
    if dtype == DType::F8E8M0 {
        let up = match rounding.scale {
            ScaleRounding::Down => "false",
            ScaleRounding::Up => "fraction > select(0u, 0x400000u, exponent == 0u)",
            ScaleRounding::Nearest => {
                "fraction > 0x400000u || (fraction == 0x400000u && exponent > 0u)"
            }
        };
        let keys = [("saturate", if rounding.saturate { "true" } else { "false" }), ("up", up)];
        return render(include_str!("small_float/encode_scale.wgsl"), &keys);
    }
    let Layout { mantissa, bias, max, infinity, nan, sign, unsigned_zero } = layout(dtype);
    let beyond = match (rounding.saturate, infinity) {
        (true, _) => format!("sign | {max}u"),
        (false, Some(infinity)) => format!("sign | {infinity}u"),
        (false, None) if unsigned_zero => format!("{nan}u"),
        (false, None) => format!("sign | {nan}u"),
    };
    let keys = [
        ("mantissa", mantissa.to_string()),
        ("bias", bias.to_string()),
        ("nan", nan.to_string()),
        ("sign", sign.to_string()),
        ("largest", format!("{:?}", decode(dtype, max))),
        ("beyond", beyond),
        ("unsigned_zero", unsigned_zero.to_string()),
    ];
    let keys = keys.each_ref().map(|(key, value)| (*key, value.as_str()));
    render(include_str!("small_float/encode.wgsl"), &keys)
}
