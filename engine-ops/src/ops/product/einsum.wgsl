struct Params {
    n: u32,
    terms: u32,
    kept: u32,
    summed: u32,
    // Eight words for each axis: its size, then a stride of every operand.
    table: array<vec4<u32>, {{lines}}>,
}

{{bindings}}
@group(0) @binding({{result}}) var<storage, read_write> y: array<{{word}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{functions}}

fn added(a: {{word}}, b: {{word}}) -> {{word}} { return {{add}}; }
fn multiplied(a: {{word}}, b: {{word}}) -> {{word}} { return {{multiply}}; }

fn number(i: u32) -> u32 { return params.table[i / 4u][i % 4u]; }

// Where each operand is read.
var<private> at: array<u32, {{count}}>;

// Moves on by the `index`-th combination of some axes.
fn move_by(index: u32, first: u32, axes: u32) {
    var rest = index;
    for (var a = first; a < first + axes; a++) {
        let size = number(8u * a);
        let along = rest % size;
        rest = rest / size;
        for (var k = 0u; k < {{count}}u; k++) { at[k] += along * number(8u * a + 1u + k); }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    move_by(i, 0u, params.kept);
    let start = at;
    let one = {{one}};
    var sum = {{zero}};
    for (var term = 0u; term < params.terms; term++) {
        at = start;
        move_by(term, params.kept, params.summed);
        sum = added(sum, {{product}});
    }
    y[i] = {{narrowed}};
}
