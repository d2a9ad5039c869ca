struct Params { rows: u32, along: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

const TEAM = 128u;
var<workgroup> partial: array<f32, TEAM>;

fn larger(a: f32, b: f32) -> f32 { if (is_nan(a)) { return a; } if (is_nan(b)) { return b; } return max(a, b); }

// One workgroup for each row: largest, sum, result, each invocation taking every 128th element.
@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row / params.inner * params.along * params.inner + row % params.inner;
    var mine = x_in[base];
    for (var i = lane; i < params.along; i += TEAM) { mine = larger(mine, x_in[base + i * params.inner]); }
    partial[lane] = mine;
    for (var width = TEAM / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) { partial[lane] = larger(partial[lane], partial[lane + width]); }
    }
    workgroupBarrier();
    let most = partial[0];
    workgroupBarrier();
    mine = 0.0;
    for (var i = lane; i < params.along; i += TEAM) { mine += exp(x_in[base + i * params.inner] - most); }
    partial[lane] = mine;
    for (var width = TEAM / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) { partial[lane] += partial[lane + width]; }
    }
    workgroupBarrier();
    let sum = partial[0];
    for (var i = lane; i < params.along; i += TEAM) {
        let x = x_in[base + i * params.inner];
        y_out[base + i * params.inner] = {{y}};
    }
}
