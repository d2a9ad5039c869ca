{{head}}

{{weight}}

// One output an invocation: for groups of few filters, depthwise above all. The sizes of the kernel are part of the text, so that loops over
// it are unrolled.
const KERNEL = vec3<u32>({{kernel}});

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.images * params.groups * params.filters * params.outputs) { return; }
    let filter_all = i / params.outputs;
    let item = filter_all / params.filters;
    let channel = filter_all % (params.groups * params.filters);
    // A position before the input wraps to one far behind it.
    let first = origin(i % params.outputs) - params.before.xyz;
    var start = item * params.channels * plane();
    var w = channel * params.terms;
    var sum = bias(channel);
    for (var c = 0u; c < params.channels; c++) {
        for (var d = 0u; d < KERNEL.x; d++) {
            let z = first.x + d * params.dilation.x;
            for (var h = 0u; h < KERNEL.y; h++) {
                let y = first.y + h * params.dilation.y;
                let line = start + (z * params.input.y + y) * params.input.z;
                let inside = z < params.input.x && y < params.input.y;
                for (var v = 0u; v < KERNEL.z; v++) {
                    let x = first.z + v * params.dilation.z;
                    if (inside && x < params.input.z) { sum += x_in[line + x] * w_in_at(w); }
                    w++;
                }
            }
        }
        start += plane();
    }
    y_out[i] = narrow(finish(sum, i));
}
