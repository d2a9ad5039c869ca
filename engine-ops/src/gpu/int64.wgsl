// 64-bit integers as two words, the low one first. Arithmetic wraps.
fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + u32(low < a.x));
}
fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}
fn neg64(a: vec2<u32>) -> vec2<u32> { return sub64(vec2<u32>(0u, 0u), a); }
fn negative64(a: vec2<u32>) -> bool { return (a.y >> 31u) == 1u; }
fn abs64(a: vec2<u32>) -> vec2<u32> { return select(a, neg64(a), negative64(a)); }

// The product's low words, from products of 16-bit halves.
fn mul64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let a0 = a.x & 0xffffu;
    let a1 = a.x >> 16u;
    let b0 = b.x & 0xffffu;
    let b1 = b.x >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    let high = a1 * b1 + (middle >> 16u) + (other >> 16u);
    return vec2<u32>(a.x * b.x, high + a.x * b.y + a.y * b.x);
}

fn equal64(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x == b.x && a.y == b.y; }
fn less_u64(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
fn less_i64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return less_u64(a ^ vec2<u32>(0u, 0x80000000u), b ^ vec2<u32>(0u, 0x80000000u));
}

fn shift_left64(v: vec2<u32>, by: u32) -> vec2<u32> {
    if (by == 0u) { return v; }
    if (by >= 32u) { return vec2<u32>(0u, v.x << (by - 32u)); }
    return vec2<u32>(v.x << by, (v.y << by) | (v.x >> (32u - by)));
}

fn shift_right64(v: vec2<u32>, by: u32) -> vec2<u32> {
    if (by == 0u) { return v; }
    if (by >= 32u) { return vec2<u32>(v.y >> (by - 32u), 0u); }
    return vec2<u32>((v.x >> by) | (v.y << (32u - by)), v.y >> by);
}
