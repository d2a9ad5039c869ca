// For every word of every slice: the place that its tuple of indices means, read or written. Per index of a tuple: size of its
// axis, distance in words.
struct Params {
    n: u32,
    len: u32,
    tuple: u32,
    index_width: u32,
    each: u32,
    per_batch: u32,
    unused0: u32,
    unused1: u32,
    by: array<vec4<u32>, 8>,
}

{{bindings}}

{{notes}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let slice = i / params.len;
    var there = slice / params.per_batch * params.each + i - slice * params.len;
    for (var a = 0u; a < params.tuple; a++) {
        let by = params.by[a];
        let at = (slice * params.tuple + a) * params.index_width;
        there += position(at, params.index_width, by.x) * by.y;
    }
    {{act}}
}
