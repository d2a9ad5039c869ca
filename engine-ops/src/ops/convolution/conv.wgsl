{{head}}

// A matrix product of filters and unrolled input, one for each group, over the outputs of all images. The input is unrolled while it is
// loaded.
struct Operands { w: u32, x: u32, terms: u32 }

fn items() -> u32 { return params.groups; }
fn rows() -> u32 { return params.filters; }
fn cols() -> u32 { return params.images * params.outputs; }

fn operands(item: u32) -> Operands {
    return Operands(item * params.filters * params.terms, item * params.channels, params.terms);
}

// Where the channels of an image begin that are multiplied.
fn image_at(at: Operands, col: u32) -> u32 {
    return (col / params.outputs * params.groups * params.channels + at.x) * plane();
}

{{loaders}}

fn put_one(item: u32, row: u32, col: u32, sum: {{T}}) {
    if (col >= cols()) { return; }
    let channel = item * params.filters + row;
    let image = col / params.outputs;
    let i = (image * params.groups * params.filters + channel) * params.outputs + col % params.outputs;
    {{write}}
}

fn put(item: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    if (row >= params.filters) { return; }
{{put}}
}

{{product}}
