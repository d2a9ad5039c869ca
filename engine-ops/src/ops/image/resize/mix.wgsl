{{prelude}}
// One axis of a resize: every position of the result is a weighted sum of `taps` neighbours. The table holds for each position
// the first neighbour (all ones: outside, `fill` stands there) and the bits of the weights.
struct Params {
    n: u32,
    inner: u32,
    src_size: u32,
    dst_size: u32,
    taps: u32,
    fill: f32,
    unused0: u32,
    unused1: u32,
    table: array<vec4<u32>, {{table}}>,
}

@group(0) @binding(0) var<storage, {{access}}> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

fn entry(i: u32) -> u32 {
    return params.table[i / 4u][i % 4u];
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let row = i / params.inner;
    let lane = i - row * params.inner;
    let outer = row / params.dst_size;
    let at = (row - outer * params.dst_size) * (params.taps + 1u);
    let start = entry(at);
    var sum = params.fill;
    if (start != 0xffffffffu) {
        let first = (outer * params.src_size + start) * params.inner + lane;
        sum = bitcast<f32>(entry(at + 1u)) * x[first];
        for (var tap = 1u; tap < params.taps; tap++) {
            sum += bitcast<f32>(entry(at + 1u + tap)) * x[first + tap * params.inner];
        }
    }
    y[i] = {{round}};
}
