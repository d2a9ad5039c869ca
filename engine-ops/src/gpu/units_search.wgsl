// For 64 rows of the left operand, or 64 columns of the right one, the largest magnitude among the terms of a part, as bits: those of NaN
// and infinity are above all others.
@group(0) @binding({{parts_binding}}) var<storage, read_write> magnitudes_out: array<u32>;
var<workgroup> kept: array<vec4<u32>, 256>;

fn magnitudes(v: vec4<f32>) -> vec4<u32> { return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu); }
fn largest(m: vec4<u32>) -> u32 { return max(max(m.x, m.y), max(m.z, m.w)); }

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let all = group.x + group.y * groups.x;
    let left_blocks = (rows() + 63u) / 64u;
    let blocks = left_blocks + (cols() + 63u) / 64u;
    if (all >= items() * params.parts * blocks) { return; }
    let block = all % blocks;
    let part = all / blocks;
    let at = operands(part / params.parts);
    let first = part % params.parts * params.part;
    let end = min(first + params.part, at.terms);
    let is_left = block < left_blocks;
    let side0 = select(block - left_blocks, block, is_left) * 64u;
    let size = select(cols(), rows(), is_left);
    let start = select(items() * params.parts * rows(), 0u, is_left) + part * size;
    var found = vec4<u32>();
    if (is_left) {
{{left}}
    } else {
{{right}}
    }
    kept[local] = found;
    workgroupBarrier();
    if (local < 16u) {
        for (var i = 1u; i < 16u; i++) { found = max(found, kept[i * 16u + local]); }
        for (var i = 0u; i < 4u; i++) {
            let side = side0 + local * 4u + i;
            if (side < size) { magnitudes_out[start + side] = found[i]; }
        }
    }
}
