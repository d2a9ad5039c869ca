// Copies `n` words, or vectors of four, between two strided layouts. Loops are stored innermost first: size, distance in the source, distance
// in the destination. Distances wrap, so negative ones work.
struct Params {
    n: u32,
    loops: u32,
    src: u32,
    dst: u32,
    by: array<vec4<u32>, 12>,
}

@group(0) @binding(0) var<storage, {{access}}> x: array<{{element}}>;
@group(0) @binding(1) var<storage, read_write> y: array<{{element}}>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    var rest = gid.x + gid.y * groups.x * 256u;
    if (rest >= params.n) { return; }
    var src = params.src;
    var dst = params.dst;
    for (var i = 0u; i < params.loops; i++) {
        let by = params.by[i];
        let outer = rest / by.x;
        let at = rest - outer * by.x;
        src += at * by.y;
        dst += at * by.z;
        rest = outer;
    }
    y[dst] = x[src];
}
