// One invocation for each column of each head's state: columns do not meet.
struct Params {
    n: u32, heads: u32, q_heads: u32, length: u32,
    dk: u32, dv: u32, decay_per: u32, beta_per: u32,
    scale: f32, delta: u32, unused: vec2<u32>,
}

{{bindings}}

{{functions}}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let column = i % params.dv;
    let lane = i / params.dv;
    let head = lane % params.heads;
    let start = lane * params.dk * params.dv + column;
    for (var d = 0u; d < params.dk; d++) {
        let at = start + d * params.dv;
        state[at] = {{past}};
    }
    let readers = params.q_heads / params.heads;
    for (var t = 0u; t < params.length; t++) {
        let row = lane / params.heads * params.length + t;
        let own = row * params.heads + head;
        var change = v_in[own * params.dv + column];
        for (var d = 0u; d < params.dk; d++) {
            let at = start + d * params.dv;
            let kept = state[at] * {{gate}};
            state[at] = kept;
            if (params.delta == 1u) { change -= kept * k_in[own * params.dk + d]; }
        }
        change *= {{share}};
        for (var d = 0u; d < params.dk; d++) {
            state[start + d * params.dv] += k_in[own * params.dk + d] * change;
        }
        for (var r = 0u; r < readers; r++) {
            let reader = row * params.q_heads + head * readers + r;
            var value = 0.0;
            for (var d = 0u; d < params.dk; d++) {
                value += params.scale * q_in[reader * params.dk + d] * state[start + d * params.dv];
            }
            y_out[reader * params.dv + column] = {{y}};
        }
    }
    for (var d = 0u; d < params.dk; d++) {
        let last = state[start + d * params.dv];
        state[start + d * params.dv] = {{last}};
    }
}
