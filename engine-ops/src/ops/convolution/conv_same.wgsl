// One tap, where each output lies as its input does: four outputs are one vector of a channel.
fn right_place(at: Operands, col: u32) -> u32 {
    let c = min(col, cols() - 4u);
    return (image_at(at, c) + c % params.outputs) / 4u;
}

fn right(place: u32, k: u32, end: u32) -> vec4<{{T}}> {
    if (k < end) { return x_in[place + k * (plane() / 4u)]; }
    return vec4<{{T}}>();
}
