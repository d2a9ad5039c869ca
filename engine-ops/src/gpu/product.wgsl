// {{rows}} × {{cols}} elements of a product a workgroup, {{each}} an invocation, {{terms}} terms at a time through workgroup memory; what
// comes next is on its way to registers meanwhile. The operator says what is multiplied: `items` products of so many tiles down and
// across (`params.down`, `params.across`); of each, by `operands`, how many terms it has; and vectors of four elements of the operands,
// which are 0 from a term on. What they are beside the product does not matter.

// For each term four neighbouring rows (columns) in one vector. One vector of padding a line spreads the banks. Terms are written out, so
// that their bounds are known before the shader runs.
var<workgroup> left_tile: array<array<vec4<{{T}}>, {{left_line}}>, {{terms}}>;
var<workgroup> right_tile: array<array<vec4<{{T}}>, {{right_line}}>, {{terms}}>;

@compute @workgroup_size({{invocations}})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let all = tile / (params.down * params.across);
    if (all >= items() * {{parts}}) { return; }
    let within = tile % (params.down * params.across);
    let row0 = within / params.across * {{rows}}u;
    let col0 = within % params.across * {{cols}}u;
    let item = all / {{parts}};
    let at = operands(item);
    let first = {{first}};
    let end = {{end}};

    // Blocks of 4 × 8 invocations: what they read of both operands lies close together.
    let block = local / 32u;
    let lo = block % {{blocks}}u * {{wide}}u + local % {{wide}}u;
    let hi = block / {{blocks}}u * {{high}}u + local % 32u / {{wide}}u;
{{places}}
    for (var k0 = first; k0 < end; k0 += {{terms}}u) {
{{store}}
        workgroupBarrier();
{{load}}
{{multiply}}
        workgroupBarrier();
    }
{{put}}
}
