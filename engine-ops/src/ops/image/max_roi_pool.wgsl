struct Params {
    n: u32, batches: u32, channels: u32, height: u32, width: u32, rows: u32, columns: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read> regions: array<f32>;
@group(0) @binding(2) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

{{outside}}

{{functions}}

// The pixel that a corner lies in, halves rounded away from zero, and held where whole numbers do not overflow.
fn pixel(corner: f32) -> i32 {
    let at = corner * params.scale;
    if (is_nan(at)) { return 0; }
    let whole = trunc(at);
    let up = select(0.0, sign(at), abs(at - whole) >= 0.5);
    return i32(clamp(whole + up, -536870912.0, 536870912.0));
}

fn inside(at: i32, size: u32) -> u32 { return u32(clamp(at, 0, i32(size))); }

// Where the pixels of bin `i` of `count` begin and end.
fn bin(low: f32, high: f32, i: u32, count: u32, size: u32) -> vec2<u32> {
    let first = pixel(low);
    let extent = u32(max(pixel(high) - first + 1, 1));
    let whole = extent / count;
    let rest = extent % count;
    let begin = i32(i * whole + i * rest / count);
    let end = i32((i + 1u) * whole + ((i + 1u) * rest + count - 1u) / count);
    return vec2<u32>(inside(first + begin, size), inside(first + end, size));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let bins = params.rows * params.columns;
    let region = i / bins / params.channels * 5u;
    let down = bin(
        regions[region + 2u], regions[region + 4u], i % bins / params.columns, params.rows, params.height
    );
    let across = bin(
        regions[region + 1u], regions[region + 3u], i % params.columns, params.columns, params.width
    );
    let given = regions[region];
    if (is_nan(given) || given < 0.0 || given >= f32(params.batches)) {
        let index = i32(clamp(given, -2147483000.0, 2147483000.0));
        note_outside(2u, params.batches, vec2<u32>(bitcast<u32>(index), u32(index >> 31u)));
    }
    let batch = min(u32(max(given, 0.0)), params.batches - 1u);
    let plane = (batch * params.channels + i / bins % params.channels) * params.height * params.width;
    var most = 0.0;
    for (var row = down.x; row < down.y; row++) {
        for (var column = across.x; column < across.y; column++) {
            let x = x_in[plane + row * params.width + column];
            let first = row == down.x && column == across.x;
            most = select(most, x, first || x > most || is_nan(x));
        }
    }
    y_out[i] = most;
}
