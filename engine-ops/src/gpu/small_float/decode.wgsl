// The number that a code stands for.
fn decoded(code: u32) -> f32 {
    let negative = (code & {{sign}}u) != 0u;
    let m = code & ({{sign}}u - 1u);
    if ({{unsigned_zero}} && negative && m == 0u) { return nan(); }
    if ({{has_infinity}} && m == {{infinity}}u) { return select(infinity(), -infinity(), negative); }
    if (m > {{max}}u) { return nan(); }
    let exponent = m >> {{mantissa}}u;
    let fraction = m & ((1u << {{mantissa}}u) - 1u);
    let leading = select(1u << {{mantissa}}u, 0u, exponent == 0u);
    let power = 127 + i32(max(exponent, 1u)) - {{bias}} - {{mantissa}};
    let size = f32(leading + fraction) * bitcast<f32>(u32(power) << 23u);
    return select(size, -size, negative);
}
