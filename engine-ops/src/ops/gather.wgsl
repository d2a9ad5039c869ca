// Word by word: which slice the word lies in, which index stands there, the same word of the slice that it names.
// An index is one word or two; the low one suffices for every axis that fits a buffer.
struct Params { n: u32, inner: u32, count: u32, size: u32, index_width: u32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let slice = i / params.inner;
    let outer = slice / params.count;
    let size = i32(params.size);
    var at = bitcast<i32>(indices[(slice - outer * params.count) * params.index_width]);
    at = clamp(select(at, at + size, at < 0), 0, size - 1);
    y[i] = x[(outer * params.size + u32(at)) * params.inner + i - slice * params.inner];
}
