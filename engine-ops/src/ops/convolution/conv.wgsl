{{head}}

// A matrix product of filters and unrolled input, 64 × 64 outputs a workgroup, 4 × 4 an invocation, 16 terms at a time
// through workgroup memory. The input is unrolled while it is loaded.
const LINE: u32 = 17u;
var<workgroup> w_tile: array<vec4<{{T}}>, 272>;
var<workgroup> x_tile: array<vec4<{{T}}>, 272>;

fn w_at(start: u32, row: u32, k: u32) -> {{T}} {
    if (row < params.filters && k < params.terms) { return w_in[start + row * params.terms + k]; }
    return {{T}}(0);
}

fn put(item: u32, row: u32, col: u32, sum: {{T}}) {
    if (row < params.filters && col < params.outputs) {
        let channel = item % params.groups * params.filters + row;
        let i = (item * params.filters + row) * params.outputs + col;
        y_out[i] = narrow(finish(sum + bias(channel), i));
    }
}

fn put_row(item: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    put(item, row, col, sums.x);
    put(item, row, col + 1u, sums.y);
    put(item, row, col + 2u, sums.z);
    put(item, row, col + 3u, sums.w);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let item = tile / (params.down * params.across);
    if (item >= params.images * params.groups) { return; }
    let within = tile % (params.down * params.across);
    let row0 = within / params.across * 64u;
    let col0 = within % params.across * 64u;
    let plane = params.input.x * params.input.y * params.input.z;
    let x_start = item * params.channels * plane;
    let w_start = item % params.groups * params.filters * params.terms;

    let lo = local % 16u;
    let hi = local / 16u;
    // Filters lie along k, the input along the outputs: neighbours load neighbouring addresses.
    let row = row0 + hi * 4u;
    let col = col0 + lo * 4u;
    let at0 = origin(col);
    let at1 = origin(col + 1u);
    let at2 = origin(col + 2u);
    let at3 = origin(col + 3u);
    var s0 = vec4<{{T}}>();
    var s1 = vec4<{{T}}>();
    var s2 = vec4<{{T}}>();
    var s3 = vec4<{{T}}>();
    for (var k0 = 0u; k0 < params.terms; k0 += 16u) {
        let kw = k0 + lo;
        w_tile[lo * LINE + hi] = vec4<{{T}}>(
            w_at(w_start, row, kw), w_at(w_start, row + 1u, kw), w_at(w_start, row + 2u, kw), w_at(w_start, row + 3u, kw));
        let kx = k0 + hi;
        var x = vec4<{{T}}>();
        if (kx < params.terms) {
            let kz = params.kernel.z;
            let ky = params.kernel.y;
            let tap = vec3<u32>(kx / (kz * ky) % params.kernel.x, kx / kz % ky, kx % kz);
            let start = x_start + kx / (kz * ky * params.kernel.x) * plane;
            x = vec4<{{T}}>(
                x_at(start, at0, tap), x_at(start, at1, tap), x_at(start, at2, tap), x_at(start, at3, tap));
        }
        x_tile[hi * LINE + lo] = x;
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let a = w_tile[k * LINE + hi];
            let b = x_tile[k * LINE + lo];
            s0 += a.x * b;
            s1 += a.y * b;
            s2 += a.z * b;
            s3 += a.w * b;
        }
        workgroupBarrier();
    }
    put_row(item, row, col, s0);
    put_row(item, row + 1u, col, s1);
    put_row(item, row + 2u, col, s2);
    put_row(item, row + 3u, col, s3);
}
