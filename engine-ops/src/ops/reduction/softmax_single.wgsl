struct Params { rows: u32, along: u32, inner: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

// One invocation for each row.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = gid.x + gid.y * groups.x * 64u;
    if (row >= params.rows) { return; }
    let base = row / params.inner * params.along * params.inner + row % params.inner;
    var most = x_in[base];
    for (var i = 1u; i < params.along; i++) {
        let x = x_in[base + i * params.inner];
        if (!is_nan(most) && (x > most || is_nan(x))) { most = x; }
    }
    var sum = 0.0;
    for (var i = 0u; i < params.along; i++) { sum += exp(x_in[base + i * params.inner] - most); }
    for (var i = 0u; i < params.along; i++) {
        let x = x_in[base + i * params.inner];
        y_out[base + i * params.inner] = {{y}};
    }
}
