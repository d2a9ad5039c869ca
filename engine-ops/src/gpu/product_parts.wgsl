// Adds up what the parts of the sums gave, in their order, and finishes four neighbouring elements an invocation.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let quads = (cols() + 3u) / 4u;
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= items() * rows() * quads) { return; }
    let row_all = i / quads;
    let col = i % quads * 4u;
    let size = items() * rows() * cols();
    var at = row_all * cols() + col;
    var sum = vec4<{{T}}>();
    for (var part = 0u; part < params.parts; part++) {
        sum += vec4<{{T}}>(parts_in[at], parts_in[at + 1u], parts_in[at + 2u], parts_in[at + 3u]);
        at += size;
    }
    put(row_all / rows(), row_all % rows(), col, sum);
}
