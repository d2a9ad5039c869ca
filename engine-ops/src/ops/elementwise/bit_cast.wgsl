// The 16 bits of an f16 that is kept as an f32, and back. Conversions by the device may flush what is subnormal.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) { return sign | 0x7c00u | ((magnitude >> 13u) & 0x3ffu); }
    if (magnitude < 0x38800000u) { return sign | u32(bitcast<f32>(magnitude) * 16777216.0); }
    return sign | ((magnitude >> 13u) - 0x1c000u);
}
fn half(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) { return bitcast<f32>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13u)); }
    if (magnitude < 0x400u) { return bitcast<f32>(sign | bitcast<u32>(f32(magnitude) / 16777216.0)); }
    return bitcast<f32>(sign | ((magnitude + 0x1c000u) << 13u));
}

