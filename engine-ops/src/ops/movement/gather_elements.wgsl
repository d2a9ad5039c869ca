// For every position of the indices: the place that it and its index mean, read or written word by word. Axes are stored
// innermost first: size in the indices, distance in the data, size in the data where the index stands (0 elsewhere).
struct Params {
    n: u32,
    axes: u32,
    width: u32,
    index_width: u32,
    by: array<vec4<u32>, 8>,
}

{{bindings}}

{{notes}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    var rest = element;
    var place = 0u;
    for (var a = 0u; a < params.axes; a++) {
        let by = params.by[a];
        let outer = rest / by.x;
        var at = rest - outer * by.x;
        if (by.z != 0u) {
            at = position(element * params.index_width, params.index_width, by.z);
        }
        place += at * by.y;
        rest = outer;
    }
    let there = place * params.width + i - element * params.width;
    {{act}}
}
