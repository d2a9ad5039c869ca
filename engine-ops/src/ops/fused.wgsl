struct Params { n: u32, unused0: u32, unused1: u32, unused2: u32, {{chain}} }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<f32>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{finish}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    y_out[i] = finish(x_in[i], i);
}
