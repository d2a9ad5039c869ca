struct Params { n: u32, p0: u32, p1: u32, p2: u32, axes: array<vec4<u32>, {{rank}}> }

{{bindings}}
{{functions}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    {{index}}
    {{loads}}
    y_out[i] = {{y}};
}
