// WGSL's pow is undefined for negative bases. Small whole exponents are products, as on the CPU.
fn power(x: f32, y: f32) -> f32 {
    if (y == 0.0) { return 1.0; }
    if (y == 1.0) { return x; }
    if (y == 2.0) { return x * x; }
    if (y == 3.0) { return x * x * x; }
    if (is_nan(x)) { return x; }
    if (is_nan(y)) { return y; }
    let base = abs(x);
    if (base == 0.0) { return select(infinity(), 0.0, y > 0.0); }
    let size = pow(base, y);
    if (x > 0.0) { return size; }
    if (floor(y) != y) { return nan(); }
    let half = y * 0.5;
    return select(size, -size, floor(half) != half);
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
