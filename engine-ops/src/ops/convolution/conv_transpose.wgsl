struct Params {
    groups: u32, channels: u32, filters: u32, n: u32,
    // Depth, height and width of each; `input` is Y's and `output` X's, as in the convolution that is taken back.
    input: vec4<u32>, output: vec4<u32>, kernel: vec4<u32>, stride: vec4<u32>, dilation: vec4<u32>, before: vec4<u32>,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> x_in: array<{{T}}>;
@group(0) @binding(1) var<storage, read> w_in: array<{{w_element}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<{{T}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{weight}}

{{bias}}

{{narrow}}

{{finish}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let h = params.input.y;
    let w = params.input.z;
    let plane = params.input.x * h * w;
    let p = i % plane;
    let at = vec3<u32>(p / (w * h), p / w % h, p % w) + params.before.xyz;
    let filter_all = i / plane;
    let item = filter_all / params.filters;
    let channel = filter_all % (params.groups * params.filters);
    let x_plane = params.output.x * params.output.y * params.output.z;
    let taps = params.kernel.x * params.kernel.y * params.kernel.z;
    let x0 = item * params.channels * x_plane;
    let w0 = (item % params.groups * params.channels * params.filters + filter_all % params.filters) * taps;
    var sum = bias(channel);
    for (var t = 0u; t < taps; t++) {
        let tap = vec3<u32>(
            t / (params.kernel.z * params.kernel.y), t / params.kernel.z % params.kernel.y, t % params.kernel.z);
        // A tap that lies before the first input wraps to one far behind the last.
        let steps = at - tap * params.dilation.xyz;
        let j = steps / params.stride.xyz;
        if (all(j < params.output.xyz) && all(j * params.stride.xyz == steps)) {
            let source = (j.x * params.output.y + j.y) * params.output.z + j.z;
            for (var c = 0u; c < params.channels; c++) {
                sum += x_in[x0 + c * x_plane + source] * w_in_at(w0 + c * params.filters * taps + t);
            }
        }
    }
    y_out[i] = narrow(finish(sum, i));
}
