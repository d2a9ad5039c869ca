fn is_lowest(x: f32) -> bool { return bitcast<u32>(x) == 0xff800000u; }

// e to the power of a score relative to the largest. What is not a number stays so, and masks may be the smallest number
// there is, so that −∞ is told by its bits alone.
fn power_of(score: f32, largest: f32) -> f32 {
    if (is_nan(score)) { return score; }
    if (is_lowest(score)) { return 0.0; }
    if (is_inf(score)) { return nan(); }
    return exp(score - largest);
}

// The sum of all values in a column times 0: 0, but for what is not finite.
fn nothing_of(source: u32, column: u32) -> f32 {
    for (var j = 0u; j < params.keys; j++) {
        let v = v_in[(source * params.keys + j) * params.width + column];
        if ((bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u) { return nan(); }
    }
    return 0.0;
}
