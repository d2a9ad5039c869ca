struct Params {
    n: u32, channels: u32, height: u32, width: u32,
    rows: u32, columns: u32, ratio: u32, batches: u32,
    scale: f32, half: u32, maxima: u32, unused: u32,
}

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read> regions: array<f32>;
@group(0) @binding(2) var<storage, read> batch_in: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(5) var<uniform> params: Params;

{{outside}}

{{functions}}

// Two pixels along an axis and the share of the second; no share of either outside.
struct Line { low: u32, high: u32, first: f32, second: f32 }

fn line(at: f32, size: u32) -> Line {
    if ((at < -1.0) || (at > f32(size))) { return Line(0u, 0u, 0.0, 0.0); }
    let held = clamp(at, 0.0, f32(size) - 1.0);
    let low = u32(held);
    let share = held - f32(low);
    return Line(low, min(low + 1u, size - 1u), 1.0 - share, share);
}

fn extent(low: f32, high: f32) -> f32 {
    return select(max(high - low, 1.0), high - low, params.half == 1u);
}

fn points(bin: f32) -> u32 {
    return select(u32(max(ceil(bin), 0.0)), params.ratio, params.ratio > 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let bins = params.rows * params.columns;
    let region = i / bins / params.channels;
    let offset = select(0.0, 0.5, params.half == 1u);
    let x0 = regions[4u * region] * params.scale - offset;
    let y0 = regions[4u * region + 1u] * params.scale - offset;
    let bin_h = extent(y0, regions[4u * region + 3u] * params.scale - offset) / f32(params.rows);
    let bin_w = extent(x0, regions[4u * region + 2u] * params.scale - offset) / f32(params.columns);
    let down = points(bin_h);
    let across = points(bin_w);
    let top = y0 + f32(i % bins / params.columns) * bin_h;
    let left = x0 + f32(i % params.columns) * bin_w;
    let given = batch_in[region];
    if (given.y != 0u || given.x >= params.batches) { note_outside(2u, params.batches, given); }
    let batch = min(given.x, params.batches - 1u);
    let plane = (batch * params.channels + i / bins % params.channels) * params.height * params.width;
    var sum = 0.0;
    var most = 0.0;
    for (var point = 0u; point < down * across; point++) {
        let v = line(top + (f32(point / across) + 0.5) * bin_h / f32(down), params.height);
        let h = line(left + (f32(point % across) + 0.5) * bin_w / f32(across), params.width);
        let a = v.first * h.first * x_in[plane + v.low * params.width + h.low];
        let b = v.first * h.second * x_in[plane + v.low * params.width + h.high];
        let c = v.second * h.first * x_in[plane + v.high * params.width + h.low];
        let d = v.second * h.second * x_in[plane + v.high * params.width + h.high];
        sum += a + b + c + d;
        let best = max(max(a, b), max(c, d));
        most = select(max(most, best), best, point == 0u);
    }
    let mean = sum / f32(max(down * across, 1u));
    let result = select(mean, most, params.maxima == 1u);
    y_out[i] = {{y}};
}
