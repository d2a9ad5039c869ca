// A row and four columns of a product a workgroup: its lanes share the terms, four at a time, and add up in halves.
var<workgroup> sums: array<vec4<{{T}}>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = (cols() + 3u) / 4u;
    let i = group.x + group.y * groups.x;
    if (i >= items() * rows() * quads) { return; }
    let item = i / quads / rows();
    let row = i / quads % rows();
    let col = i % quads * 4u;
    let at = operands(item);
    let end = at.terms;
    let left_at = left_place(at, row);
{{places}}
    var sum = vec4<{{T}}>();
    for (var k = lane * 4u; k < end; k += 256u) {
        let a = left(left_at, k, end);
{{multiply}}
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { sums[lane] += sums[lane + half]; }
    }
    if (lane == 0u) { put(item, row, col, sums[0]); }
}
