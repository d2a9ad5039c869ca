// The special values of IEEE 754: WGSL's pow is undefined for negative bases, and leaves zeros and infinities to the driver.
// Small whole exponents are products, as on the CPU.
fn power(x: f32, y: f32) -> f32 {
    let exponent = bitcast<u32>(y) & 0x7fffffffu;
    // Of NaN too.
    if (exponent == 0u || bitcast<u32>(x) == 0x3f800000u) { return 1.0; }
    if (is_nan(x)) { return x; }
    if (is_nan(y)) { return y; }
    if (y == 1.0) { return x; }
    if (y == 2.0) { return x * x; }
    if (y == 3.0) { return x * x * x; }
    let base = abs(x);
    if (is_inf(y)) {
        if (base == 1.0) { return 1.0; }
        return select(0.0, infinity(), (base > 1.0) == (y > 0.0));
    }
    // From 2^24 on all numbers are even.
    let whole = floor(y) == y;
    let odd = whole && exponent < 0x4b800000u && floor(y * 0.5) * 2.0 != y;
    let negative = (bitcast<u32>(x) >> 31u) == 1u;
    var size = 0.0;
    if (base == 0.0 || is_inf(x)) {
        size = select(0.0, infinity(), (base == 0.0) == (y < 0.0));
    } else if (negative && !whole) {
        return nan();
    } else {
        size = pow(base, y);
    }
    return bitcast<f32>(bitcast<u32>(size) | select(0u, 0x80000000u, negative && odd));
}

// Powers of integers, which wrap; the exponent is of 64 bits. Those below 1 are cut to zero.
fn power_i32(x: i32, y: vec2<u32>) -> i32 {
    if (y.y != 0u) {
        if (x == 1) { return 1; }
        if (x == -1) { return 1 - 2 * i32(y.x & 1u); }
        return 0;
    }
    var base = x;
    var power = 1;
    for (var bit = 0u; bit < 32u; bit++) {
        if (((y.x >> bit) & 1u) == 1u) { power *= base; }
        base *= base;
    }
    return power;
}
fn power_i64(x: vec2<u32>, y: vec2<u32>) -> vec2<u32> {
    let one = vec2<u32>(1u, 0u);
    if (y.y != 0u) {
        if (equal64(x, one)) { return one; }
        if (x.x == 0xffffffffu && x.y == 0xffffffffu) { return select(x, one, (y.x & 1u) == 0u); }
        return vec2<u32>(0u, 0u);
    }
    var base = x;
    var power = one;
    for (var bit = 0u; bit < 32u; bit++) {
        if (((y.x >> bit) & 1u) == 1u) { power = mul64(power, base); }
        base = mul64(base, base);
    }
    return power;
}
