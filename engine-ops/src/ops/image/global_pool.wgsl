struct Params { n: u32, size: u32, init: u32, unused: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

{{narrow}}

{{is_nan}}

// Lanes of a channel, and channels of a workgroup.
const TEAM = {{team}}u;
const TEAMS = 256u / TEAM;
var<workgroup> lanes: array<f32, 256>;

fn join(a: f32, b: f32) -> f32 { return {{join}}; }

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.x + group.y * groups.x) * TEAMS;
    if (first >= params.n) { return; }
    let channel = first + local / TEAM;
    let lane = local % TEAM;
    var own = bitcast<f32>(params.init);
    if (channel < params.n) {
        for (var i = lane; i < params.size; i += TEAM) {
            own = join(own, x_in[channel * params.size + i]);
        }
    }
    lanes[local] = own;
    workgroupBarrier();
    for (var half = TEAM / 2u; half > 0u; half /= 2u) {
        if (lane < half) { lanes[local] = join(lanes[local], lanes[local + half]); }
        workgroupBarrier();
    }
    if (lane == 0u && channel < params.n) {
        let best = lanes[local];
        y_out[channel] = narrow({{finish}});
    }
}
