// 64 × 64 elements of the product a workgroup, 4 × 4 an invocation, 16 terms at a time through workgroup memory.
struct Params {
    batch: u32, m: u32, n: u32, k: u32,
    down: u32, across: u32, dims: u32, unused: u32,
    a_row: u32, a_col: u32, b_row: u32, b_col: u32,
    c_row: u32, c_col: u32, alpha: u32, beta: u32,
    batches: array<vec4<u32>, 6>,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> a_in: array<{{T}}>;
@group(0) @binding(1) var<storage, read> b_in: array<{{T}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<{{T}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{addend}}

{{narrow}}

{{finish}}

// For each term four neighbouring rows (columns) in one vector. One vector of padding a line spreads the banks.
const LINE: u32 = 17u;
var<workgroup> a_tile: array<vec4<{{T}}>, 272>;
var<workgroup> b_tile: array<vec4<{{T}}>, 272>;

fn a_at(start: u32, row: u32, k: u32) -> {{T}} {
    if (row < params.m && k < params.k) { return a_in[start + row * params.a_row + k * params.a_col]; }
    return {{T}}(0);
}

fn b_at(start: u32, k: u32, col: u32) -> {{T}} {
    if (k < params.k && col < params.n) { return b_in[start + k * params.b_row + col * params.b_col]; }
    return {{T}}(0);
}

fn put(start: u32, row: u32, col: u32, sum: {{T}}) {
    if (row < params.m && col < params.n) {
        let i = start + row * params.n + col;
        y_out[i] = narrow(finish({{scale}} + addend(row, col), i));
    }
}

fn put_row(start: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    put(start, row, col, sums.x);
    put(start, row, col + 1u, sums.y);
    put(start, row, col + 2u, sums.z);
    put(start, row, col + 3u, sums.w);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let item = tile / (params.down * params.across);
    if (item >= params.batch) { return; }
    let within = tile % (params.down * params.across);
    let row0 = within / params.across * 64u;
    let col0 = within % params.across * 64u;
    var a_start = 0u;
    var b_start = 0u;
    var rest = item;
    for (var d = 0u; d < params.dims; d++) {
        let dim = params.batches[d];
        a_start += rest % dim.x * dim.y;
        b_start += rest % dim.x * dim.z;
        rest /= dim.x;
    }

    // Neighbouring invocations load neighbouring addresses, whichever way an operand lies.
    let lo = local % 16u;
    let hi = local / 16u;
    let a_k = select(hi, lo, params.a_col == 1u);
    let a_4 = select(lo, hi, params.a_col == 1u);
    let b_k = select(hi, lo, params.b_row == 1u);
    let b_4 = select(lo, hi, params.b_row == 1u);
    let tx = lo;
    let ty = hi;
    var s0 = vec4<{{T}}>();
    var s1 = vec4<{{T}}>();
    var s2 = vec4<{{T}}>();
    var s3 = vec4<{{T}}>();
    for (var k0 = 0u; k0 < params.k; k0 += 16u) {
        let row = row0 + a_4 * 4u;
        let col = col0 + b_4 * 4u;
        let ka = k0 + a_k;
        let kb = k0 + b_k;
        a_tile[a_k * LINE + a_4] = vec4<{{T}}>(
            a_at(a_start, row, ka), a_at(a_start, row + 1u, ka), a_at(a_start, row + 2u, ka), a_at(a_start, row + 3u, ka));
        b_tile[b_k * LINE + b_4] = vec4<{{T}}>(
            b_at(b_start, kb, col), b_at(b_start, kb, col + 1u), b_at(b_start, kb, col + 2u), b_at(b_start, kb, col + 3u));
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let a = a_tile[k * LINE + ty];
            let b = b_tile[k * LINE + tx];
            s0 += a.x * b;
            s1 += a.y * b;
            s2 += a.z * b;
            s3 += a.w * b;
        }
        workgroupBarrier();
    }
    let y_start = item * params.m * params.n;
    let row = row0 + ty * 4u;
    let col = col0 + tx * 4u;
    put_row(y_start, row, col, s0);
    put_row(y_start, row + 1u, col, s1);
    put_row(y_start, row + 2u, col, s2);
    put_row(y_start, row + 3u, col, s3);
}
