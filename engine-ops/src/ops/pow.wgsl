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
