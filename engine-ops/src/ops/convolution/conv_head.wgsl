struct Params {
    images: u32, groups: u32, channels: u32, filters: u32,
    outputs: u32, terms: u32, down: u32, across: u32,
    // Depth, height and width of each.
    input: vec4<u32>, output: vec4<u32>, kernel: vec4<u32>, stride: vec4<u32>, dilation: vec4<u32>, before: vec4<u32>,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> x_in: array<{{T}}>;
@group(0) @binding(1) var<storage, read> w_in: array<{{T}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<{{T}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{bias}}

{{narrow}}

{{finish}}

// Where the first tap at an output lies, shifted by the padding.
fn origin(p: u32) -> vec3<u32> {
    let w = params.output.z;
    let h = params.output.y;
    return vec3<u32>(p / (w * h), p / w % h, p % w) * params.stride.xyz;
}

// The input under a tap, 0 on padding. A position before the input wraps to one far behind it.
fn x_at(start: u32, at: vec3<u32>, tap: vec3<u32>) -> {{T}} {
    let i = at + tap * params.dilation.xyz - params.before.xyz;
    if (i.x < params.input.x && i.y < params.input.y && i.z < params.input.z) {
        return x_in[start + (i.x * params.input.y + i.y) * params.input.z + i.z];
    }
    return {{T}}(0);
}
