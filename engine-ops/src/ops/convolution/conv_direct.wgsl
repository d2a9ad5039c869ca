{{head}}

// One output an invocation: for groups of few filters, depthwise above all.
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.images * params.groups * params.filters * params.outputs) { return; }
    let filter_all = i / params.outputs;
    let item = filter_all / params.filters;
    let channel = filter_all % (params.groups * params.filters);
    let at = origin(i % params.outputs);
    let plane = params.input.x * params.input.y * params.input.z;
    var start = item * params.channels * plane;
    var w = channel * params.terms;
    var sum = bias(channel);
    for (var c = 0u; c < params.channels; c++) {
        for (var d = 0u; d < params.kernel.x; d++) {
            for (var h = 0u; h < params.kernel.y; h++) {
                for (var v = 0u; v < params.kernel.z; v++) {
                    sum += x_at(start, at, vec3<u32>(d, h, v)) * w_in[w];
                    w++;
                }
            }
        }
        start += plane;
    }
    y_out[i] = narrow(finish(sum, i));
}
