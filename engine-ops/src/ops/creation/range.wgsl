struct Params { n: u32, unused: u32, start: vec2<u32>, delta: vec2<u32> }

@group(0) @binding(0) var<storage, read_write> y_out: array<{{word}}>;
@group(0) @binding(1) var<uniform> params: Params;

{{functions}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    y_out[i] = {{y}};
}
