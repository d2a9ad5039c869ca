struct Params { rows: u32, width: u32, cycle: u32, step: u32, run: u32, epsilon: f32 }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read> s_in: array<f32>;
{{declarations}}
@group(0) @binding({{params}}) var<uniform> params: Params;

{{functions}}

const TEAM = 128u;
var<workgroup> partial: array<f32, TEAM>;

// The sum of what every invocation of the workgroup brings, given to all of them.
fn total(mine: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = mine;
    for (var width = TEAM / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) { partial[lane] += partial[lane + width]; }
    }
    workgroupBarrier();
    return partial[0];
}

// One workgroup for each row.
@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row * params.width;
    var sum = 0.0;
    for (var j = lane; j < params.width; j += TEAM) { sum += x_in[base + j]; }
    let mean = {{mean}};
    var squares = 0.0;
    for (var j = lane; j < params.width; j += TEAM) {
        let x = x_in[base + j] - mean;
        squares += x * x;
    }
    let inverse = 1.0 / sqrt(total(squares, lane) / f32(params.width) + params.epsilon);
    if (lane == 0u) { {{extra}} }
    for (var j = lane; j < params.width; j += TEAM) {
        let x = x_in[base + j];
        let at = row % params.cycle * params.step + j / params.run;
        y_out[base + j] = {{y}};
    }
}
