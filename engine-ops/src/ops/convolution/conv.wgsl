{{head}}

// A matrix product of filters and unrolled input. The input is unrolled while it is loaded.
struct Operands {
    w: u32, x: u32, terms: u32,
    left_along_terms: bool, right_along_terms: bool,
}

fn items() -> u32 {
    return params.images * params.groups;
}

// Filters lie along the terms, the input along the outputs.
fn operands(item: u32) -> Operands {
    let plane = params.input.x * params.input.y * params.input.z;
    let w = item % params.groups * params.filters * params.terms;
    return Operands(w, item * params.channels * plane, params.terms, true, false);
}

fn w_at(start: u32, row: u32, k: u32) -> {{T}} {
    if (row < params.filters && k < params.terms) { return w_in[start + row * params.terms + k]; }
    return {{T}}(0);
}

fn left(at: Operands, row: u32, k: u32) -> vec4<{{T}}> {
    return vec4<{{T}}>(
        w_at(at.w, row, k), w_at(at.w, row + 1u, k), w_at(at.w, row + 2u, k), w_at(at.w, row + 3u, k));
}

// Where the first taps of four neighbouring outputs lie.
struct Place {
    at0: vec3<u32>, at1: vec3<u32>, at2: vec3<u32>, at3: vec3<u32>,
}

fn right_place(col: u32) -> Place {
    return Place(origin(col), origin(col + 1u), origin(col + 2u), origin(col + 3u));
}

fn right(at: Operands, place: Place, k: u32) -> vec4<{{T}}> {
    if (k >= params.terms) { return vec4<{{T}}>(); }
    let kz = params.kernel.z;
    let ky = params.kernel.y;
    let tap = vec3<u32>(k / (kz * ky) % params.kernel.x, k / kz % ky, k % kz);
    let plane = params.input.x * params.input.y * params.input.z;
    let start = at.x + k / (kz * ky * params.kernel.x) * plane;
    return vec4<{{T}}>(
        x_at(start, place.at0, tap), x_at(start, place.at1, tap), x_at(start, place.at2, tap), x_at(start, place.at3, tap));
}

fn put(item: u32, row: u32, col: u32, sum: {{T}}) {
    if (row < params.filters && col < params.outputs) {
        let channel = item % params.groups * params.filters + row;
        let i = (item * params.filters + row) * params.outputs + col;
        y_out[i] = narrow(finish(sum + bias(channel), i));
    }
}

{{product}}
