struct Params {
    // Depth, height and width; axes that are not there have one pixel.
    depth: u32,
    height: u32,
    width: u32,
    axes: u32,
    n: u32,
    channels: u32,
    places: u32,
    aligned: u32,
    taps: u32,
    outside: u32,
}

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read> grid_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

{{functions}}

const BORDER = 1u;
const REFLECTION = 2u;

// Mirrored at the edges as often as it takes.
fn reflected(at: f32, size: u32) -> f32 {
    let half = select(0.5, 0.0, params.aligned == 1u);
    let low = -half;
    let high = f32(size) - 1.0 + half;
    if (high <= low) { return max(low, 0.0); }
    let turn = 2.0 * (high - low);
    let along = (at - low) - floor((at - low) / turn) * turn;
    return low + min(along, turn - along);
}

// Where a coordinate of -1..1 lies along an axis, in pixels.
fn place(coordinate: f32, size: u32) -> f32 {
    let n = f32(size);
    var at = ((coordinate + 1.0) * n - 1.0) / 2.0;
    if (params.aligned == 1u) { at = (coordinate + 1.0) / 2.0 * (n - 1.0); }
    if (params.taps == 1u) { at = round(at); }
    if (params.outside == BORDER) { return clamp(at, 0.0, n - 1.0); }
    if (params.outside == REFLECTION) { return reflected(at, size); }
    return at;
}

// The pixel of a tap; -1 outside.
fn pixel(at: f32, size: u32) -> i32 {
    var p = at;
    if (params.outside == BORDER) { p = clamp(p, 0.0, f32(size) - 1.0); }
    if (params.outside == REFLECTION) { p = reflected(p, size); }
    if ((p < 0.0) || (p >= f32(size))) { return -1; }
    return i32(p);
}

fn near(d: f32) -> f32 { return (1.25 * d - 2.25) * d * d + 1.0; }
fn far(d: f32) -> f32 { return ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0; }

// The share of a tap at distance `t` beyond the first pixel.
fn share(tap: u32, t: f32) -> f32 {
    if (params.taps == 1u) { return 1.0; }
    if (params.taps == 2u) { return select(t, 1.0 - t, tap == 0u); }
    if (tap == 0u) { return far(1.0 + t); }
    if (tap == 1u) { return near(t); }
    if (tap == 2u) { return near(1.0 - t); }
    return far(2.0 - t);
}

fn unplaced(v: f32) -> bool { return is_nan(v) || is_inf(v); }

// Where to read along depth, height and width, in pixels.
var<private> at: array<f32, 3>;

// The pixel of a tap along an axis of `size`, and its share.
fn pixel_of(axis: u32, tap: u32, size: u32) -> i32 {
    if (axis + params.axes < 3u) { return 0; }
    let before = select(0.0, 1.0, params.taps == 4u);
    return pixel(floor(at[axis]) + f32(tap) - before, size);
}
fn share_of(axis: u32, tap: u32) -> f32 {
    if (axis + params.axes < 3u) { return 1.0; }
    return share(tap, at[axis] - floor(at[axis]));
}
fn taps_of(axis: u32) -> u32 { return select(params.taps, 1u, axis + params.axes < 3u); }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let plane = i / params.places;
    let point = (plane / params.channels * params.places + i % params.places) * params.axes;
    // The first coordinate belongs to the last axis.
    at[2] = place(grid_in[point], params.width);
    var placed = !unplaced(at[2]);
    if (params.axes > 1u) {
        at[1] = place(grid_in[point + 1u], params.height);
        placed = placed && !unplaced(at[1]);
    }
    if (params.axes > 2u) {
        at[0] = place(grid_in[point + 2u], params.depth);
        placed = placed && !unplaced(at[0]);
    }
    var sum = 0.0;
    if (placed) {
        for (var a = 0u; a < taps_of(0u); a++) {
            let layer = pixel_of(0u, a, params.depth);
            for (var b = 0u; b < taps_of(1u); b++) {
                let row = pixel_of(1u, b, params.height);
                for (var c = 0u; c < params.taps; c++) {
                    let column = pixel_of(2u, c, params.width);
                    if (layer >= 0 && row >= 0 && column >= 0) {
                        let line = (plane * params.depth + u32(layer)) * params.height + u32(row);
                        let value = x_in[line * params.width + u32(column)];
                        sum += share_of(0u, a) * share_of(1u, b) * share_of(2u, c) * value;
                    }
                }
            }
        }
    }
    y_out[i] = {{y}};
}
