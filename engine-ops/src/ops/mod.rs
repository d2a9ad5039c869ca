//! The list. Adding an operator is its `.rs`, its `.wgsl` and two lines in its family's `mod.rs`: the `mod` and the row.

use crate::{OnnxName, OpDef};

pub(crate) mod classic;
pub(crate) mod convolution;
pub(crate) mod creation;
pub(crate) mod elementwise;
pub(crate) mod flow;
pub(crate) mod fused;
pub(crate) mod image;
pub(crate) mod movement;
pub(crate) mod op_name;
pub(crate) mod product;
pub(crate) mod reduction;
pub(crate) mod text;

/// The families of operators.
const FAMILIES: [&[&OpDef]; 11] = [
    elementwise::ROWS,
    fused::ROWS,
    reduction::ROWS,
    product::ROWS,
    convolution::ROWS,
    image::ROWS,
    movement::ROWS,
    creation::ROWS,
    flow::ROWS,
    text::ROWS,
    classic::ROWS,
];

/// Every operator, by family.
pub static TABLE: &[&OpDef] = &joined::<{ rows() }>();

const fn rows() -> usize {
    let (mut rows, mut family) = (0, 0);
    while family < FAMILIES.len() {
        rows += FAMILIES[family].len();
        family += 1;
    }
    rows
}

const fn joined<const N: usize>() -> [&'static OpDef; N] {
    let mut joined = [FAMILIES[0][0]; N];
    let (mut at, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut row = 0;
        while row < FAMILIES[family].len() {
            joined[at] = FAMILIES[family][row];
            (at, row) = (at + 1, row + 1);
        }
        family += 1;
    }
    joined
}

/// The operator of this name and version.
pub fn lookup(name: &str, version: u16) -> Option<&'static OpDef> {
    TABLE.iter().copied().find(|def| def.name == name && def.version == version)
}

/// The operator that an ONNX node imports as one to one: same operands, attributes, results.
pub fn lookup_onnx(domain: &str, name: &str, opset: i64) -> Option<&'static OpDef> {
    let matches =
        |o: &OnnxName| o.domain == domain && o.name == name && (o.since..=o.until).contains(&opset);
    TABLE.iter().copied().find(|def| def.onnx.iter().any(matches))
}
