// The series x·Σ near zero, and the continued exponential fit of Numerical Recipes (erfcc, |error| < 1.2e-7) beyond it:
// the approximation of Abramowitz and Stegun 7.1.26 is too coarse for f32.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.5) {
        let s = x * x;
        return x * 1.1283791670955126 * (1.0 - s * (1.0 / 3.0 - s * (0.1 - s * (1.0 / 42.0 - s / 216.0))));
    }
    if (a > 6.0) { return sign(x); }
    let t = 1.0 / (1.0 + 0.5 * a);
    let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
        + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(p - a * a);
    return select(tail - 1.0, 1.0 - tail, x >= 0.0);
}

// WGSL leaves what lies outside a function's domain, and what is infinite, to the driver.
fn ln(x: f32) -> f32 {
    if (is_nan(x) || x < 0.0) { return nan(); }
    if (x == 0.0) { return -infinity(); }
    if (is_inf(x)) { return x; }
    return log(x);
}
fn root(x: f32) -> f32 {
    if (is_nan(x) || x < 0.0) { return nan(); }
    if (is_inf(x)) { return x; }
    return sqrt(x);
}
// By its series near zero, where WGSL's tanh may lose digits; beyond 15, where that overflows on some drivers, the result
// is ±1 in f32.
fn tangens_hyperbolicus(x: f32) -> f32 {
    if (is_nan(x)) { return x; }
    if (abs(x) < 0.625) {
        let s = x * x;
        return x * (1.0 + s * (-0.3333326 + s * (0.13331129 + s * (-0.053721134 + s * (0.02059116 - s * 0.005660149)))));
    }
    return tanh(clamp(x, -15.0, 15.0));
}
// ln(1 + u) for u in 0..=1 as 2 artanh(u / (2 + u)), by its series: the sum 1 + u would lose the digits of a small u.
fn ln_one_plus(u: f32) -> f32 {
    let t = u / (2.0 + u);
    let s = t * t;
    return 2.0 * t * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0 + s / 13.0))))));
}
// ln(1 + e^x) without overflow.
fn softplus(x: f32) -> f32 {
    if (is_nan(x)) { return x; }
    return max(x, 0.0) + ln_one_plus(exp(-abs(x)));
}
// x · tanh(ln(1 + e^x)) as a ratio of sums of positive terms, so that nothing cancels.
fn mish(x: f32) -> f32 {
    if (is_nan(x)) { return x; }
    let u = exp(-abs(x));
    if (x < 0.0) { return x * (u * (u + 2.0) / (u * (u + 2.0) + 2.0)); }
    return x * ((1.0 + 2.0 * u) / (1.0 + 2.0 * u + 2.0 * u * u));
}
// e^x − 1, by its series near zero, where the difference would cancel.
fn exp_minus_one(x: f32) -> f32 {
    if (abs(x) < 0.3) {
        return x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0)))));
    }
    return exp(x) - 1.0;
}
