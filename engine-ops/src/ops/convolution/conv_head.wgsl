struct Params {
    images: u32, groups: u32, channels: u32, filters: u32,
    outputs: u32, terms: u32, pad0: u32, pad1: u32,
    down: u32, across: u32, parts: u32, part: u32,
    // Depth, height and width of each.
    input: vec4<u32>, output: vec4<u32>, kernel: vec4<u32>, stride: vec4<u32>, dilation: vec4<u32>, before: vec4<u32>,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> x_in: array<{{x_element}}>;
@group(0) @binding(1) var<storage, read> w_in: array<{{w_element}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<{{y_element}}>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{bias}}

{{narrow}}

{{finish}}

// Elements of a channel of an image.
fn plane() -> u32 {
    return params.input.x * params.input.y * params.input.z;
}

// Where the first tap at an output lies, shifted by the padding.
fn origin(p: u32) -> vec3<u32> {
    let w = params.output.z;
    let h = params.output.y;
    return vec3<u32>(p / (w * h), p / w % h, p % w) * params.stride.xyz;
}
