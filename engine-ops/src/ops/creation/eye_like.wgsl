// Word by word: an element is `one` on the diagonal, zero elsewhere.
struct Params { n: u32, columns: u32, k: i32, width: u32, one: vec2<u32> }

@group(0) @binding(0) var<storage, read_write> y_out: array<u32>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    let row = i32(element / params.columns);
    let column = i32(element % params.columns);
    y_out[i] = select(0u, params.one[i % params.width], column == row + params.k);
}
