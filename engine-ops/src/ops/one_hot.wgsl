struct Params { n: u32, depth: u32, inner: u32, width: u32, index_width: u32 }

@group(0) @binding(0) var<storage, read> indices: array<u32>;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    let lane = element / params.inner;
    let outer = lane / params.depth;
    let which = (outer * params.inner + element % params.inner) * params.index_width;
    let low = bitcast<i32>(indices[which]);
    // A second word other than the sign of the first is an index far outside.
    let near = params.index_width == 1u || bitcast<i32>(indices[which + params.index_width - 1u]) == (low >> 31u);
    let index = select(low, low + i32(params.depth), low < 0);
    let hit = near && index == i32(lane % params.depth);
    y[i] = values[select(0u, params.width, hit) + i % params.width];
}
