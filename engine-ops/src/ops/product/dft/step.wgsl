struct Params { total: u32, n: u32, radix: u32, done: u32, left: u32 }

@group(0) @binding(0) var<storage, read_write> roots: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> a: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> b: array<vec2<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.total) { return; }
    let k = i % params.n / params.left;
    let whole = params.done * params.radix;
    var at = i - i % params.n + k % params.done * params.radix * params.left + i % params.left;
    var turn = 0u;
    var sum = vec2<f32>(0.0, 0.0);
    for (var q = 0u; q < params.radix; q++) {
        let value = a[at];
        let root = roots[turn * params.left];
        sum += vec2<f32>(value.x * root.x - value.y * root.y, value.x * root.y + value.y * root.x);
        at += params.left;
        turn += k;
        if (turn >= whole) { turn -= whole; }
    }
    b[i] = sum;
}
