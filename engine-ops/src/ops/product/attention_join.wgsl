// Joins what parts of the keys gave a query: for each part its largest score, the sum of powers relative to that, and the values that
// these weigh. One query a workgroup.
struct Params {
    rows: u32, heads: u32, sharing: u32, queries: u32,
    keys: u32, width: u32, zero_nan: u32, parts: u32,
}

@group(0) @binding(0) var<storage, read_write> parts: array<f32>;
@group(0) @binding(1) var<storage, read> v_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

{{prelude}}

{{powers}}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) { return; }
    let head = row / params.queries;
    let own = params.heads / params.sharing;
    let source = head / params.heads * own + head % params.heads / params.sharing;
    let size = params.width + 2u;
    let first = row * params.parts * size;
    var most = -infinity();
    for (var i = 0u; i < params.parts; i++) { most = max(most, parts[first + i * size]); }
    var sum = 0.0;
    for (var i = 0u; i < params.parts; i++) {
        let at = first + i * size;
        sum += parts[at + 1u] * power_of(parts[at], most);
    }
    for (var c = lane; c < params.width; c += 64u) {
        var y = nan();
        if (!is_nan(sum) && sum > 0.0) {
            var weighed = 0.0;
            for (var i = 0u; i < params.parts; i++) {
                let at = first + i * size;
                weighed += parts[at + 2u + c] * power_of(parts[at], most);
            }
            y = weighed / sum;
        } else if (params.zero_nan != 0u) {
            y = nothing_of(source, c);
        }
        y_out[row * params.width + c] = y;
    }
}
