// The powers of the n-th root of unity. The angle is taken to the nearest quarter in whole numbers, so that the quarters are exact
// and what is left of it is small.
struct Params { n: u32, inverse: u32 }

@group(0) @binding(0) var<storage, read_write> roots: array<vec2<f32>>;
@group(0) @binding(1) var<uniform> params: Params;

{{functions}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let k = gid.x + gid.y * groups.x * 64u;
    if (k >= params.n) { return; }
    let quarter_turn = (4u * k + params.n / 2u) / params.n;
    let rest = i32(4u * k) - i32(quarter_turn * params.n);
    let angle = f32(rest) / f32(params.n) * 1.5707963267948966;
    let cos = cosine_near(angle);
    let sin = sine_near(angle);
    var root = vec2<f32>(cos, sin);
    if (quarter_turn == 1u) { root = vec2<f32>(-sin, cos); }
    if (quarter_turn == 2u) { root = vec2<f32>(-cos, -sin); }
    if (quarter_turn == 3u) { root = vec2<f32>(sin, -cos); }
    roots[k] = select(vec2<f32>(root.x, -root.y), root, params.inverse == 1u);
}
