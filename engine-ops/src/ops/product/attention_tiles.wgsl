// 64 queries of a head a workgroup, against 64 keys at a time: scores, their powers of e, and what these make of the values. An invocation
// has the scores of 4 × 4 pairs and 4 × 4 elements of each 64 columns of the result. Earlier results are brought to the new largest
// score when it grows. What is multiplied next is on its way to registers meanwhile.
struct Params {
    heads_all: u32, heads: u32, sharing: u32, queries: u32,
    keys: u32, size: u32, width: u32, zero_nan: u32,
    {{chain}}
}

@group(0) @binding(0) var<storage, read> q_in: array<{{q_element}}>;
@group(0) @binding(1) var<storage, read> k_in: array<{{k_element}}>;
@group(0) @binding(2) var<storage, read> v_in: array<{{v_element}}>;
@group(0) @binding({{output}}) var<storage, read_write> y_out: array<f32>;
@group(0) @binding({{uniform}}) var<uniform> params: Params;

{{prelude}}
{{finish}}

// Where the rows of a head begin.
struct Operands { q: u32, k: u32, v: u32 }

{{loaders}}

// Vectors of 4 queries (keys, columns), one line a term (key). One vector of padding a line spreads the banks.
var<workgroup> left_tile: array<array<vec4<f32>, 17>, 16>;
var<workgroup> right_tile: array<array<vec4<f32>, 17>, 16>;
var<workgroup> powers: array<array<vec4<f32>, 17>, 64>;
var<workgroup> folded: array<array<vec4<f32>, 16>, 16>;

fn is_lowest(x: f32) -> bool { return bitcast<u32>(x) == 0xff800000u; }

// e to the power of a score relative to the largest. What is not a number stays so, and masks may be the smallest number
// there is, so that −∞ is told by its bits alone.
fn power_of(score: f32, largest: f32) -> f32 {
    if (is_nan(score)) { return score; }
    if (is_lowest(score)) { return 0.0; }
    if (is_inf(score)) { return nan(); }
    return exp(score - largest);
}

fn powers_of(scores: vec4<f32>, largest: f32) -> vec4<f32> {
    return vec4<f32>(
        power_of(scores.x, largest), power_of(scores.y, largest),
        power_of(scores.z, largest), power_of(scores.w, largest));
}

fn larger(a: f32, b: f32) -> f32 { return select(a, b, b > a); }

fn most_of(scores: vec4<f32>) -> f32 {
    return larger(larger(scores.x, scores.y), larger(scores.z, scores.w));
}

fn sum_of(x: vec4<f32>) -> f32 { return x.x + x.y + x.z + x.w; }

// Scores of four keys from `key` on; those beyond the last are the lowest.
fn scores_of(products: vec4<f32>, row: u32, key: u32) -> vec4<f32> {
    let lowest = vec4<f32>(-infinity());
    if (key >= params.keys) { return lowest; }
    let i = row * params.keys + key;
    var scores = lowest;
    {{scores}}
    return scores;
}

// The sum of all values in a column times 0: 0, but for what is not finite.
fn nothing_of(at: Operands, column: u32) -> f32 {
    for (var j = 0u; j < params.keys; j++) {
        let v = value_one(at, j, column);
        if ((bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u) { return nan(); }
    }
    return 0.0;
}

fn put(at: Operands, row: u32, col: u32, result: f32, sum: f32) {
    if (col >= params.width) { return; }
    var y = nan();
    if (!is_nan(sum) && sum > 0.0) {
        y = result / sum;
    } else if (params.zero_nan != 0u) {
        y = nothing_of(at, col);
    }
    y_out[row * params.width + col] = y;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let down = (params.queries + 63u) / 64u;
    let head = tile / down;
    if (head >= params.heads_all) { return; }
    let own = params.heads / params.sharing;
    let source = head / params.heads * own + head % params.heads / params.sharing;
    let at = Operands(
        head * params.queries * params.size,
        source * params.keys * params.size,
        source * params.keys * params.width);
    let row0 = tile % down * 64u;

    let lo = local / 32u % 2u * 8u + local % 8u;
    let hi = local / 64u * 4u + local % 32u / 8u;
    // The first row of the scores that this invocation has.
    let row = head * params.queries + row0 + hi * 4u;
    let term = local % 4u * 4u;
    let side = local / 4u;
    let query_at = query_place(at, row0 + side);
    let line = local / 16u;
    let column = local % 16u;
    var most = vec4<f32>(-infinity());
    var sum = vec4<f32>();
{{results}}
    var key_at = key_place(at, side);
    var q = query(query_at, term, params.size);
    var k = key(key_at, term, params.size);
    for (var first = 0u; first < params.keys; first += 64u) {
        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        for (var k0 = 0u; k0 < params.size; k0 += 16u) {
            workgroupBarrier();
            left_tile[term][side / 4u][side % 4u] = q.x;
            left_tile[term + 1u][side / 4u][side % 4u] = q.y;
            left_tile[term + 2u][side / 4u][side % 4u] = q.z;
            left_tile[term + 3u][side / 4u][side % 4u] = q.w;
            right_tile[term][side / 4u][side % 4u] = k.x;
            right_tile[term + 1u][side / 4u][side % 4u] = k.y;
            right_tile[term + 2u][side / 4u][side % 4u] = k.z;
            right_tile[term + 3u][side / 4u][side % 4u] = k.w;
            workgroupBarrier();
            q = query(query_at, k0 + 16u + term, params.size);
            k = key(key_at, k0 + 16u + term, params.size);
{{multiply}}
        }
        key_at = key_place(at, first + 64u + side);
        q = query(query_at, term, params.size);
        k = key(key_at, term, params.size);
        s0 = scores_of(s0, row, first + lo * 4u);
        s1 = scores_of(s1, row + 1u, first + lo * 4u);
        s2 = scores_of(s2, row + 2u, first + lo * 4u);
        s3 = scores_of(s3, row + 3u, first + lo * 4u);
        folded[lo][hi] = vec4<f32>(most_of(s0), most_of(s1), most_of(s2), most_of(s3));
        workgroupBarrier();
        var largest = most;
        for (var j = 0u; j < 16u; j++) {
            let other = folded[j][hi];
            largest = select(largest, other, other > largest);
        }
        let kept = vec4<f32>(
            power_of(most.x, largest.x), power_of(most.y, largest.y),
            power_of(most.z, largest.z), power_of(most.w, largest.w));
        most = largest;
        let p0 = powers_of(s0, largest.x);
        let p1 = powers_of(s1, largest.y);
        let p2 = powers_of(s2, largest.z);
        let p3 = powers_of(s3, largest.w);
        sum = sum * kept + vec4<f32>(sum_of(p0), sum_of(p1), sum_of(p2), sum_of(p3));
        powers[lo * 4u][hi] = vec4<f32>(p0.x, p1.x, p2.x, p3.x);
        powers[lo * 4u + 1u][hi] = vec4<f32>(p0.y, p1.y, p2.y, p3.y);
        powers[lo * 4u + 2u][hi] = vec4<f32>(p0.z, p1.z, p2.z, p3.z);
        powers[lo * 4u + 3u][hi] = vec4<f32>(p0.w, p1.w, p2.w, p3.w);
{{keep}}
        for (var k0 = 0u; k0 < 64u; k0 += 16u) {
{{values}}
        }
    }
    // Each invocation has summed over its own keys.
    workgroupBarrier();
    folded[lo][hi] = sum;
    workgroupBarrier();
    sum = vec4<f32>();
    for (var j = 0u; j < 16u; j++) { sum += folded[j][hi]; }
{{put}}
}
