// The sizes of the kernel are part of the text, so that the division by them is cheap.
const KERNEL = vec3<u32>({{kernel}});

// Of four neighbouring outputs, where the first tap lies: as an index, and along each axis. What lies before the input wraps to far behind
// it.
struct Place { i: vec4<u32>, z: vec4<u32>, y: vec4<u32>, x: vec4<u32> }

fn right_place(at: Operands, col: u32) -> Place {
    let last = vec4<u32>(cols() - 1u);
    let c = min(col + vec4<u32>(0u, 1u, 2u, 3u), last);
    var place = Place();
    for (var j = 0u; j < 4u; j++) {
        let first = origin(c[j] % params.outputs) - params.before.xyz;
        place.i[j] = image_at(at, c[j]) + (first.x * params.input.y + first.y) * params.input.z + first.z;
        place.z[j] = first.x;
        place.y[j] = first.y;
        place.x[j] = first.z;
    }
    return place;
}

fn right(place: Place, k: u32, end: u32) -> vec4<{{T}}> {
    if (k >= end) { return vec4<{{T}}>(); }
    let tap = vec3<u32>(k / (KERNEL.z * KERNEL.y) % KERNEL.x, k / KERNEL.z % KERNEL.y, k % KERNEL.z) * params.dilation.xyz;
    let channel = k / (KERNEL.x * KERNEL.y * KERNEL.z);
    let i = place.i + channel * plane() + (tap.x * params.input.y + tap.y) * params.input.z + tap.z;
    let z = place.z + tap.x < vec4<u32>(params.input.x);
    let y = place.y + tap.y < vec4<u32>(params.input.y);
    let x = place.x + tap.z < vec4<u32>(params.input.z);
    let inside = z & y & x;
    // What is read outside is dropped; where it would lie outside of everything another element is read.
    return select(vec4<{{T}}>(), vec4<{{T}}>(x_in[i.x], x_in[i.y], x_in[i.z], x_in[i.w]), inside);
}
