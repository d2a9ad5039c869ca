// One workgroup eliminates one matrix, in a copy of it.
struct Params { count: u32, n: u32 }

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

{{functions}}

var<workgroup> best: u32;

// The row, from the k-th on, whose element in column k is the largest; one that is not a number comes before all others.
fn pivot_row(base: u32, k: u32) -> u32 {
    var found = k;
    var most = 0.0;
    for (var row = k; row < params.n; row++) {
        let size = abs(m[base + row * params.n + k]);
        if (is_nan(size)) { return row; }
        if (size >= most) {
            most = size;
            found = row;
        }
    }
    return found;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let which = group.x + group.y * groups.x;
    if (which >= params.count) { return; }
    let n = params.n;
    let base = which * n * n;
    for (var i = lane; i < n * n; i += 64u) { m[base + i] = x[base + i]; }
    var product = 1.0;
    var singular = false;
    for (var k = 0u; k < n; k++) {
        storageBarrier();
        if (lane == 0u) { best = pivot_row(base, k); }
        workgroupBarrier();
        let other = best;
        if (other != k) {
            for (var column = k + lane; column < n; column += 64u) {
                let upper = m[base + k * n + column];
                m[base + k * n + column] = m[base + other * n + column];
                m[base + other * n + column] = upper;
            }
            product = -product;
        }
        storageBarrier();
        let pivot = m[base + k * n + k];
        if (!singular) { product *= pivot; }
        singular = singular || pivot == 0.0;
        let below = n - k - 1u;
        if (!singular) {
            for (var i = lane; i < below * below; i += 64u) {
                let row = base + (k + 1u + i / below) * n;
                let column = k + 1u + i % below;
                m[row + column] -= m[row + k] / pivot * m[base + k * n + column];
            }
        }
    }
    if (lane == 0u) { y[which] = {{y}}; }
}
