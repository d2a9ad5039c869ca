struct Params {
    batch: u32, m: u32, n: u32, k: u32,
    down: u32, across: u32, parts: u32, part: u32,
    a_row: u32, a_col: u32, b_row: u32, b_col: u32,
    c_row: u32, c_col: u32, alpha: u32, beta: u32,
    dims: u32, pad0: u32, pad1: u32, pad2: u32,
    batches: array<vec4<u32>, 6>,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> a_in: array<{{a_element}}>;
@group(0) @binding(1) var<storage, read> b_in: array<{{b_element}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<{{y_element}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{addend}}

{{narrow}}

{{finish}}

struct Operands { a: u32, b: u32, terms: u32 }

fn items() -> u32 { return params.batch; }
fn rows() -> u32 { return params.m; }
fn cols() -> u32 { return params.n; }

fn operands(item: u32) -> Operands {
    var at = Operands(0u, 0u, params.k);
    var rest = item;
    for (var d = 0u; d < params.dims; d++) {
        let dim = params.batches[d];
        at.a += rest % dim.x * dim.y;
        at.b += rest % dim.x * dim.z;
        rest /= dim.x;
    }
    return at;
}

{{loaders}}

// Four neighbouring elements of a row, as far as they are in the product.
fn put(item: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    if (row >= params.m || col >= params.n) { return; }
    let i = (item * params.m + row) * params.n + col;
    {{write}}
}

{{product}}
