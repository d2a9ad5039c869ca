// Division of 64-bit integers, bit by bit: the quotient (low word, high word), then the remainder. By zero both are zero.
fn divide64(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    if ((b.x | b.y) == 0u) { return vec4<u32>(0u, 0u, 0u, 0u); }
    var quotient = vec2<u32>(0u, 0u);
    var rest = vec2<u32>(0u, 0u);
    for (var i = 0u; i < 64u; i++) {
        let carry = rest.y >> 31u;
        rest = shift_left64(rest, 1u);
        rest.x |= shift_right64(a, 63u - i).x & 1u;
        quotient = shift_left64(quotient, 1u);
        if (carry == 1u || !less_u64(rest, b)) {
            rest = sub64(rest, b);
            quotient.x |= 1u;
        }
    }
    return vec4<u32>(quotient, rest);
}
fn div_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return divide64(a, b).xy; }
fn rem_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> { return divide64(a, b).zw; }

// Rounded towards zero; the lowest number divided by -1 wraps to itself.
fn div_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let size = div_u64(abs64(a), abs64(b));
    return select(size, neg64(size), negative64(a) != negative64(b));
}
// With the sign of the dividend, and with that of the divisor.
fn rem_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let size = rem_u64(abs64(a), abs64(b));
    return select(size, neg64(size), negative64(a));
}
fn mod_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let r = rem_i64(a, b);
    let moved = (r.x | r.y) != 0u && negative64(r) != negative64(b);
    return select(r, add64(r, b), moved);
}
