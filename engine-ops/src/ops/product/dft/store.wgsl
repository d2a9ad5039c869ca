struct Params {
    total: u32,
    n: u32,
    bins: u32,
    scale: f32,
    inner: u32,
    outer_step: u32,
    inner_step: u32,
    step: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read_write> rows: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

fn narrowed(part: f32) -> f32 { return {{y}}; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.total) { return; }
    let row = i / params.bins;
    let k = i % params.bins;
    let base = row / params.inner * params.outer_step + row % params.inner * params.inner_step;
    let at = (base + k * params.step) * params.parts;
    let value = rows[row * params.n + k] * params.scale;
    y[at] = narrowed(value.x);
    if (params.parts == 2u) { y[at + 1u] = narrowed(value.y); }
}
