struct Params { n: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

// WGSL lets compilers assume that there is no NaN: `x != x` becomes false, and a select on `x < 0` a maximum that loses
// it. The bits tell.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

// Abramowitz and Stegun 7.1.26 is too coarse for f32, so: the series x·Σ near zero, and the
// continued exponential fit of Numerical Recipes (erfcc, |error| < 1.2e-7) beyond it.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    if (a < 0.5) {
        let s = x * x;
        return x * 1.1283791670955126 * (1.0 - s * (1.0 / 3.0 - s * (0.1 - s * (1.0 / 42.0 - s / 216.0))));
    }
    let t = 1.0 / (1.0 + 0.5 * a);
    let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
        + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(p - a * a);
    return select(tail - 1.0, 1.0 - tail, x >= 0.0);
}

// Rounds to nearest, ties to even, on the upper 16 bits; NaN and infinity pass.
fn to_bf16(y: f32) -> f32 {
    let bits = bitcast<u32>(y);
    if ((bits & 0x7f800000u) == 0x7f800000u) { return y; }
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let x = x_in[i];
    let y = {{f}};
    y_out[i] = {{round}};
}
