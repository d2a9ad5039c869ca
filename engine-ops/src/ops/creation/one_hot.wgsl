struct Params { n: u32, depth: u32, inner: u32, width: u32, index_width: u32 }

@group(0) @binding(0) var<storage, read> indices: array<u32>;
@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

{{functions}}

// The index at a place, as an integer of 64 bits.
fn index_at(at: u32) -> vec2<u32> {
    let word = indices[at];
    return {{index}};
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    let lane = element / params.inner;
    let outer = lane / params.depth;
    let which = (outer * params.inner + element % params.inner) * params.index_width;
    let wide = index_at(which);
    let low = bitcast<i32>(wide.x);
    // A second word other than the sign of the first is an index far outside.
    let near = bitcast<i32>(wide.y) == (low >> 31u);
    let index = select(low, low + i32(params.depth), low < 0);
    let hit = near && index == i32(lane % params.depth);
    y[i] = values[select(0u, params.width, hit) + i % params.width];
}
