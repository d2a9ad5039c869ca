// The power of two that a code stands for; the smallest is subnormal.
fn decoded(code: u32) -> f32 {
    if (code == 0xffu) { return nan(); }
    return bitcast<f32>(select(code << 23u, 0x400000u, code == 0u));
}
