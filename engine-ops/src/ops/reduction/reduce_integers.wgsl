
// `sum + v²`.
fn square64(v: vec2<u32>, sum: vec2<u32>) -> vec2<u32> { return add64(sum, mul64(v, v)); }

// The root, rounded down, bit by bit.
fn root64(v: vec2<u32>) -> vec2<u32> {
    var root = 0u;
    for (var i = 0u; i < 32u; i++) {
        let bit = 0x80000000u >> i;
        let tried = vec2<u32>(root | bit, 0u);
        if (!less_u64(v, mul64(tried, tried))) { root |= bit; }
    }
    return vec2<u32>(root, 0u);
}

// The powers of e, rounded up.
const POWERS = array<vec2<u32>, {{count}}>({{powers}});

// The natural logarithm, rounded down.
fn logarithm64(v: vec2<u32>) -> vec2<u32> {
    var powers = POWERS;
    var reached = 0u;
    for (var i = 0u; i < {{count}}u; i++) {
        if (!less_u64(v, powers[i])) { reached = i + 1u; }
    }
    return vec2<u32>(reached, 0u);
}
