// Axes are stored innermost first: size in the result, distance between neighbours in the operand, and where the axis's table
// of source positions begins (all ones: there is none, positions are the same). All ones in a table stand for `fill`.
struct Params {
    n: u32,
    axes: u32,
    fill: u32,
    unused: u32,
    by: array<vec4<u32>, 8>,
    table: array<vec4<u32>, {{table}}>,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

const NONE = 0xffffffffu;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    var rest = i;
    var src = 0u;
    var inside = true;
    for (var a = 0u; a < params.axes; a++) {
        let by = params.by[a];
        let outer = rest / by.x;
        var at = rest - outer * by.x;
        if (by.z != NONE) {
            let entry = by.z + at;
            at = params.table[entry / 4u][entry % 4u];
            inside = inside && at != NONE;
        }
        src += at * by.y;
        rest = outer;
    }
    if (inside) {
        y[i] = x[src];
    } else {
        y[i] = params.fill;
    }
}
