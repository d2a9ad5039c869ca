// Word by word, or by vectors of four: which slice it lies in, which index stands there, the same of the slice that it names. An index is one
// word or two.
struct Params { n: u32, inner: u32, count: u32, size: u32, index_width: u32 }

@group(0) @binding(0) var<storage, read> x: array<{{x_element}}>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<{{element}}>;
@group(0) @binding(4) var<uniform> params: Params;

{{reader}}

{{position}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let slice = i / params.inner;
    let outer = slice / params.count;
    let width = params.index_width;
    let at = position((slice - outer * params.count) * width, width, params.size);
    y[i] = bitcast<{{element}}>(x_at((outer * params.size + at) * params.inner + i - slice * params.inner));
}
