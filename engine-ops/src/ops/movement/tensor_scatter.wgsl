// Every word of the result is that of the row that was written there, or the cache's.
struct Params { n: u32, row: u32, length: u32, rows: u32, per_batch: u32, circular: u32 }

@group(0) @binding(0) var<storage, read> cache: array<u32>;
@group(0) @binding(1) var<storage, read> update: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{outside}}
{{first}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let line = i / params.row;
    let block = line / params.length;
    var row = i32(line % params.length) - first(block / params.per_batch);
    if (params.circular == 1u) {
        let length = i32(params.length);
        row = (row % length + length) % length;
    }
    if (row >= 0 && row < i32(params.rows)) {
        y[i] = update[(block * params.rows + u32(row)) * params.row + i % params.row];
    } else {
        y[i] = cache[i];
    }
}
