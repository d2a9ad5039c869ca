struct Params { rows: u32, along: u32, inner: u32, exclusive: u32, backwards: u32 }

@group(0) @binding(0) var<storage, read> x_in: array<{{word}}>;
@group(0) @binding(1) var<storage, read_write> y_out: array<{{word}}>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

// One invocation for each position beside the axis.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = gid.x + gid.y * groups.x * 64u;
    if (row >= params.rows) { return; }
    let start = row / params.inner * params.along * params.inner + row % params.inner;
    var sum: {{word}} = {{zero}};
    for (var step = 0u; step < params.along; step++) {
        let at = start + params.inner * select(step, params.along - 1u - step, params.backwards == 1u);
        let next = x_in[at];
        let with_next = {{add}};
        y_out[at] = select({{with}}, {{sum}}, params.exclusive == 1u);
        sum = with_next;
    }
}
