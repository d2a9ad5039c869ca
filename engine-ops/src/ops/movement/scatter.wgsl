// Updates that are joined with the elements they meet. Those of a line meet elements that no other line's do; the workers of a
// line follow all of its updates in order, and each makes those whose targets are its own.
struct Params {
    lines: u32,
    workers: u32,
    count: u32,
    // Distance between targets, which are shared among the workers in turn.
    unit: u32,
    axes: u32,
    update_step: u32,
    index_step: u32,
    tuple: u32,
    index_width: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
    // Axes over the lines, innermost first: size, distances in the updates, the indices and the data.
    by: array<vec4<u32>, 8>,
    // Per index of a tuple: size of its axis, distance along it.
    along: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<storage, read> updates: array<{{word}}>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<{{word}}>;
@group(0) @binding(4) var<uniform> params: Params;

{{position}}

{{functions}}

// Where the update with this number goes.
fn goal(start: u32, n: u32) -> u32 {
    var place = 0u;
    for (var a = 0u; a < params.tuple; a++) {
        let along = params.along[a];
        let at = (start + n * params.index_step + a) * params.index_width;
        place += position(at, params.index_width, along.x) * along.y;
    }
    return place;
}

fn joined(a: {{word}}, b: {{word}}) -> {{word}} { return {{joined}}; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    let worker = i / params.lines;
    if (worker >= params.workers) { return; }
    var rest = i % params.lines;
    var starts = vec3<u32>(0u, 0u, 0u);
    for (var a = 0u; a < params.axes; a++) {
        let by = params.by[a];
        starts += rest % by.x * by.yzw;
        rest = rest / by.x;
    }
    for (var n = 0u; n < params.count; n++) {
        let place = goal(starts.y, n);
        if (place / params.unit % params.workers == worker) {
            let there = starts.z + place;
            y[there] = joined(y[there], updates[starts.x + n * params.update_step]);
        }
    }
    {{finish}}
}
