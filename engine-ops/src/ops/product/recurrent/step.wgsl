// One step of one direction of a recurrent layer. A workgroup makes one unit of the state of one sequence: its invocations
// share the sums over the inputs and over the state before, gate by gate, and the first one applies the cell.
//
// `state` holds two states in turn (the one before is read, the other written) and the cell, or the state that a GRU has scaled; `extras` holds, where the node has
// them, the biases, the peepholes and the lengths of the sequences, all as words.
struct Params {
    seq: u32,
    batch: u32,
    inputs: u32,
    hidden: u32,
    step: u32,
    reversed: u32,
    // Bits: 1 a state came before, 2 a cell came before, 4 biases, 8 peepholes, 16 lengths, 32 the input gate is the forget
    // gate's complement, 64 Y is wanted, 128 the batch is the first axis, 256 activations are clipped.
    flags: u32,
    dir: u32,
    dirs: u32,
    biases_at: u32,
    peepholes_at: u32,
    lengths_at: u32,
    clip: f32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
    // Function, then the bits of alpha and beta.
    activations: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> r: array<f32>;
@group(0) @binding(3) var<storage, read_write> extras: array<u32>;
@group(0) @binding(4) var<storage, read_write> state: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

const GATES = {{gates}}u;
const WIDTH = 64u;

var<workgroup> over_inputs: array<array<f32, WIDTH>, GATES>;
var<workgroup> over_state: array<array<f32, WIDTH>, GATES>;

fn has(bit: u32) -> bool {
    return (params.flags & bit) != 0u;
}

// By its bits: comparisons with itself are optimised away by some drivers.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// The built-in overflows on some drivers where |x| is large.
fn safe_tanh(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

fn activate(i: u32, value: f32) -> f32 {
    var x = value;
    if (has(256u) && !is_nan(x)) { x = clamp(x, -params.clip, params.clip); }
    let a = bitcast<f32>(params.activations[i].y);
    let b = bitcast<f32>(params.activations[i].z);
    var y = x;
    switch params.activations[i].x {
        case 0u: { y = 1.0 / (1.0 + exp(-x)); }
        case 1u: { y = safe_tanh(x); }
        case 2u: { y = select(x, 0.0, x < 0.0); }
        case 3u: { y = a * x + b; }
        case 4u: { y = select(x, a * x, x < 0.0); }
        case 5u: { return select(0.0, x, x > a && !is_nan(x)); }
        case 6u: { y = a * safe_tanh(b * x); }
        case 7u: { y = clamp(a * x + b, 0.0, 1.0); }
        case 8u: { y = select(x, a * (exp(min(x, 0.0)) - 1.0), x < 0.0); }
        case 9u: { y = x / (1.0 + abs(x)); }
        default: { y = max(x, 0.0) + log(1.0 + exp(-abs(x))); }
    }
    // No choice or bound above may swallow NaN.
    return select(y, x, is_nan(x));
}

fn bias(of_state: u32, gate: u32, unit: u32) -> f32 {
    if (!has(4u)) { return 0.0; }
    let at = (of_state * GATES + gate) * params.hidden + unit;
    return bitcast<f32>(extras[params.biases_at + at]);
}

fn peep(gate: u32, unit: u32, c: f32) -> f32 {
    if (!has(8u)) { return 0.0; }
    return c * bitcast<f32>(extras[params.peepholes_at + gate * params.hidden + unit]);
}

// What the inputs give to a gate, and what the state gives.
fn from_inputs(gate: u32, unit: u32) -> f32 {
    return over_inputs[gate][0] + bias(0u, gate, unit);
}

fn from_state(gate: u32, unit: u32) -> f32 {
    return over_state[gate][0] + bias(1u, gate, unit);
}

fn sum(gate: u32, unit: u32) -> f32 {
    return from_inputs(gate, unit) + from_state(gate, unit);
}

// The new state of a unit; `c_at` is where its cell lies.
fn cell(unit: u32, h: f32, c_at: u32) -> f32 {
    {{cell}}
}

// Stores the new state, and the result of the step.
fn store(unit: u32, b: u32, h: f32, running: bool, t: u32, row: u32) {
    let hidden = params.hidden;
    let after = (((params.step + 1u) % 2u) * params.batch + b) * hidden;
    state[after + unit] = h;
    if (has(64u)) {
        let lane = select((t * params.dirs + params.dir) * params.batch + b, row * params.dirs + params.dir, has(128u));
        y[lane * hidden + unit] = select(0.0, h, running);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let unit = group.x;
    let b = group.y;
    let hidden = params.hidden;
    var length = params.seq;
    if (has(16u)) { length = min(extras[params.lengths_at + b], params.seq); }
    let running = params.step < length;
    let t = select(params.step, length - 1u - params.step, running && params.reversed != 0u);
    let row = select(t * params.batch + b, b * params.seq + t, has(128u));

    let cells = params.batch * hidden;
    let before = (params.step % 2u) * cells + b * hidden;

    var ins: array<f32, GATES>;
    var sts: array<f32, GATES>;
    for (var k = local.x; k < params.inputs; k += WIDTH) {
        let value = x[row * params.inputs + k];
        for (var g = 0u; g < GATES; g++) {
            ins[g] += value * w[((params.dir * GATES + g) * hidden + unit) * params.inputs + k];
        }
    }
    if (params.step > 0u || has(1u)) {
        for (var k = local.x; k < hidden; k += WIDTH) {
            let value = state[before + k];
            for (var g = 0u; g < GATES; g++) {
                sts[g] += {{value}} * r[((params.dir * GATES + g) * hidden + unit) * hidden + k];
            }
        }
    }
    for (var g = 0u; g < GATES; g++) {
        over_inputs[g][local.x] = ins[g];
        over_state[g][local.x] = sts[g];
    }
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local.x < half) {
            for (var g = 0u; g < GATES; g++) {
                over_inputs[g][local.x] += over_inputs[g][local.x + half];
                over_state[g][local.x] += over_state[g][local.x + half];
            }
        }
    }
    if (local.x != 0u) { return; }

    let c_at = 2u * cells + b * hidden + unit;
    if (GATES == 4u && params.step == 0u && !has(2u)) { state[c_at] = 0.0; }
    var h = 0.0;
    if (params.step > 0u || has(1u)) { h = state[before + unit]; }
    if (running) { h = cell(unit, h, c_at); }
    {{end}}
}
