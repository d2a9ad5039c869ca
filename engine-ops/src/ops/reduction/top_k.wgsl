// One invocation for each element: it counts those of its lane that come before it, and so knows its place in the result.
struct Params { n: u32, size: u32, inner: u32, k: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<{{word}}>;
@group(0) @binding(1) var<storage, read_write> values: array<{{word}}>;
{{places_binding}}
@group(0) @binding({{params}}) var<uniform> params: Params;

{{functions}}

fn above(a: {{word}}, b: {{word}}) -> bool { return {{above}}; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let lane = i / (params.size * params.inner);
    let beside = i % params.inner;
    let own = i / params.inner % params.size;
    let start = lane * params.size * params.inner + beside;
    let x = x_in[i];
    var place = 0u;
    for (var step = 0u; step < params.size; step++) {
        let other = x_in[start + step * params.inner];
        let before = {{before}};
        let level = !above(x, other) && !above(other, x);
        place += u32(before || (level && (step < own)));
    }
    if (place < params.k) {
        let to = (lane * params.k + place) * params.inner + beside;
        values[to] = x;
        {{places}}
    }
}
