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

struct Operands {
    a: u32, b: u32, terms: u32,
    left_along_terms: bool, right_along_terms: bool,
}

fn items() -> u32 {
    return params.batch;
}

fn operands(item: u32) -> Operands {
    var at = Operands(0u, 0u, params.k, params.a_col == 1u, params.b_row == 1u);
    var rest = item;
    for (var d = 0u; d < params.dims; d++) {
        let dim = params.batches[d];
        at.a += rest % dim.x * dim.y;
        at.b += rest % dim.x * dim.z;
        rest /= dim.x;
    }
    return at;
}

fn a_at(start: u32, row: u32, k: u32) -> {{T}} {
    if (row < params.m && k < params.k) { return a_in[start + row * params.a_row + k * params.a_col]; }
    return {{T}}(0);
}

fn b_at(start: u32, k: u32, col: u32) -> {{T}} {
    if (k < params.k && col < params.n) { return b_in[start + k * params.b_row + col * params.b_col]; }
    return {{T}}(0);
}

fn left(at: Operands, row: u32, k: u32) -> vec4<{{T}}> {
    return vec4<{{T}}>(
        a_at(at.a, row, k), a_at(at.a, row + 1u, k), a_at(at.a, row + 2u, k), a_at(at.a, row + 3u, k));
}

fn right_place(col: u32) -> u32 {
    return col;
}

fn right(at: Operands, col: u32, k: u32) -> vec4<{{T}}> {
    return vec4<{{T}}>(
        b_at(at.b, k, col), b_at(at.b, k, col + 1u), b_at(at.b, k, col + 2u), b_at(at.b, k, col + 3u));
}

fn put(item: u32, row: u32, col: u32, sum: {{T}}) {
    if (row < params.m && col < params.n) {
        let i = (item * params.m + row) * params.n + col;
        y_out[i] = narrow(finish({{scale}} + addend(row, col), i));
    }
}

{{product}}
