// The precision that WGSL asks of its own functions is too coarse for f32, so these are computed here: the argument less
// multiples of π/2, then the polynomials of the Cephes library on −π/4..π/4.

// Both words of a product, the low one first, from products of 16-bit halves.
fn words_of_product(a: u32, b: u32) -> vec2<u32> {
    let middle = (a >> 16u) * (b & 0xffffu) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2<u32>(a * b, (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}
// The bits of 2/π behind the binary point, after a word of zeros.
fn word_of_two_over_pi(i: u32) -> u32 {
    var words = array<u32, 8>(
        0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);
    return words[i];
}
// A large argument, m · 2^s with whole m, less multiples of π/2 (Payne and Hanek): m times those 96 bits of 2/π · 2^s that
// are worth less than 4 is the quadrant in its upper 2 bits, and behind them how far it is crossed.
fn far_quarter(x: f32) -> vec2<f32> {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    let m = (bits & 0x7fffffu) | 0x800000u;
    // s − 2 bits stand before the binary point, and the word of zeros.
    let first_bit = (bits >> 23u) + 32u - 152u;
    var part = vec3<u32>(0u, 0u, 0u);
    for (var i = 0u; i < 3u; i++) {
        let first = word_of_two_over_pi(first_bit / 32u + i);
        let next = word_of_two_over_pi(first_bit / 32u + i + 1u);
        let by = first_bit % 32u;
        part[i] = select((first << by) | (next >> ((32u - by) & 31u)), first, by == 0u);
    }
    let low = words_of_product(m, part.z);
    let middle = words_of_product(m, part.y);
    let second = middle.x + low.y;
    let turn = m * part.x + middle.y + u32(second < middle.x);
    // What is past the middle of a quadrant is a negative part of the next one.
    var crossed = vec2<u32>((second << 2u) | (low.x >> 30u), (turn << 2u) | (second >> 30u));
    let behind = (crossed.y >> 31u) == 1u;
    if (behind) { crossed = vec2<u32>(0u - crossed.x, ~crossed.y + u32(crossed.x == 0u)); }
    let size = (f32(crossed.y) + f32(crossed.x) * 2.3283064365386963e-10) * 3.657295198167899e-10;
    let r = select(size, -size, behind);
    let n = ((turn >> 30u) + u32(behind)) & 3u;
    // Of a negative argument both are negative.
    if (x < 0.0) { return vec2<f32>(-r, f32((4u - n) & 3u)); }
    return vec2<f32>(r, f32(n));
}
// The rest, and the number of the quadrant from 0 to 3. Multiples of a small number are taken off in three parts, of which
// the first two are short enough to be exact.
fn quarter(x: f32) -> vec2<f32> {
    if (abs(x) > 4096.0) { return far_quarter(x); }
    let n = round(x * 0.63661977236758134);
    let r = ((x - n * 1.5703125) - n * 4.837512969970703e-4) - n * 7.549789948768648e-8;
    return vec2<f32>(r, n - 4.0 * floor(n * 0.25));
}
fn sine_near(r: f32) -> f32 {
    let s = r * r;
    return r + r * s * (-1.6666654611e-1 + s * (8.3321608736e-3 - s * 1.9515295891e-4));
}
fn cosine_near(r: f32) -> f32 {
    let s = r * r;
    return 1.0 - 0.5 * s + s * s * (4.166664568298827e-2 + s * (-1.388731625493765e-3 + s * 2.443315711809948e-5));
}
fn sine(x: f32) -> f32 {
    if (is_nan(x) || is_inf(x)) { return nan(); }
    let q = quarter(x);
    let odd = q.y == 1.0 || q.y == 3.0;
    let y = select(sine_near(q.x), cosine_near(q.x), odd);
    return select(y, -y, q.y >= 2.0);
}
fn cosine(x: f32) -> f32 {
    if (is_nan(x) || is_inf(x)) { return nan(); }
    let q = quarter(x);
    let odd = q.y == 1.0 || q.y == 3.0;
    let y = select(cosine_near(q.x), sine_near(q.x), odd);
    return select(y, -y, q.y == 1.0 || q.y == 2.0);
}
fn tangent(x: f32) -> f32 { return sine(x) / cosine(x); }

// The arc tangent by its reduction to |x| ≤ tan π/8, then the polynomial of the Cephes library.
fn arc_tangent(x: f32) -> f32 {
    if (is_nan(x)) { return x; }
    if (is_inf(x)) { return sign(x) * 1.5707963267948966; }
    var a = abs(x);
    var y = 0.0;
    if (a > 2.414213562373095) {
        y = 1.5707963267948966;
        a = -1.0 / a;
    } else if (a > 0.4142135623730950) {
        y = 0.7853981633974483;
        a = (a - 1.0) / (a + 1.0);
    }
    let s = a * a;
    y += a + a * s * (-3.33329491539e-1 + s * (1.99777106478e-1 + s * (-1.38776856032e-1 + s * 8.05374449538e-2)));
    return select(y, -y, x < 0.0);
}
fn arc_sine(x: f32) -> f32 {
    if (is_nan(x) || abs(x) > 1.0) { return nan(); }
    if (abs(x) == 1.0) { return x * 1.5707963267948966; }
    return arc_tangent(x / sqrt((1.0 - x) * (1.0 + x)));
}
fn arc_cosine(x: f32) -> f32 {
    if (is_nan(x) || abs(x) > 1.0) { return nan(); }
    if (x == -1.0) { return 3.141592653589793; }
    return 2.0 * arc_tangent(sqrt((1.0 - x) / (1.0 + x)));
}

// Hyperbolic functions by exponentials of half the argument, which do not overflow before the result does.
fn sine_hyperbolic(x: f32) -> f32 {
    if (is_nan(x) || is_inf(x)) { return x; }
    let s = x * x;
    if (s < 1.0) { return x * (1.0 + s / 6.0 * (1.0 + s / 20.0 * (1.0 + s / 42.0 * (1.0 + s / 72.0)))); }
    let h = exp(0.5 * abs(x));
    let y = (0.5 * h) * h - 0.5 / h / h;
    return select(y, -y, x < 0.0);
}
fn cosine_hyperbolic(x: f32) -> f32 {
    if (is_nan(x) || is_inf(x)) { return abs(x); }
    let h = exp(0.5 * abs(x));
    return (0.5 * h) * h + 0.5 / h / h;
}
fn area_sine(x: f32) -> f32 {
    if (is_nan(x) || is_inf(x)) { return x; }
    let a = abs(x);
    var y = 0.0;
    if (a > 1e9) {
        y = log(a) + 0.6931471805599453;
    } else if (a < 0.25) {
        let s = a * a;
        y = a * (1.0 - s / 6.0 * (1.0 - s * (9.0 / 20.0) * (1.0 - s * (25.0 / 42.0) * (1.0 - s * (49.0 / 72.0)))));
    } else {
        y = log(a + sqrt(a * a + 1.0));
    }
    return select(y, -y, x < 0.0);
}
fn area_cosine(x: f32) -> f32 {
    if (is_nan(x) || x < 1.0) { return nan(); }
    if (is_inf(x)) { return x; }
    if (x > 1e9) { return log(x) + 0.6931471805599453; }
    return log(x + sqrt((x - 1.0) * (x + 1.0)));
}
fn area_tangent(x: f32) -> f32 {
    if (is_nan(x) || abs(x) > 1.0) { return nan(); }
    if (abs(x) == 1.0) { return sign(x) * infinity(); }
    if (abs(x) < 0.25) {
        let s = x * x;
        return x * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s / 11.0)))));
    }
    return 0.5 * log((1.0 + x) / (1.0 - x));
}
