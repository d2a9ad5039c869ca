// Every word of X at its place in a result of zeros. Axes are stored innermost first: size that indices count through, size in
// the result.
struct Params {
    n: u32,
    width: u32,
    axes: u32,
    unused: u32,
    by: array<vec4<u32>, 8>,
}

{{bindings}}

{{notes}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let place = places[i / params.width];
    var rest = place.x;
    var inside = place.y == 0u;
    var at = 0u;
    var distance = 1u;
    for (var a = 0u; a < params.axes; a++) {
        let by = params.by[a];
        let index = rest % by.x;
        inside = inside && index < by.y;
        at += index * distance;
        distance *= by.y;
        rest = rest / by.x;
    }
    if (inside && rest == 0u) {
        let there = at * params.width + i % params.width;
        {{act}}
    } else {
        note_outside(2u, distance, place);
    }
}
