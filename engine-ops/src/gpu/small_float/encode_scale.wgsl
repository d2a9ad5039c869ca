// The power of two, by its exponent, for a number of any sign.
fn encoded(value: f32) -> u32 {
    let bits = bitcast<u32>(value) & 0x7fffffffu;
    let exponent = bits >> 23u;
    let fraction = bits & 0x7fffffu;
    if (exponent == 0xffu) { return 0xffu; }
    if (exponent == 0xfeu && {{saturate}}) { return 0xfeu; }
    return exponent + select(0u, 1u, {{up}});
}
