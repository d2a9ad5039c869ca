// Two to the power of the exponent of a number of this size, no less than that of the smallest normal number.
fn exponent_of(size: f32) -> i32 {
    return max(i32(bitcast<u32>(size) >> 23u) - 127, 1 - {{bias}});
}

// The code that is nearest to a number, ties going to even.
fn encoded(value: f32) -> u32 {
    if (is_nan(value)) { return {{nan}}u; }
    let sign = select(0u, {{sign}}u, (bitcast<u32>(value) >> 31u) == 1u);
    let size = bitcast<f32>(bitcast<u32>(value) & 0x7fffffffu);
    let step = bitcast<f32>(u32(127 + exponent_of(size) - {{mantissa}}) << 23u);
    let nearest = round(size / step) * step;
    // By its bits, because the step of what is huge may leave the numbers there are.
    if (bitcast<u32>(size) >= 0x70000000u || nearest > {{largest}}) { return {{beyond}}; }
    if (nearest == 0.0) { return select(sign, 0u, {{unsigned_zero}}); }
    let exponent = exponent_of(nearest);
    // Counted in steps of its exponent; a subnormal number has fewer than a leading one, and exponent code 0.
    let steps = u32(nearest / bitcast<f32>(u32(127 + exponent - {{mantissa}}) << 23u));
    return sign | (steps + (u32(exponent + {{bias}} - 1) << {{mantissa}}u));
}
