// Floats to integers are cut towards zero and saturate; NaN gives 0.
fn f32_to_i32(x: f32) -> i32 {
    if (is_nan(x)) { return 0; }
    if (x >= 2147483648.0) { return 2147483647; }
    if (x <= -2147483648.0) { return -2147483647 - 1; }
    return i32(x);
}
fn f32_to_u32(x: f32) -> u32 {
    if (is_nan(x) || x <= 0.0) { return 0u; }
    if (x >= 4294967296.0) { return 0xffffffffu; }
    return u32(x);
}

// The whole part of a positive number below 2^64, from its exponent and mantissa.
fn whole64(x: f32) -> vec2<u32> {
    let bits = bitcast<u32>(x);
    let exponent = i32((bits >> 23u) & 0xffu) - 127;
    if (exponent < 0) { return vec2<u32>(0u, 0u); }
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    if (exponent <= 23) { return vec2<u32>(mantissa >> u32(23 - exponent), 0u); }
    return shift_left64(vec2<u32>(mantissa, 0u), u32(exponent - 23));
}
fn f32_to_u64(x: f32) -> vec2<u32> {
    if (is_nan(x) || x <= 0.0) { return vec2<u32>(0u, 0u); }
    if (x >= 18446744073709551616.0) { return vec2<u32>(0xffffffffu, 0xffffffffu); }
    return whole64(x);
}
fn f32_to_i64(x: f32) -> vec2<u32> {
    if (is_nan(x)) { return vec2<u32>(0u, 0u); }
    if (x >= 9223372036854775808.0) { return vec2<u32>(0xffffffffu, 0x7fffffffu); }
    if (x <= -9223372036854775808.0) { return vec2<u32>(0u, 0x80000000u); }
    let magnitude = whole64(abs(x));
    return select(magnitude, neg64(magnitude), x < 0.0);
}

// Rounds to nearest, ties to even: the top 24 bits are kept, the bits below decide.
fn u64_to_f32(v: vec2<u32>) -> f32 {
    if ((v.x | v.y) == 0u) { return 0.0; }
    let zeros = select(countLeadingZeros(v.y), 32u + countLeadingZeros(v.x), v.y == 0u);
    let top = shift_left64(v, zeros);
    let kept = top.y >> 8u;
    let rest = top.y & 0xffu;
    let up = rest > 0x80u || (rest == 0x80u && (top.x != 0u || (kept & 1u) == 1u));
    // A carry out of the mantissa raises the exponent, as it should.
    return bitcast<f32>(((190u - zeros) << 23u) + (kept - 0x800000u) + u32(up));
}
fn i64_to_f32(v: vec2<u32>) -> f32 {
    let magnitude = u64_to_f32(abs64(v));
    return select(magnitude, -magnitude, negative64(v));
}
