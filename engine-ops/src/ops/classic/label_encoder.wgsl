struct Params { n: u32, width: u32, keys: u32 }

@group(0) @binding(0) var<storage, read> x: array<{{word}}>;
@group(0) @binding(1) var<storage, read> keys: array<{{word}}>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read> fallback: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;
@group(0) @binding(5) var<uniform> params: Params;

{{functions}}

// Both zeros are one.
fn bits(a: f32) -> u32 { return select(bitcast<u32>(a), 0u, (bitcast<u32>(a) & 0x7fffffffu) == 0u); }
fn same(a: {{word}}, b: {{word}}) -> bool { return {{same}}; }

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let word = i % params.width;
    let own = x[i / params.width];
    var value = fallback[word];
    // The last of equal keys counts.
    for (var k = 0u; k < params.keys; k++) {
        if (same(own, keys[k])) { value = values[k * params.width + word]; }
    }
    y[i] = value;
}
