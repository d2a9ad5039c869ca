{{common}}

// One invocation for each result.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let out = gid.x + gid.y * groups.x * 64u;
    if (out >= params.results) { return; }
    {{before}}
    let base = kept_offset(out);
    var sum: {{sum}} = {{start}};
    for (var i = 0u; i < params.count; i++) { sum = fold_in(sum, x_in[base + reduced_offset(i)]); }
    y_out[out] = finish(sum);
}
