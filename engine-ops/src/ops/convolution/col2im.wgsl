// One invocation for each pixel, which adds up its places in all blocks, those of the first elements of blocks first. An axis is
// image, block, dilation, stride; pad, count.
struct Params { n: u32, axes: u32, block: u32, count: u32, by: array<vec4<u32>, {{words}}> }

@group(0) @binding(0) var<storage, read> x_in: array<f32>;
@group(0) @binding(1) var<storage, read_write> y_out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

{{functions}}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = gid.x + gid.y * groups.x * 256u;
    if (i >= params.n) { return; }
    var pixels = 1u;
    for (var a = 0u; a < params.axes; a++) { pixels *= params.by[2u * a].x; }
    let plane = i / pixels;
    var sum = 0.0;
    for (var inside = 0u; inside < params.block; inside++) {
        var pixel = i % pixels;
        var element = inside;
        var column = 0u;
        var stride = 1u;
        var there = true;
        for (var back = 0u; back < params.axes; back++) {
            let a = params.axes - 1u - back;
            let size = params.by[2u * a];
            let more = params.by[2u * a + 1u];
            let place = pixel % size.x + more.x;
            let shift = element % size.y * size.z;
            let reached = place - min(shift, place);
            there = there && (shift <= place) && (reached % size.w == 0u) && (reached / size.w < more.y);
            column += reached / size.w * stride;
            stride *= more.y;
            pixel = pixel / size.x;
            element = element / size.y;
        }
        if (there) { sum += x_in[(plane * params.block + inside) * params.count + column]; }
    }
    y_out[i] = {{y}};
}
