struct Params {
    n: u32,
    columns: u32,
    width: u32,
    grams: u32,
    shortest: u32,
    longest: u32,
    skips: u32,
    counted: u32,
    // For each n-gram its length, place, where its items begin, and weight; then the items, two in a line.
    table: array<vec4<u32>, {{lines}}>,
}

@group(0) @binding(0) var<storage, read> x: array<{{word}}>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

fn wide(v: {{word}}) -> vec2<u32> { return {{item}}; }

fn item(i: u32) -> vec2<u32> {
    let line = params.table[params.grams + i / 2u];
    return select(line.xy, line.zw, i % 2u == 1u);
}

// Whether the items from `at` on, `step` apart, are those of the n-gram.
fn found(at: u32, step: u32, length: u32, items: u32) -> bool {
    for (var k = 0u; k < length; k++) {
        if (any(wide(x[at + k * step]) != item(items + k))) { return false; }
    }
    return true;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let row = i / params.width * params.columns;
    let place = i % params.width;
    var count = 0.0;
    var weight = 1.0;
    for (var g = 0u; g < params.grams; g++) {
        let gram = params.table[g];
        if (gram.y != place || gram.x < params.shortest || gram.x > params.longest) { continue; }
        weight = bitcast<f32>(gram.w);
        // How far apart items are makes no difference to a single one.
        let steps = select(params.skips + 1u, 1u, gram.x == 1u);
        for (var step = 1u; step <= steps; step++) {
            let span = step * (gram.x - 1u);
            for (var start = 0u; start + span < params.columns; start++) {
                if (found(row + start, step, gram.x, gram.z)) { count += 1.0; }
            }
        }
    }
    y[i] = weight * select(f32(count > 0.0), count, params.counted == 1u);
}
