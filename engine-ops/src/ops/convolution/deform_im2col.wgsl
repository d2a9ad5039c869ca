struct Axis { input: u32, output: u32, kernel: u32, stride: u32, dilation: u32, before: u32 }
struct Params { n: u32, channels: u32, groups: u32, unused: u32, axes: array<vec4<u32>, 4> }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read> offset_in: array<f32>;
{{mask_binding}}
@group(0) @binding({{out}}) var<storage, read_write> y_out: array<f32>;
@group(0) @binding({{params}}) var<uniform> params: Params;

{{functions}}

fn axis(i: u32) -> Axis {
    let a = params.axes[2u * i];
    let b = params.axes[2u * i + 1u];
    return Axis(a.x, a.y, a.z, a.w, b.x, b.y);
}

fn line(a: Axis, at: u32, tap: u32) -> f32 {
    return f32(at * a.stride + tap * a.dilation) - f32(a.before);
}

// One pixel; those outside, and all where a place is no number, count as 0.
fn pixel(plane: u32, height: u32, width: u32, row: f32, column: f32) -> f32 {
    let inside = (row >= 0.0) && (row < f32(height)) && (column >= 0.0) && (column < f32(width));
    if (!inside) { return 0.0; }
    return x_in[(plane * height + u32(row)) * width + u32(column)];
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let down = axis(0u);
    let across = axis(1u);
    let places = down.output * across.output;
    let taps = down.kernel * across.kernel;
    let at = i % places;
    let tap = i / places % taps;
    let channel = i / places / taps;
    let group = channel % params.channels / (params.channels / params.groups);
    let rows = (channel / params.channels * params.groups + group) * taps + tap;
    let v = line(down, at / across.output, tap / across.kernel) + offset_in[2u * rows * places + at];
    let h = line(across, at % across.output, tap % across.kernel) + offset_in[(2u * rows + 1u) * places + at];
    let top = floor(v);
    let left = floor(h);
    let upper = (1.0 - (h - left)) * pixel(channel, down.input, across.input, top, left)
        + (h - left) * pixel(channel, down.input, across.input, top, left + 1.0);
    let lower = (1.0 - (h - left)) * pixel(channel, down.input, across.input, top + 1.0, left)
        + (h - left) * pixel(channel, down.input, across.input, top + 1.0, left + 1.0);
    let value = ((1.0 - (v - top)) * upper + (v - top) * lower) * {{mask}};
    y_out[i] = {{y}};
}
