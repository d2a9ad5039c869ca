struct Params {
    total: u32,
    n: u32,
    length: u32,
    mirrored: u32,
    inner: u32,
    outer_step: u32,
    inner_step: u32,
    step: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> rows: array<vec2<f32>>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{window}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.total) { return; }
    let row = i / params.n;
    var t = i % params.n;
    // The other half of a one-sided transform is the mirror image.
    let beyond = t >= params.length;
    if (beyond && params.mirrored == 1u) { t = params.n - t; }
    var value = vec2<f32>(0.0, 0.0);
    if (t < params.length) {
        let base = row / params.inner * params.outer_step + row % params.inner * params.inner_step;
        let at = (base + t * params.step) * params.parts;
        value.x = x[at] * weight(t);
        if (params.parts == 2u) { value.y = x[at + 1u] * weight(t); }
        if (beyond) { value.y = -value.y; }
    }
    rows[i] = value;
}
