struct Params {
    n: u32,
    features: u32,
    columns: u32,
    trees: u32,
    nodes: u32,
    votes: u32,
    divisor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> nodes: array<vec4<i32>>;
@group(0) @binding(2) var<storage, read> splits: array<f32>;
@group(0) @binding(3) var<storage, read> roots: array<i32>;
@group(0) @binding(4) var<storage, read> starts: array<i32>;
@group(0) @binding(5) var<storage, read> targets: array<i32>;
@group(0) @binding(6) var<storage, read> votes: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<uniform> params: Params;

{{functions}}

const MISSING = 8;

fn passes(test: i32, value: f32, split: f32) -> bool {
    if (test >= MISSING && is_nan(value)) { return true; }
    let comparison = test & (MISSING - 1);
    // Nothing but inequality holds for what is not a number.
    if (is_nan(value) || is_nan(split)) { return comparison == 5; }
    switch comparison {
        case 0: { return value <= split; }
        case 1: { return value < split; }
        case 2: { return value >= split; }
        case 3: { return value > split; }
        case 4: { return value == split; }
        default: { return value != split; }
    }
}

// The leaf, as -1 less its number, that a row comes to. A walk is over after as many steps as there are nodes.
fn leaf(root: i32, row: u32) -> i32 {
    var at = root;
    for (var step = 0u; step < params.nodes; step++) {
        if (at < 0) { break; }
        let node = nodes[at];
        let value = x[row * params.features + u32(node.x)];
        at = select(node.w, node.z, passes(node.y, value, splits[at]));
    }
    return at;
}

fn joined(all: f32, vote: f32) -> f32 {
    if (is_nan(all)) { return vote; }
    return {{join}};
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 64u;
    if (i >= params.n) { return; }
    let own = i32(i % params.columns);
    var all = nan();
    for (var tree = 0u; tree < params.trees; tree++) {
        let which = leaf(roots[tree], i / params.columns);
        if (which >= 0) { continue; }
        let end = min(u32(starts[-which]), params.votes);
        for (var vote = u32(starts[-1 - which]); vote < end; vote++) {
            if (targets[vote] == own) { all = joined(all, votes[vote]); }
        }
    }
    y[i] = select(all / params.divisor, 0.0, is_nan(all));
}
