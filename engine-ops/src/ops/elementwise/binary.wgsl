// The quotient rounded towards zero; by zero it is zero, and the lowest number divided by -1 wraps to itself.
fn div_i32(a: i32, b: i32) -> i32 {
    if (b == 0) { return 0; }
    if (b == -1) { return -a; }
    return a / b;
}

// The remainder with the sign of the divisor; by zero it is zero.
fn mod_i32(a: i32, b: i32) -> i32 {
    if (b == 0 || b == -1) { return 0; }
    let r = a % b;
    return select(r, r + b, r != 0 && ((r > 0) != (b > 0)));
}

fn unordered(a: f32, b: f32) -> bool { return is_nan(a) || is_nan(b); }

// The remainder with the sign of the dividend, exact: the divisor is taken off bit by bit.
fn fmod(x: f32, y: f32) -> f32 {
    let sign = bitcast<u32>(x) & 0x80000000u;
    let a = bitcast<u32>(x) & 0x7fffffffu;
    let b = bitcast<u32>(y) & 0x7fffffffu;
    if (a >= 0x7f800000u || b > 0x7f800000u || b == 0u) { return nan(); }
    if (a < b) { return x; }
    let x_parts = parts(a);
    let y_parts = parts(b);
    var rest = x_parts.y;
    var exponent = i32(x_parts.x);
    // From the largest exponent to that of the smallest number.
    for (var i = 0u; i < 277u; i++) {
        if (exponent <= i32(y_parts.x)) { break; }
        if (rest >= y_parts.y) { rest -= y_parts.y; }
        rest <<= 1u;
        exponent--;
    }
    if (rest >= y_parts.y) { rest -= y_parts.y; }
    if (rest == 0u) { return bitcast<f32>(sign); }
    let shift = countLeadingZeros(rest) - 8u;
    rest <<= shift;
    exponent -= i32(shift);
    if (exponent > 0) { return bitcast<f32>(sign | (rest - 0x800000u) | (u32(exponent) << 23u)); }
    return bitcast<f32>(sign | (rest >> u32(1 - exponent)));
}

// The remainder with the sign of the divisor, which is that of a remainder of zero too.
fn floor_mod(x: f32, y: f32) -> f32 {
    let rest = fmod(x, y);
    let sign = bitcast<u32>(y) & 0x80000000u;
    if (rest == 0.0) { return bitcast<f32>(sign); }
    return select(rest, rest + y, (bitcast<u32>(rest) & 0x80000000u) != sign);
}

// Exponent and mantissa, whose highest bit is set, of the bits of a positive number.
fn parts(bits: u32) -> vec2<u32> {
    if ((bits >> 23u) != 0u) { return vec2<u32>(bits >> 23u, (bits & 0x7fffffu) | 0x800000u); }
    let shift = countLeadingZeros(bits) - 8u;
    return vec2<u32>(1u - shift, bits << shift);
}
