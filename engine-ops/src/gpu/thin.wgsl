// A few rows of a product, {{columns}} columns a workgroup. The matrix on the right is read once, several lines of it on their way at
// once; invocations that share the columns take terms in turn, and add up in halves.
var<workgroup> kept: array<vec4<{{T}}>, {{kept}}>;

@compute @workgroup_size({{invocations}})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let all = group.x + group.y * groups.x;
    let blocks = (cols() + {{columns}}u - 1u) / {{columns}}u;
    if (all >= items() * blocks) { return; }
    let item = all / blocks;
    let at = operands(item);
    let end = at.terms;
    let slice = local / {{lanes}}u;
    let first = all % blocks * {{columns}}u;
    let col = first + local % {{lanes}}u * {{line}}u;
{{places}}
    for (var k = slice * {{each}}u; k < end; k += {{round}}u) {
{{multiply}}
    }
{{put}}
}
