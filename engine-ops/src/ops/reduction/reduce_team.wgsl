{{common}}

var<workgroup> partial: array<{{sum}}, 256>;

// One workgroup for each result: every invocation folds each 256th element, then the partial folds are merged in halves.
@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let out = group.x + group.y * groups.x;
    if (out >= params.results) { return; }
    {{before}}
    let base = kept_offset(out);
    var sum: {{sum}} = {{start}};
    for (var i = lane; i < params.count; i += 256u) { sum = fold_in(sum, x_in[base + reduced_offset(i)]); }
    partial[lane] = sum;
    for (var width = 128u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) { partial[lane] = fold_two(partial[lane], partial[lane + width]); }
    }
    if (lane == 0u) { y_out[out] = finish(partial[0]); }
}
