struct Params {
    pairs: u32, half: u32, middle: u32, inner: u32, angles: u32, interleaved: u32,
    outer_stride: u32, middle_stride: u32, inner_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;
@group(0) @binding(2) var<storage, read> sines: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.pairs) { return; }
    let row = i / params.half;
    let pair = i % params.half;
    let inner = row % params.inner;
    let middle = row / params.inner % params.middle;
    let outer = row / params.inner / params.middle;
    let table = inner * params.inner_stride + middle * params.middle_stride + outer * params.outer_stride;
    var low = pair;
    var high = pair + params.half;
    if (params.interleaved != 0u) {
        low = 2u * pair;
        high = low + 1u;
    }
    let first = row * 2u * params.half;
    let a = x[first + low];
    let b = x[first + high];
    // One angle for a pair, or one for each of its elements.
    let one = params.angles == params.half;
    let at_low = table + select(low, pair, one);
    let at_high = table + select(high, pair, one);
    y[first + low] = a * cosines[at_low] - b * sines[at_low];
    y[first + high] = b * cosines[at_high] + a * sines[at_high];
}
