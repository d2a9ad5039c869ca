struct Params { rows: u32, classes: u32, pairs: u32, rounds: u32 }

@group(0) @binding(0) var<storage, read> pairs: array<f32>;
@group(0) @binding(1) var<storage, read_write> p: array<f32>;
// For each class the slope, then the sum of squares that its own share meets.
@group(0) @binding(2) var<storage, read_write> state: array<vec2<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

// How probable class `i` is where it is one of `i` and `j`.
fn r(row: u32, i: u32, j: u32) -> f32 {
    let low = min(i, j);
    let before = low * params.classes - low * (low + 1u) / 2u;
    let share = pairs[row * params.pairs + before + max(i, j) - low - 1u];
    return select(1.0 - share, share, i < j);
}

// The matrix whose form is minimised.
fn q(row: u32, i: u32, j: u32) -> f32 {
    if (i == j) { return state[row * params.classes + i].y; }
    return -r(row, j, i) * r(row, i, j);
}

// Sets the slopes; gives the form's value.
fn slopes(row: u32) -> f32 {
    let n = params.classes;
    var all = 0.0;
    for (var i = 0u; i < n; i++) {
        var slope = 0.0;
        for (var j = 0u; j < n; j++) { slope += q(row, i, j) * p[row * n + j]; }
        state[row * n + i].x = slope;
        all += slope * p[row * n + i];
    }
    return all;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = gid.x + gid.y * groups.x * 64u;
    if (row >= params.rows) { return; }
    let n = params.classes;
    let at = row * n;
    for (var i = 0u; i < n; i++) {
        var squares = 0.0;
        for (var j = 0u; j < n; j++) {
            if (j != i) { squares += r(row, j, i) * r(row, j, i); }
        }
        state[at + i].y = squares;
        p[at + i] = 1.0 / f32(n);
    }
    for (var round = 0u; round < params.rounds; round++) {
        var all = slopes(row);
        var furthest = 0.0;
        for (var i = 0u; i < n; i++) { furthest = max(furthest, abs(state[at + i].x - all)); }
        if (furthest < 0.005 / f32(n)) { break; }
        for (var t = 0u; t < n; t++) {
            let own = state[at + t];
            let step = (all - own.x) / own.y;
            p[at + t] += step;
            all = (all + step * (step * own.y + 2.0 * own.x)) / ((1.0 + step) * (1.0 + step));
            for (var j = 0u; j < n; j++) {
                state[at + j].x = (state[at + j].x + step * q(row, t, j)) / (1.0 + step);
                p[at + j] /= 1.0 + step;
            }
        }
    }
}
