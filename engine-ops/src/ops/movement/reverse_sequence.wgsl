// Word by word: where a step of a sequence that turns round comes from.
struct Params { n: u32, width: u32, batches: u32, batch_stride: u32, steps: u32, time_stride: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<u32>;
@group(0) @binding(1) var<storage, read> lengths: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y_out: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

{{outside}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    let t = element / params.time_stride % params.steps;
    let given = lengths[element / params.batch_stride % params.batches];
    if (given.y != 0u || given.x > params.steps) { note_outside(2u, params.steps + 1u, given); }
    let length = min(given.x, params.steps);
    let source = select(t, length - 1u - t, t < length);
    let origin = element - t * params.time_stride + source * params.time_stride;
    y_out[i] = x_in[origin * params.width + i % params.width];
}
