struct Params { rows: u32, along: u32, inner: u32, last: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<{{word}}>;
@group(0) @binding(1) var<storage, read_write> y_out: array<vec2<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

const TEAM = 128u;
var<workgroup> values: array<{{word}}, TEAM>;
var<workgroup> places: array<u32, TEAM>;

fn less(a: {{word}}, b: {{word}}) -> bool { return {{less}}; }
fn missing(a: {{word}}) -> bool { return {{nan}}; }

// Whether `a` at place `i` is to be taken rather than `b` at place `j`.
fn better(a: {{word}}, i: u32, b: {{word}}, j: u32) -> bool {
    if (missing(a) != missing(b)) { return missing(a); }
    let ties = (missing(a) && missing(b)) || ({{same}});
    if (ties) { return select((i < j), (i > j), params.last == 1u); }
    return {{beats}};
}

// One workgroup for each result.
@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row / params.inner * params.along * params.inner + row % params.inner;
    var place = min(lane, params.along - 1u);
    var value = x_in[base + place * params.inner];
    for (var i = lane; i < params.along; i += TEAM) {
        let next = x_in[base + i * params.inner];
        if (better(next, i, value, place)) { value = next; place = i; }
    }
    values[lane] = value;
    places[lane] = place;
    for (var width = TEAM / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width && better(values[lane + width], places[lane + width], values[lane], places[lane])) {
            values[lane] = values[lane + width];
            places[lane] = places[lane + width];
        }
    }
    if (lane == 0u) { y_out[row] = vec2<u32>(places[0], 0u); }
}
