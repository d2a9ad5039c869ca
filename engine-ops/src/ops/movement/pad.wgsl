// Axes are stored innermost first: size in the operand, size in the result, what is added in front. The innermost axis is
// the words of an element.
struct Params {
    n: u32,
    axes: u32,
    mode: u32,
    width: u32,
    by: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
{{value}}
@group(0) @binding({{y}}) var<storage, read_write> y: array<u32>;
@group(0) @binding({{params}}) var<uniform> params: Params;

fn remainder(a: i32, b: i32) -> i32 {
    let r = a % b;
    return select(r, r + b, r < 0);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    var rest = i;
    var stride = 1u;
    var src = 0u;
    var inside = true;
    for (var a = 0u; a < params.axes; a++) {
        let by = params.by[a];
        let outer = rest / by.y;
        let size = i32(by.x);
        var at = i32(rest - outer * by.y) - bitcast<i32>(by.z);
        if (params.mode == 0u) {
            inside = inside && at >= 0 && at < size;
        } else if (params.mode == 1u) {
            let period = max(2 * (size - 1), 1);
            at = remainder(at, period);
            at = select(at, period - at, at >= size);
        } else if (params.mode == 2u) {
            at = clamp(at, 0, size - 1);
        } else {
            at = remainder(at, size);
        }
        src += u32(at) * stride;
        stride *= by.x;
        rest = outer;
    }
    if (inside) {
        y[i] = x[src];
    } else {
        y[i] = {{fill}};
    }
}
