// One query a workgroup, over all keys or a part of them. Its scores against 128 keys at a time stay in workgroup memory; earlier results are brought to the
// new largest score when it grows.
struct Params {
    rows: u32, heads: u32, sharing: u32, queries: u32,
    keys: u32, size: u32, width: u32, zero_nan: u32,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> q_in: array<f32>;
@group(0) @binding(1) var<storage, read> k_in: array<f32>;
@group(0) @binding(2) var<storage, read> v_in: array<f32>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<f32>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{prelude}}
{{finish}}

var<workgroup> query: array<f32, 256>;
var<workgroup> result: array<f32, 256>;
var<workgroup> powers: array<f32, 128>;
var<workgroup> folded: array<f32, 128>;

fn most_of(lane: u32, value: f32) -> f32 {
    folded[lane] = value;
    workgroupBarrier();
    for (var step = 64u; step > 0u; step /= 2u) {
        if (lane < step && folded[lane + step] > folded[lane]) { folded[lane] = folded[lane + step]; }
        workgroupBarrier();
    }
    let most = folded[0];
    workgroupBarrier();
    return most;
}

fn sum_of(lane: u32, value: f32) -> f32 {
    folded[lane] = value;
    workgroupBarrier();
    for (var step = 64u; step > 0u; step /= 2u) {
        if (lane < step) { folded[lane] += folded[lane + step]; }
        workgroupBarrier();
    }
    let sum = folded[0];
    workgroupBarrier();
    return sum;
}

{{powers}}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let task = group.x + group.y * groups.x;
    {{task}}
    if (row >= params.rows) { return; }
    let head = row / params.queries;
    let own = params.heads / params.sharing;
    let source = head / params.heads * own + head % params.heads / params.sharing;
    for (var c = lane; c < params.size; c += 128u) { query[c] = q_in[row * params.size + c]; }
    for (var c = lane; c < params.width; c += 128u) { result[c] = 0.0; }
    let lowest = -infinity();
    var most = lowest;
    var sum = 0.0;
    workgroupBarrier();
    for (var first = begin; first < end; first += 128u) {
        let key = first + lane;
        var score = lowest;
        if (key < end) {
            let at = (source * params.keys + key) * params.size;
            var product = 0.0;
            for (var c = 0u; c < params.size; c++) { product += query[c] * k_in[at + c]; }
            score = finish(product, row * params.keys + key);
        }
        let larger = max(most, most_of(lane, score));
        let kept = power_of(most, larger);
        let power = power_of(score, larger);
        powers[lane] = power;
        sum = sum * kept + sum_of(lane, power);
        most = larger;
        let count = min(128u, end - first);
        for (var c = lane; c < params.width; c += 128u) {
            var y = result[c] * kept;
            for (var j = 0u; j < count; j++) {
                y += powers[j] * v_in[(source * params.keys + first + j) * params.width + c];
            }
            result[c] = y;
        }
        workgroupBarrier();
    }
    {{store}}
}
