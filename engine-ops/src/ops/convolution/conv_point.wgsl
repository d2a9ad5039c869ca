// One tap, without padding: four outputs are read at four places of a channel.
fn right_place(at: Operands, col: u32) -> vec4<u32> {
    let last = vec4<u32>(cols() - 1u);
    let c = min(col + vec4<u32>(0u, 1u, 2u, 3u), last);
    return vec4<u32>(point(at, c.x), point(at, c.y), point(at, c.z), point(at, c.w));
}

fn point(at: Operands, col: u32) -> u32 {
    let i = origin(col % params.outputs);
    return image_at(at, col) + (i.x * params.input.y + i.y) * params.input.z + i.z;
}

fn right(place: vec4<u32>, k: u32, end: u32) -> vec4<{{T}}> {
    if (k < end) {
        let i = place + k * plane();
        return vec4<{{T}}>(x_in[i.x], x_in[i.y], x_in[i.z], x_in[i.w]);
    }
    return vec4<{{T}}>();
}
