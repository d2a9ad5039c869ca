struct Params {
    n: u32, flag: u32, least: u32, columns: u32,
    // Depth, height and width of each.
    input: vec4<u32>, output: vec4<u32>, kernel: vec4<u32>, stride: vec4<u32>, dilation: vec4<u32>, before: vec4<u32>,
    after: vec4<u32>,
}

@group(0) @binding(0) var<storage, read> x_in: array<{{T}}>;
@group(0) @binding(1) var<storage, read_write> y_out: array<{{T}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{narrow}}

{{is_nan}}

{{places}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let w = params.output.z;
    let h = params.output.y;
    let p = i % (params.output.x * h * w);
    let at = vec3<u32>(p / (w * h), p / w % h, p % w) * params.stride.xyz;
    let start = i / (params.output.x * h * w) * params.input.x * params.input.y * params.input.z;
    let reach = params.before.xyz + params.input.xyz + params.after.xyz;
    var inside = 0u;
    var padded = 0u;
    var sum = {{init}};
    for (var kd = 0u; kd < params.kernel.x; kd++) {
        for (var kh = 0u; kh < params.kernel.y; kh++) {
            for (var kw = 0u; kw < params.kernel.z; kw++) {
                let tap = at + vec3<u32>(kd, kh, kw) * params.dilation.xyz;
                if (all(tap < reach)) { padded++; }
                // A position before the input wraps to one far behind it.
                let j = tap - params.before.xyz;
                if (all(j < params.input.xyz)) {
                    inside++;
                    let x = x_in[start + (j.x * params.input.y + j.y) * params.input.z + j.z];
                    {{note}}
                    sum = {{step}};
                }
            }
        }
    }
    y_out[i] = narrow({{finish}});
    {{store}}
}
