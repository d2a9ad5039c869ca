struct Params {
    results: u32,
    count: u32,
    pad0: u32,
    pad1: u32,
    kept: array<vec4<u32>, {{kept}}>,
    reduced: array<vec4<u32>, {{reduced}}>,
}

@group(0) @binding(0) var<storage, read> x_in: array<{{word}}>;
@group(0) @binding(1) var<storage, read_write> y_out: array<{{word}}>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

// NaN wins over every number.
fn larger(a: f32, b: f32) -> f32 { if (is_nan(a)) { return a; } if (is_nan(b)) { return b; } return max(a, b); }
fn smaller(a: f32, b: f32) -> f32 { if (is_nan(a)) { return a; } if (is_nan(b)) { return b; } return min(a, b); }

// What is taken off before exponentials.
var<private> most: f32 = 0.0;

fn fold_in(a: {{sum}}, b: {{word}}) -> {{sum}} { return {{step}}; }
fn fold_two(a: {{sum}}, b: {{sum}}) -> {{sum}} { return {{merge}}; }
fn finish(a: {{sum}}) -> {{word}} { return {{finish}}; }

fn kept_offset(out: u32) -> u32 {
    var rest = out;
    var at = 0u;
    for (var d = 0u; d < {{kept}}u; d++) {
        at += rest % params.kept[d].x * params.kept[d].y;
        rest = rest / params.kept[d].x;
    }
    return at;
}
fn reduced_offset(i: u32) -> u32 {
    var rest = i;
    var at = 0u;
    for (var d = 0u; d < {{reduced}}u; d++) {
        at += rest % params.reduced[d].x * params.reduced[d].y;
        rest = rest / params.reduced[d].x;
    }
    return at;
}
