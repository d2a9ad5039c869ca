// WGSL may assume that there is no NaN and no infinity, so both are recognised by their bits.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_inf(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
// A variable keeps these from being constant expressions, which may be neither NaN nor infinite.
fn nan() -> f32 { var bits = 0x7fc00000u; return bitcast<f32>(bits); }
fn infinity() -> f32 { var bits = 0x7f800000u; return bitcast<f32>(bits); }

// Rounds to nearest, ties to even, on the upper 16 bits; NaN and infinity pass.
fn to_bf16(y: f32) -> f32 {
    let bits = bitcast<u32>(y);
    if ((bits & 0x7f800000u) == 0x7f800000u) { return y; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

// Rounds to the nearest f16, ties to even; 65520 and beyond become infinite, below 2^-14 steps are 2^-24.
fn to_f16(y: f32) -> f32 {
    let bits = bitcast<u32>(y);
    let sign = bits & 0x80000000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) { return y; }
    if (magnitude >= 0x477ff000u) { return bitcast<f32>(sign | 0x7f800000u); }
    if (magnitude < 0x38800000u) {
        let steps = round(bitcast<f32>(magnitude) * 16777216.0);
        return bitcast<f32>(sign | bitcast<u32>(steps / 16777216.0));
    }
    return bitcast<f32>(sign | ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u)) & 0xffffe000u));
}
