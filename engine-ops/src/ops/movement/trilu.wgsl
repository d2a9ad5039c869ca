struct Params { n: u32, rows: u32, columns: u32, width: u32, upper: u32, k: i32 }

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    let element = i / params.width;
    let column = i32(element % params.columns);
    let diagonal = i32(element / params.columns % params.rows) + params.k;
    let kept = select(column <= diagonal, column >= diagonal, params.upper != 0u);
    y[i] = select(0u, x[i], kept);
}
