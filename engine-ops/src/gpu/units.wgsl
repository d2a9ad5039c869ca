// {{rows}} × {{cols}} elements of a product a workgroup, {{terms}} terms at a time through workgroup memory, by matrix units. The operator says
// what is multiplied, as for tiles without them. Elements are f32, and split into halves while they are stored.
@group(0) @binding({{parts_binding}}) var<storage, read_write> magnitudes_in: array<u32>;
var<workgroup> left_tile: array<vec4<f16>, {{left_size}}>;
var<workgroup> right_tile: array<vec4<f16>, {{right_size}}>;
var<workgroup> left_scale: array<f32, {{rows}}>;
var<workgroup> right_scale: array<f32, {{cols}}>;
var<workgroup> kept: array<vec4<f32>, {{patch_size}}>;

// The power of two that brings the largest of the magnitudes from `start` on, `step` apart, to 2^14 or above, below 2^15; 0 for NaN and
// infinities.
fn scale_of(start: u32, step: u32, exact: bool) -> f32 {
    var bits = 0u;
    for (var i = 0u; i < params.parts; i++) { bits = max(bits, magnitudes_in[start + i * step]); }
    if (bits >= 0x7f800000u) { return 0.0; }
    if (exact) { return 1.0; }
    return bitcast<f32>(min(268u - (bits >> 23u), 254u) << 23u);
}

// The nearest number of 11 bits, by its bits: a conversion to halves and back would be taken for nothing.
fn high(v: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((bitcast<vec4<u32>>(v) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}

fn power(n: i32) -> f32 { return bitcast<f32>(u32(max(n, -126) + 127) << 23u); }
fn exponent(scale: f32) -> i32 { return i32(bitcast<u32>(scale) >> 23u) - 127; }

fn plain(at: Operands, row: u32, col: u32) -> vec4<f32> {
    var sum = vec4<f32>();
{{plain}}
    return sum;
}

// Writes a patch of 16 × 16 sums: two vectors an invocation.
fn finish_patch(
    item: u32, at: Operands, high: u32, low: u32, row0: u32, col0: u32, kept_at: u32, lane: u32,
) {
    for (var i = lane; i < 64u; i += 32u) {
        let row = high + i / 4u;
        let col = low + i % 4u * 4u;
        var sums = kept[kept_at + i];
        var odd = vec4<bool>(false);
        for (var j = 0u; j < 4u; j++) {
            let scales = vec2<f32>(left_scale[row], right_scale[col + j]);
            let n = -exponent(scales.x) - exponent(scales.y);
            sums[j] = sums[j] * power(n / 2) * power(n - n / 2);
            odd[j] = scales.x == 0.0 || scales.y == 0.0;
        }
        if (any(odd) && row0 + row < rows() && col0 + col < cols()) {
            sums = select(sums, plain(at, row0 + row, col0 + col), odd);
        }
        put(item, row0 + row, col0 + col, sums);
    }
}

@compute @workgroup_size({{invocations}})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let item = tile / (params.down * params.across);
    if (item >= items()) { return; }
    let within = tile % (params.down * params.across);
    let row0 = within / params.across * {{rows}}u;
    let col0 = within % params.across * {{cols}}u;
    let at = operands(item);
    let first = 0u;
    let end = at.terms;
    let kept_at = local / 32u * 64u;
    let hi = local / 32u / {{across}}u * {{high}}u;
    let lo = local / 32u % {{across}}u * {{wide}}u;
{{places}}
    for (var i = local; i < {{rows}}u; i += {{invocations}}u) {
        let side = min(row0 + i, rows() - 1u);
        left_scale[i] = scale_of(item * params.parts * rows() + side, rows(), false);
    }
    for (var i = local; i < {{cols}}u; i += {{invocations}}u) {
        let side = min(col0 + i, cols() - 1u);
        let start = params.parts * (items() * rows() + item * cols());
        right_scale[i] = scale_of(start + side, cols(), {{exact}});
    }
    workgroupBarrier();
{{scales}}
    for (var k0 = first; k0 < end; k0 += {{terms}}u) {
{{store}}
        workgroupBarrier();
{{load}}
{{multiply}}
        workgroupBarrier();
    }
    // A loop, so that the text of what follows the sums is there once.
    let step = 4u;
    for (var n = 0u; n < {{patches}}u; n++) {
{{put}}
        workgroupBarrier();
        let high = hi + n / {{patches_across}}u * 16u;
        let low = lo + n % {{patches_across}}u * 16u;
        finish_patch(item, at, high, low, row0, col0, kept_at, local % 32u);
        workgroupBarrier();
    }
}
