// {{side}} × {{side}} elements of a product a workgroup, {{each}} × {{each}} an invocation, 16 terms at a time through workgroup memory. The
// operator says what is multiplied: `items` products of so many tiles down and across (`params.down`, `params.across`); of each, by
// `operands`, how many terms it has and along what its operands lie; and elements of the operands, which are 0 outside.

// For each term four neighbouring rows (columns) in one vector. One vector of padding a line spreads the banks.
const LINE: u32 = {{line}}u;
var<workgroup> left_tile: array<vec4<{{T}}>, {{vectors}}>;
var<workgroup> right_tile: array<vec4<{{T}}>, {{vectors}}>;

fn put_row(item: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    put(item, row, col, sums.x);
    put(item, row, col + 1u, sums.y);
    put(item, row, col + 2u, sums.z);
    put(item, row, col + 3u, sums.w);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = group.x + group.y * groups.x;
    let item = tile / (params.down * params.across);
    if (item >= items()) { return; }
    let within = tile % (params.down * params.across);
    let row0 = within / params.across * {{side}}u;
    let col0 = within % params.across * {{side}}u;
    let at = operands(item);

    // Neighbouring invocations load neighbouring addresses, whichever way an operand lies.
    let lo = local % 16u;
    let hi = local / 16u;
    let left_k = select(hi, lo, at.left_along_terms);
    let left_4 = select(lo, hi, at.left_along_terms);
    let right_k = select(hi, lo, at.right_along_terms);
    let right_4 = select(lo, hi, at.right_along_terms);
{{places}}
    for (var k0 = 0u; k0 < at.terms; k0 += 16u) {
{{load}}
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
{{multiply}}
        }
        workgroupBarrier();
    }
{{put}}
}
